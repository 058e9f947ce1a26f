//! `headwater.toml`: one file, a section a role, unknown keys are errors.

use std::path::Path;

use anyhow::Context;

/// The whole file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// The data plane; `None` in the file of a node that has another role.
    pub origin: Option<origin::config::Section>,
    /// The transcoder.
    #[cfg(feature = "transcode")]
    pub transcode: transcoder::config::Section,
    /// The transcoder, which this build has not.
    #[cfg(not(feature = "transcode"))]
    pub transcode: toml::Table,
    /// The control plane; `None` in the file of a node that has another role.
    pub control: Option<Control>,
}

/// The control plane: the API's settings, and sections of roles beside it.
#[cfg(feature = "control")]
#[derive(Debug, Default, serde::Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Control {
    /// The API.
    pub api: control_api::config::Section,
    /// Licences.
    pub licences: Option<crate::licences::Section>,
}

#[cfg(feature = "control")]
impl TryFrom<toml::Table> for Control {
    type Error = toml::de::Error;

    // Not by `flatten`: it would let unknown keys pass.
    fn try_from(mut table: toml::Table) -> Result<Control, toml::de::Error> {
        let licences = table.remove("licences");
        Ok(Control {
            licences: licences.map(toml::Value::try_into).transpose()?,
            api: table.try_into()?,
        })
    }
}

/// A program without it passes them over.
#[cfg(not(feature = "control"))]
pub type Control = serde::de::IgnoredAny;

/// Reads `path`.
pub fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}
