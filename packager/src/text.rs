//! Timed text: WebVTT, SRT, TTML and 3GPP timed text in; WebVTT segments, `wvtt` and `stpp` out.
//!
//! Every source becomes a [`TextTrack`]: cues in WebVTT's terms on one timeline of integer milliseconds. WebVTT knows no
//! finer time; TTML frames and ticks are rounded to the *nearest* millisecond when they are read.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::borrow::Cow;

use bytes::Bytes;

use crate::limits::{CUE_COUNT_MAX, TEXT_SIZE_BYTES_MAX};

mod encoding;
mod join;
mod lines;
mod markup;
pub mod srt;
pub mod stpp;
mod timestamp;
pub mod ttml;
pub mod tx3g;
pub mod webvtt;
pub mod wvtt;

pub use encoding::Encoding;
pub(crate) use timestamp::write as push_timestamp;

/// Latest time a cue may have, in milliseconds: about 2,230 years, so that scaling by 90 stays far inside 64 bits.
pub const TIME_MS_MAX: u64 = 1 << 46;

/// Entries kept in [`Parsed::dropped`]; what comes after is counted only.
const DROPPED_LISTED_MAX: usize = 1_000;

/// One cue, in WebVTT's terms.
///
/// Inside a [`TextTrack`] it can always be written as WebVTT: see [`TextTrack::new`] for what is made of the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cue {
    /// First millisecond at which the cue shows.
    pub start_ms: u64,
    /// First millisecond at which it no longer shows; greater than `start_ms`.
    pub end_ms: u64,
    /// Cue identifier, one line; empty for none.
    pub id: String,
    /// WebVTT cue settings, `name:value` separated by single spaces; empty for none.
    pub settings: String,
    /// WebVTT cue text with its markup and escapes; lines separated by LF, none of them empty.
    pub payload: String,
}

impl Cue {
    /// The value of one cue setting (`line`, `position`, `size`, `align`, `vertical`, `region`).
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .split(' ')
            .find_map(|setting| setting.split_once(':').filter(|(n, _)| *n == name))
            .map(|(_, v)| v)
    }

    /// The identifier of the REGION block the cue is shown in.
    pub fn region(&self) -> Option<&str> {
        self.setting("region")
    }

    /// Whether the cue shows at any instant of `start_ms..end_ms`.
    fn overlaps(&self, start_ms: u64, end_ms: u64) -> bool {
        self.start_ms < end_ms && self.end_ms > start_ms
    }
}

/// A block of a WebVTT file that stands before its cues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderBlock {
    /// CSS of a `STYLE` block, without its first line.
    Style(String),
    /// Settings of a `REGION` block, without its first line.
    Region(String),
}

impl HeaderBlock {
    fn keyword(&self) -> &'static str {
        match self {
            Self::Style(_) => "STYLE",
            Self::Region(_) => "REGION",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Style(text) | Self::Region(text) => text,
        }
    }

    /// What can be written between a block's keyword and the empty line that ends it; `None` when nothing is left.
    fn cleaned(self) -> Option<Self> {
        let clean = |text: String| Some(lines_cleaned(&text, "-- >")).filter(|text| !text.is_empty());
        match self {
            Self::Style(text) => clean(text).map(Self::Style),
            Self::Region(text) => clean(text).map(Self::Region),
        }
    }
}

/// Cues in order of their start, and the blocks every file or segment cut from them begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextTrack {
    header: Vec<HeaderBlock>,
    cues: Vec<Cue>,
}

impl TextTrack {
    /// Orders the cues by start (cues of equal start keep their order) and makes each of them writable as WebVTT.
    ///
    /// A cue that is never shown (`end_ms <= start_ms`) or lies beyond [`TIME_MS_MAX`] is left out. In payloads empty
    /// lines are removed and `-->` is escaped; in identifiers line ends become spaces and `-->` is broken; settings
    /// without a colon are removed. NUL becomes U+FFFD, as a WebVTT parser would read it.
    pub fn new(header: Vec<HeaderBlock>, cues: Vec<Cue>) -> Self {
        let header = header.into_iter().filter_map(HeaderBlock::cleaned).collect();
        let mut cues: Vec<Cue> = cues
            .into_iter()
            .filter(|cue| cue.start_ms < cue.end_ms && cue.end_ms <= TIME_MS_MAX)
            .map(|cue| Cue {
                id: line_cleaned(&cue.id),
                settings: settings_cleaned(&cue.settings),
                payload: lines_cleaned(&cue.payload, "--&gt;"),
                ..cue
            })
            .collect();
        cues.sort_by_key(|cue| cue.start_ms);
        Self { header, cues }
    }

    /// Cues by start.
    pub fn cues(&self) -> &[Cue] {
        &self.cues
    }

    /// STYLE and REGION blocks in the order of the source.
    pub fn header(&self) -> &[HeaderBlock] {
        &self.header
    }

    /// End of the cue that ends last; 0 without cues.
    pub fn end_ms(&self) -> u64 {
        self.cues.iter().map(|cue| cue.end_ms).max().unwrap_or(0)
    }

    /// Cues that show at any instant of `start_ms..end_ms`, by start, with their whole times.
    pub fn window(&self, start_ms: u64, end_ms: u64) -> impl Iterator<Item = &Cue> {
        let upper = self.cues.partition_point(|cue| cue.start_ms < end_ms);
        self.cues
            .iter()
            .take(upper)
            .filter(move |cue| cue.overlaps(start_ms, end_ms))
    }
}

/// One sample of a `wvtt` or `stpp` track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSample {
    /// Presentation time on the track's timeline, in milliseconds.
    pub start_ms: u64,
    /// In milliseconds; samples of one window follow each other without a gap.
    pub duration_ms: u64,
    /// The sample as stored in `mdat`.
    pub bytes: Bytes,
}

impl TextSample {
    /// First millisecond after the sample.
    pub fn end_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.duration_ms)
    }
}

/// What a reader made of a source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// The cues that could be read.
    pub track: TextTrack,
    /// What was left out, in the order of the source: the first 1,000.
    pub dropped: Vec<Dropped>,
    /// How much was left out in all.
    pub dropped_count: usize,
    /// How the bytes were read as text; anything but UTF-8 deserves to be told to whoever sent them.
    pub encoding: Encoding,
    /// Language the source declares (`xml:lang` of `tt`).
    pub language: Option<String>,
    /// The X-TIMESTAMP-MAP of a WebVTT segment.
    pub timestamp_map: Option<webvtt::TimestampMap>,
}

impl Parsed {
    fn drop_at(&mut self, line: u64, reason: DropReason) {
        self.dropped_count = self.dropped_count.saturating_add(1);
        if self.dropped.len() < DROPPED_LISTED_MAX {
            self.dropped.push(Dropped { line, reason });
        }
    }
}

/// A piece of a source that was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Line of the source, from 1; for samples of an MP4 track, the sample's number from 1.
    pub line: u64,
    /// Why.
    pub reason: DropReason,
}

/// Why a piece of a source was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// A line with `-->` whose times cannot be read.
    #[error("cue times cannot be read")]
    BadTimes,
    /// A cue that is never shown.
    #[error("cue does not end after its start")]
    EndsBeforeStart,
    /// A time later than [`TIME_MS_MAX`].
    #[error("cue time is out of range")]
    TimeOutOfRange,
    /// Lines that belong to no cue and are no comment.
    #[error("text outside any cue")]
    StrayText,
    /// WebVTT allows STYLE and REGION only before the first cue.
    #[error("STYLE or REGION after the first cue")]
    LateHeaderBlock,
    /// A SubRip cue without text.
    #[error("cue has no text")]
    NoText,
    /// TTML content without an end, in a document that has none either.
    #[error("content has no end")]
    NoEnd,
    /// Times of a sample's document that lie wholly outside the sample.
    #[error("cue lies outside its sample")]
    OutsideSample,
    /// A box inside a `wvtt` sample that is not timed text.
    #[error("unknown box in sample")]
    UnknownBox,
    /// A sample that ends before its text does.
    #[error("sample is cut off")]
    CutOff,
    /// A sample whose text is in no encoding that its format allows.
    #[error("text is not in its encoding")]
    BadEncoding,
    /// TTML refers to a style or region the document does not define.
    #[error("reference to an undefined style or region")]
    UndefinedReference,
}

/// Why a source cannot be read, or a window not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// More bytes than [`TEXT_SIZE_BYTES_MAX`].
    #[error("text has {size_bytes} bytes, at most {TEXT_SIZE_BYTES_MAX} are read")]
    TooLarge {
        /// Size of the source.
        size_bytes: u64,
    },
    /// More cues than [`CUE_COUNT_MAX`].
    #[error("more than {CUE_COUNT_MAX} cues")]
    TooManyCues,
    /// The cues of one window overlap so much that its samples would exceed the bound.
    #[error("samples of the window exceed {size_bytes_max} bytes or {count_max} samples")]
    WindowTooDense {
        /// Bytes allowed in one window.
        size_bytes_max: usize,
        /// Samples allowed in one window.
        count_max: usize,
    },
    /// The bytes are in no encoding the format allows.
    #[error("not valid {encoding} at offset {offset}")]
    BadEncoding {
        /// The encoding that was tried.
        encoding: &'static str,
        /// Offset of the first bad byte.
        offset: u64,
    },
    /// The file does not begin as WebVTT does.
    #[error("line 1 is not a WEBVTT signature")]
    NoSignature,
    /// A SubRip file without any line of times.
    #[error("no cue times in {line_count} lines, not a SubRip file")]
    NoCueTimes {
        /// Lines looked at.
        line_count: u64,
    },
    /// XML that is not well-formed, or holds what is refused for safety.
    #[error("xml at offset {offset}: {what}")]
    Xml {
        /// Offset in the decoded text.
        offset: u64,
        /// What is wrong there.
        what: Cow<'static, str>,
    },
    /// Well-formed XML that is not TTML, or TTML that is not supported.
    #[error("ttml at offset {offset}: {what}")]
    Ttml {
        /// Offset in the decoded text.
        offset: u64,
        /// What is wrong there.
        what: Cow<'static, str>,
    },
    /// Pictures instead of text.
    #[error("ttml at offset {offset}: image subtitles are not supported ({what})")]
    ImageSubtitles {
        /// Offset in the decoded text.
        offset: u64,
        /// What gave it away.
        what: &'static str,
    },
    /// A malformed `wvtt` sample.
    #[error("sample {sample_number} cannot be read")]
    Sample {
        /// The sample's number from 1.
        sample_number: u64,
        /// What is wrong; offsets count from the sample's first byte.
        #[source]
        source: crate::isobmff::BoxError,
    },
}

/// Refuses a source that is too large before anything is made of it.
fn check_size(bytes: &[u8]) -> Result<(), TextError> {
    let size_bytes = bytes.len() as u64;
    if size_bytes > TEXT_SIZE_BYTES_MAX {
        Err(TextError::TooLarge { size_bytes })
    } else {
        Ok(())
    }
}

/// One more cue, if the track may have it.
fn push_cue(cues: &mut Vec<Cue>, cue: Cue) -> Result<(), TextError> {
    if cues.len() >= CUE_COUNT_MAX {
        return Err(TextError::TooManyCues);
    }
    cues.push(cue);
    Ok(())
}

/// Why a cue of these times is left out.
fn times_fault(start_ms: u64, end_ms: u64) -> Option<DropReason> {
    if start_ms > TIME_MS_MAX || end_ms > TIME_MS_MAX {
        Some(DropReason::TimeOutOfRange)
    } else if end_ms <= start_ms {
        Some(DropReason::EndsBeforeStart)
    } else {
        None
    }
}

/// Non-empty lines without NUL, CR and `-->`.
fn lines_cleaned(text: &str, arrow: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&line.replace('\0', "\u{fffd}").replace("-->", arrow));
    }
    out
}

/// One line without NUL and `-->`.
fn line_cleaned(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
        .replace('\0', "\u{fffd}")
        .replace("-->", "-- >")
}

/// The settings that have the shape `name:value`, separated by single spaces.
fn settings_cleaned(settings: &str) -> String {
    let mut out = String::new();
    for setting in settings.split(|c: char| c.is_ascii_whitespace()) {
        let shaped = setting
            .split_once(':')
            .is_some_and(|(name, value)| !name.is_empty() && !value.is_empty());
        if !shaped || setting.contains("-->") {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&setting.replace('\0', "\u{fffd}"));
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
