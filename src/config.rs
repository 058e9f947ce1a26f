//! `headwater.toml`: one file, a section a role, unknown keys are errors.

use std::path::Path;

use anyhow::Context;

/// The whole file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// The data plane.
    pub origin: origin::config::Section,
    /// The transcoder.
    #[cfg(feature = "transcode")]
    pub transcode: transcoder::config::Section,
    /// The transcoder, which this build has not.
    #[cfg(not(feature = "transcode"))]
    pub transcode: toml::Table,
    /// The control plane.
    pub control: Control,
}

/// Sections of the control plane.
#[cfg(feature = "control")]
pub type Control = crate::licences::Control;

/// A program without it passes them over.
#[cfg(not(feature = "control"))]
pub type Control = serde::de::IgnoredAny;

/// Reads `path`.
pub fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}
