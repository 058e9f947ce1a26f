//! What served bytes are, whoever asked: container and protection. HLS and DASH over one form share every URL.

use crate::codec::{Codec, MediaKind};
use crate::crypto::ProtectionScheme;
use crate::mpegts::{mux, packed_audio};
use crate::track::TrackDescription;

/// Container × protection of served media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// CMAF fragments, clear (ISO/IEC 23000-19).
    Cmaf,
    /// CMAF fragments under Common Encryption (ISO/IEC 23001-7).
    CmafProtected(ProtectionScheme),
    /// MPEG-TS segments (packed audio for sound alone), clear (RFC 8216bis 3.1.1, 3.1.3).
    Ts,
    /// The same, each segment encrypted as a whole (RFC 8216bis 4.4.4.4, AES-128).
    TsAes128,
    /// The same, samples encrypted inside (SAMPLE-AES).
    TsSampleAes,
}

/// What a form's segments are, whether protected or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentFormat {
    /// CMAF fragments.
    Cmaf,
    /// MPEG-TS and packed audio.
    Ts,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 8] = [
        Form::Cmaf,
        Form::CmafProtected(ProtectionScheme::Cbcs),
        Form::CmafProtected(ProtectionScheme::Cenc),
        Form::CmafProtected(ProtectionScheme::Cens),
        Form::CmafProtected(ProtectionScheme::Cbc1),
        Form::Ts,
        Form::TsAes128,
        Form::TsSampleAes,
    ];

    /// Those without protection.
    pub const CLEAR: [Form; 2] = [Form::Cmaf, Form::Ts];

    /// The form's part of a URL.
    pub fn name(self) -> &'static str {
        match self {
            Form::Cmaf => "cmaf",
            Form::CmafProtected(ProtectionScheme::Cenc) => "cmaf-cenc",
            Form::CmafProtected(ProtectionScheme::Cens) => "cmaf-cens",
            Form::CmafProtected(ProtectionScheme::Cbc1) => "cmaf-cbc1",
            Form::CmafProtected(ProtectionScheme::Cbcs) => "cmaf-cbcs",
            Form::Ts => "ts",
            Form::TsAes128 => "ts-aes128",
            Form::TsSampleAes => "ts-sampleaes",
        }
    }

    /// The form a URL names.
    pub fn from_name(name: &str) -> Option<Form> {
        Form::ALL.into_iter().find(|form| form.name() == name)
    }

    /// What its segments are.
    pub fn format(self) -> SegmentFormat {
        match self {
            Form::Cmaf | Form::CmafProtected(_) => SegmentFormat::Cmaf,
            Form::Ts | Form::TsAes128 | Form::TsSampleAes => SegmentFormat::Ts,
        }
    }

    /// What a content key of this form serves, and no other form does; `None` for the clear ones.
    pub fn key_scheme(self) -> Option<&'static str> {
        match self {
            Form::Cmaf | Form::Ts => None,
            Form::CmafProtected(scheme) => Some(scheme.name()),
            Form::TsAes128 => Some("aes128"),
            Form::TsSampleAes => Some("sampleaes"),
        }
    }

    /// Whether media in this form is encrypted.
    pub fn is_protected(self) -> bool {
        self.key_scheme().is_some()
    }

    /// Whether this form can carry a track, else the reason why it is left out.
    pub fn carries(self, track: &TrackDescription) -> Result<(), &'static str> {
        match (self.format(), track.codec) {
            (SegmentFormat::Cmaf, Codec::Vp8) => Err("VP8 in CMAF is played by no player"),
            (SegmentFormat::Cmaf, _) => Ok(()),
            // Text travels as WebVTT segments beside either form.
            (SegmentFormat::Ts, codec) if codec.kind() == MediaKind::Text => Ok(()),
            // Sound may travel inside the video's segments or alone, so it must be fit for both.
            (SegmentFormat::Ts, codec) if codec.kind() == MediaKind::Audio => {
                mux::carries(track).and_then(|()| packed_audio::carries(track))?;
                match self {
                    Form::TsSampleAes => {
                        mux::carries_encrypted(track).and_then(|()| packed_audio::carries_encrypted(track))
                    }
                    _ => Ok(()),
                }
            }
            (SegmentFormat::Ts, _) => {
                mux::carries(track)?;
                match self {
                    Form::TsSampleAes => mux::carries_encrypted(track),
                    _ => Ok(()),
                }
            }
        }
    }
}
