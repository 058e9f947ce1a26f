//! Attributes of XML elements, and the namespaces the elements are of.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::events::BytesStart;

/// Attributes of one element; real ones have up to about twenty.
const ATTRIBUTE_COUNT_MAX: usize = 128;

/// Namespace of the elements of TTML1 and TTML2.
const DEFAULT_NAMESPACE: &str = "http://www.w3.org/ns/ttml";

/// Namespaces of TTML's elements: today's, and those of drafts that files still use.
const NAMESPACES: [&str; 4] = [
    DEFAULT_NAMESPACE,
    "http://www.w3.org/2006/10/ttaf1",
    "http://www.w3.org/2006/04/ttaf1",
    "http://www.w3.org/2004/11/ttaf1",
];

/// Attributes of one element, values normalised.
pub(super) struct Attributes<'e> {
    /// Prefix, local name and value.
    list: Vec<(Option<&'e str>, &'e str, Cow<'e, str>)>,
}

impl<'e> Attributes<'e> {
    pub(super) fn new(element: &'e BytesStart<'_>) -> Result<Self, Cow<'static, str>> {
        let mut list = Vec::new();
        for attribute in element.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let (name, prefix) = attribute.key.decompose();
            let (name, prefix) = (name.into_inner(), prefix.map(|prefix| prefix.into_inner()));
            if list.len() >= ATTRIBUTE_COUNT_MAX {
                return Err("element has too many attributes".into());
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| error.to_string())?;
            list.push((prefix, name, value));
        }
        Ok(Self { list })
    }

    /// An attribute without prefix.
    pub(super) fn own(&self, name: &str) -> Option<&str> {
        self.list
            .iter()
            .find(|(prefix, n, _)| prefix.is_none() && *n == name)
            .map(|(_, _, value)| value.as_ref())
    }

    /// An attribute of the XML namespace, whose prefix is always the same.
    pub(super) fn xml(&self, name: &str) -> Option<&str> {
        self.list
            .iter()
            .find(|(prefix, n, _)| *prefix == Some("xml") && *n == name)
            .map(|(_, _, value)| value.as_ref())
    }

    /// An attribute of whatever prefix: that of TTML's parameters and styles differs by edition.
    pub(super) fn any(&self, name: &str) -> Option<&str> {
        self.list
            .iter()
            .find(|(prefix, n, _)| !is_reserved(*prefix) && *n == name)
            .map(|(_, _, value)| value.as_ref())
    }

    /// Attributes that may be style properties.
    pub(super) fn styling(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list
            .iter()
            .filter(|(prefix, _, _)| !is_reserved(*prefix))
            .map(|(_, name, value)| (*name, value.as_ref()))
    }
}

/// Whether XML itself says what attributes of this prefix mean.
fn is_reserved(prefix: Option<&str>) -> bool {
    matches!(prefix, Some("xml" | "xmlns"))
}

/// Namespace declarations in scope, innermost last.
///
/// Kept here, since the XML reader's own refuses documents that give the XML namespace a second prefix, which players
/// read.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// Depth of the element that declares, prefix (empty for none) and name.
    bindings: Vec<(usize, String, String)>,
}

impl Namespaces {
    /// Declarations in scope at once; real documents have about ten.
    const BINDING_COUNT_MAX: usize = 128;

    /// Adds the declarations of an element at `depth`; those of elements that have ended are forgotten.
    pub(super) fn declare(&mut self, depth: usize, attributes: &Attributes<'_>) -> Result<(), &'static str> {
        while self
            .bindings
            .last()
            .is_some_and(|(declared_at, _, _)| *declared_at >= depth)
        {
            self.bindings.pop();
        }
        for (prefix, name, value) in &attributes.list {
            let declared = match prefix {
                Some("xmlns") => *name,
                None if *name == "xmlns" => "",
                _ => continue,
            };
            if self.bindings.len() >= Self::BINDING_COUNT_MAX {
                return Err("too many namespaces are declared");
            }
            self.bindings.push((depth, declared.to_owned(), value.to_string()));
        }
        Ok(())
    }

    /// The namespace of an element. Documents without any exist; their elements are taken for TTML's. A prefix that is
    /// not declared means no namespace that is known.
    pub(super) fn resolve(&self, prefix: &str) -> &str {
        let declared = self.bindings.iter().rev().find(|(_, declared, _)| declared == prefix);
        match declared {
            Some((_, _, name)) => name,
            None if prefix.is_empty() => DEFAULT_NAMESPACE,
            None => "",
        }
    }
}

/// What tells that a document has pictures for text (IMSC1 image profile, SMPTE-TT).
pub(super) fn image(name: &str, namespace: &str, attributes: &Attributes<'_>) -> Option<&'static str> {
    let is_image_profile = |profiles: &str| {
        profiles
            .split_ascii_whitespace()
            .any(|profile| profile.contains("/imsc1") && profile.ends_with("/image"))
    };
    let designators = ["profile", "contentProfiles", "processorProfiles", "use"];
    if name == "image" && (is_ttml(namespace) || namespace.contains("smpte-tt")) {
        Some("image element")
    } else if attributes.any("backgroundImage").is_some() {
        Some("backgroundImage attribute")
    } else if designators
        .into_iter()
        .filter_map(|name| attributes.any(name))
        .any(is_image_profile)
    {
        Some("image profile")
    } else {
        None
    }
}

pub(super) fn is_ttml(namespace: &str) -> bool {
    NAMESPACES.contains(&namespace)
}
