//! What served bytes are, whoever asked: container and protection. HLS and DASH over one form share every URL.

use crate::codec::{Codec, MediaKind};
use crate::track::TrackDescription;

/// Container × protection of served media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// CMAF fragments, clear (ISO/IEC 23000-19).
    Cmaf,
    /// MPEG-TS segments (packed audio for sound alone), clear (RFC 8216bis 3.1.1, 3.1.3).
    Ts,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 2] = [Form::Cmaf, Form::Ts];

    /// The form's part of a URL.
    pub fn name(self) -> &'static str {
        match self {
            Form::Cmaf => "cmaf",
            Form::Ts => "ts",
        }
    }

    /// The form a URL names.
    pub fn from_name(name: &str) -> Option<Form> {
        Form::ALL.into_iter().find(|form| form.name() == name)
    }

    /// Whether this form can carry a track, else the reason why it is left out.
    pub fn carries(self, track: &TrackDescription) -> Result<(), &'static str> {
        match (self, track.codec) {
            (Form::Cmaf, Codec::Vp8) => Err("VP8 in CMAF is played by no player"),
            (Form::Cmaf, _) => Ok(()),
            // Text travels as WebVTT segments beside either form.
            (Form::Ts, codec) if codec.kind() == MediaKind::Text => Ok(()),
            // Sound may travel inside the video's segments or alone, so it must be fit for both.
            (Form::Ts, codec) if codec.kind() == MediaKind::Audio => {
                crate::mpegts::mux::carries(track).and_then(|()| crate::mpegts::packed_audio::carries(track))
            }
            (Form::Ts, _) => crate::mpegts::mux::carries(track),
        }
    }
}
