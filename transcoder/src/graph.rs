//! A pipeline as data: elements with their properties. Pure; `pipeline` alone turns it into GStreamer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One element and what it is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// Name of its factory: `x264enc`.
    pub factory: String,
    /// Properties and their values, as GStreamer writes them.
    pub properties: Vec<(String, String)>,
}

impl Element {
    /// An element as it comes.
    pub fn new(factory: &str) -> Element {
        Element {
            factory: factory.to_owned(),
            properties: Vec::new(),
        }
    }

    /// The element with one more property.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Element {
        self.properties.push((name.to_owned(), value.to_string()));
        self
    }

    /// What lets only `caps` pass.
    pub fn caps(caps: impl fmt::Display) -> Element {
        Element::new("capsfilter").with("caps", caps)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.factory)?;
        self.properties
            .iter()
            .try_for_each(|(name, value)| write!(f, " {name}=\"{value}\""))
    }
}

/// Elements one after the other, in the notation of `gst-launch-1.0`; for people.
pub fn describe(chain: &[Element]) -> String {
    let elements: Vec<String> = chain.iter().map(Element::to_string).collect();
    elements.join(" ! ")
}
