//! Output control: what a device has to guarantee before it shows a class of tracks, as manifests tell it beforehand.
//! Licences have the last word.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::vault::TrackClass;
use crate::limits::OUTPUT_RULE_COUNT_MAX;

/// `HDCP-LEVEL` of a variant (RFC 8216bis 4.4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum HdcpLevel {
    /// Output needs no protection.
    #[serde(rename = "NONE")]
    None,
    /// HDCP of any version.
    #[serde(rename = "TYPE-0")]
    Type0,
    /// HDCP whose repeaters keep Type 1 content to themselves: 2.2 or later.
    #[serde(rename = "TYPE-1")]
    Type1,
}

impl HdcpLevel {
    /// As HLS writes it.
    pub fn name(self) -> &'static str {
        match self {
            HdcpLevel::None => "NONE",
            HdcpLevel::Type0 => "TYPE-0",
            HdcpLevel::Type1 => "TYPE-1",
        }
    }

    /// The lowest version of HDCP that it allows, as DASH writes it (ISO/IEC 23009-1 5.8.5.14); `None` where none is
    /// needed.
    pub fn version_min(self) -> Option<&'static str> {
        match self {
            HdcpLevel::None => None,
            HdcpLevel::Type0 => Some("1.0"),
            HdcpLevel::Type1 => Some("2.2"),
        }
    }
}

/// An entry of `ALLOWED-CPC`, checked: a KEYFORMAT, a colon, and labels of protection configurations between slashes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AllowedCpc(String);

/// Why an `ALLOWED-CPC` entry is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an ALLOWED-CPC entry like com.example.drm:HW/SW")]
pub struct AllowedCpcError(String);

impl TryFrom<String> for AllowedCpc {
    type Error = AllowedCpcError;

    fn try_from(text: String) -> Result<AllowedCpc, AllowedCpcError> {
        // The draft has labels of A to Z, 0 to 9 and `-`; those of DRM systems in use have small letters and `_` too.
        let is_label = |label: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !label.is_empty() && label.bytes().all(known)
        };
        // KEYFORMATs have colons of their own; a comma would begin another entry, a quote end the string.
        let is_format = |format: &str| {
            let known = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b'/');
            !format.is_empty() && format.bytes().all(known)
        };
        match text.rsplit_once(':') {
            Some((format, labels)) if text.len() <= 256 && is_format(format) && labels.split('/').all(is_label) => {
                Ok(AllowedCpc(text))
            }
            _ => Err(AllowedCpcError(text)),
        }
    }
}

impl AllowedCpc {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a device has to guarantee for one class of tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputRule {
    /// How its output is protected.
    pub hdcp_level: Option<HdcpLevel>,
    /// How robust its key systems are; empty for no demand.
    pub allowed_cpc: Vec<AllowedCpc>,
}

/// What a device has to guarantee, by class of tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct OutputRules(BTreeMap<TrackClass, OutputRule>);

impl OutputRules {
    /// Finds out at start-up what would be wrong with every manifest: more entries than can be told.
    pub fn check(&self) -> Result<(), &'static str> {
        match self
            .0
            .values()
            .all(|rule| rule.allowed_cpc.len() <= OUTPUT_RULE_COUNT_MAX)
        {
            true => Ok(()),
            false => Err("too many entries of allowed_cpc for one class"),
        }
    }

    /// The rule of a class.
    pub fn of(&self, class: TrackClass) -> Option<&OutputRule> {
        self.0.get(&class)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_a_key_format_and_labels() {
        let check = |text: &str, expected: bool| {
            assert_eq!(AllowedCpc::try_from(text.to_owned()).is_ok(), expected, "{text}");
        };
        check("com.example.drm1:SMART-TV/PC", true);
        check("com.apple.streamingkeydelivery:Main/AppleMain", true);
        check("urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed:WIDEVINE_SOFTWARE", true);
        check("com.example", false);
        check("com.example:", false);
        check(":HW", false);
        check("com.example:HW/", false);
        check("com.example:HW,PC", false);
        check("com.exa\"mple:HW", false);
        check("com.exa,mple:HW", false);
        check("com.example:H W", false);
        check("com.example\n:HW", false);
        check(&format!("com.example:{}", "A".repeat(300)), false);
    }

    #[test]
    fn rules_are_read_by_class() {
        let rules: OutputRules = serde_json::from_str(
            r#"{"UHD1": {"hdcp_level": "TYPE-1", "allowed_cpc": ["com.example:HW"]}, "HD": {"hdcp_level": "TYPE-0"}}"#,
        )
        .unwrap();
        assert_eq!(rules.of(TrackClass::Uhd1).unwrap().hdcp_level, Some(HdcpLevel::Type1));
        assert_eq!(rules.of(TrackClass::Hd).unwrap().hdcp_level.unwrap().name(), "TYPE-0");
        assert_eq!(rules.of(TrackClass::Audio), None);
        assert_eq!(rules.check(), Ok(()));
        for wrong in [
            r#"{"UHD": {}}"#,
            r#"{"HD": {"hdcp_level": "TYPE-2"}}"#,
            r#"{"HD": {"hdcp": "TYPE-1"}}"#,
            r#"{"HD": {"allowed_cpc": ["HW"]}}"#,
        ] {
            assert!(serde_json::from_str::<OutputRules>(wrong).is_err(), "{wrong}");
        }
    }
}
