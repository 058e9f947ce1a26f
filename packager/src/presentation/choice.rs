//! What a request may choose of a presentation: which tracks, which part of it, how long its segments are.
//!
//! Order: the clip and the segment length make a presentation of their own ([`super::clip::derive`]); of that, `tracks`,
//! `languages` and `max_height` leave out tracks, one after the other. What is left out changes playlists and MPDs alone.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::borrow::Cow;

use super::{Presentation, Representation, choose_defaults};
use crate::codec::MediaKind;
use crate::form::Form;
use crate::hls::muxed_audio;
use crate::index::IndexError;
use crate::limits::{CHOICE_LIST_COUNT_MAX, PRESENTATION_DURATION_SECONDS_MAX};
use crate::segment::SegmentTarget;
use crate::time::{MediaTime, Rounding};

/// Segment lengths that can be asked for, in seconds. Few, so that caches see few variants.
pub const SEGMENT_SECONDS: [u32; 5] = [2, 4, 6, 8, 10];

/// Shortest clip, in milliseconds: a few pictures.
pub const CLIP_DURATION_MS_MIN: u64 = 100;

/// Names of the parameters, in the order in which they are applied.
pub const PARAMETERS: [&str; 6] = ["start", "end", "segment", "tracks", "languages", "max_height"];

/// Everything a request chose. The default is the whole presentation as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Choice {
    /// What changes the segments.
    pub media: MediaChoice,
    /// What changes playlists and MPDs alone.
    pub tracks: TrackChoice,
}

/// The part of a choice that changes the segments, and therefore stands in their URLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MediaChoice {
    /// First instant shown, in milliseconds.
    pub start_ms: u64,
    /// First instant no longer shown, in milliseconds; `None` for the end.
    pub end_ms: Option<u64>,
    /// Wanted segment duration, one of [`SEGMENT_SECONDS`]; `None` for the presentation's own.
    pub segment_s: Option<u32>,
}

/// The part of a choice that leaves tracks out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrackChoice {
    /// Representation ids, sorted; empty for all.
    pub ids: Vec<String>,
    /// Language ranges (RFC 4647 2.1) of audio and text in lower case, sorted; empty for all.
    pub languages: Vec<String>,
    /// Greatest picture height in luma samples.
    pub max_height: Option<u32>,
}

/// Why a choice can not be served. Each says which parameter and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The value is not of the parameter's kind.
    #[error("{parameter}: {value:?} is not {expected}")]
    Malformed {
        /// Which.
        parameter: &'static str,
        /// The beginning of what was given.
        value: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// The parameter is there more than once.
    #[error("{parameter}: given more than once")]
    Repeated {
        /// Which.
        parameter: &'static str,
    },
    /// Nothing lies between the two.
    #[error("start: {} s is not before end, {} s", seconds(.start_ms), seconds(.end_ms))]
    Backwards {
        /// In milliseconds.
        start_ms: u64,
        /// In milliseconds.
        end_ms: u64,
    },
    /// The instant is not in the presentation.
    #[error("{parameter}: {} s lies beyond the end, {} s", seconds(.at_ms), seconds(.duration_ms))]
    Beyond {
        /// Which.
        parameter: &'static str,
        /// In milliseconds.
        at_ms: u64,
        /// In milliseconds.
        duration_ms: u64,
    },
    /// Too little to play.
    #[error("end: a clip of {} s; the shortest is {} s", seconds(.duration_ms), seconds(&CLIP_DURATION_MS_MIN))]
    TooShort {
        /// In milliseconds.
        duration_ms: u64,
    },
    /// Neither picture nor sound lies in the clip.
    #[error("start: there is nothing to play between start and end")]
    EmptyClip,
    /// No such track.
    #[error("tracks: there is no {id}; there are {known}")]
    UnknownTrack {
        /// What was asked for.
        id: String,
        /// What there is.
        known: String,
    },
    /// No sound would be left, or nothing at all matches.
    #[error("languages: none of {wanted}; there are {known}")]
    NoLanguage {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// Neither picture nor sound is left.
    #[error("tracks: neither picture nor sound is left that this form can carry")]
    NothingLeft,
    /// The sound is part of the video's segments.
    #[error("tracks: in MPEG-TS {id} travels in the video's segments and can not be left out")]
    Muxed {
        /// The audio track.
        id: String,
    },
    /// A clipped track could not be indexed.
    #[error("clip: {0}")]
    Index(#[from] IndexError),
}

fn seconds(millis: &u64) -> String {
    MediaTime::from_millis(i64::try_from(*millis).unwrap_or(i64::MAX))
        .display_seconds(3)
        .to_string()
}

impl Choice {
    /// Takes `value` of parameter `name`; `Ok(false)` when the name is none of [`PARAMETERS`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, ChoiceError> {
        let Some(parameter) = PARAMETERS.into_iter().find(|known| *known == name) else {
            return Ok(false);
        };
        let malformed = |expected| ChoiceError::Malformed {
            parameter,
            value: value.chars().take(40).collect(),
            expected,
        };
        let time = || millis(value).ok_or_else(|| malformed("a number of seconds with at most 3 decimals"));
        match parameter {
            "start" => self.media.start_ms = time()?,
            "end" => self.media.end_ms = Some(time()?),
            "segment" => {
                let chosen = SEGMENT_SECONDS.into_iter().find(|preset| preset.to_string() == value);
                self.media.segment_s = Some(chosen.ok_or_else(|| malformed("2, 4, 6, 8 or 10"))?);
            }
            "tracks" => {
                let ids = list(value, |item| item.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                self.tracks.ids = ids.ok_or_else(|| malformed("a list of track ids such as v1,a1"))?;
            }
            "languages" => {
                let tag = |item: &str| item.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                let languages = list(&value.to_ascii_lowercase(), tag);
                self.tracks.languages = languages.ok_or_else(|| malformed("a list of language tags such as de,en"))?;
            }
            _ => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let height = digits
                    .then(|| value.parse().ok())
                    .flatten()
                    .filter(|height| *height > 0);
                self.tracks.max_height = Some(height.ok_or_else(|| malformed("a number of picture lines"))?);
            }
        }
        Ok(true)
    }
}

/// Seconds with at most three decimals, in milliseconds.
fn millis(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    // Whatever is longer than anything that is served is beyond the end of all of it.
    let whole = whole
        .parse()
        .unwrap_or(u64::MAX)
        .min(PRESENTATION_DURATION_SECONDS_MAX * 2);
    Some(whole * 1_000 + format!("{fraction:0<3}").parse::<u64>().ok()?)
}

/// A comma-separated list, sorted, each item once; `None` when an item is empty, too long or not `fit`.
fn list(value: &str, fit: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let mut items = Vec::new();
    for item in value.split(',') {
        if item.is_empty() || item.len() > 35 || !fit(item) || items.len() == CHOICE_LIST_COUNT_MAX {
            return None;
        }
        items.push(item.to_owned());
    }
    items.sort();
    items.dedup();
    Some(items)
}

impl MediaChoice {
    /// True when the segments are the presentation's own.
    pub fn is_default(&self) -> bool {
        *self == MediaChoice::default()
    }

    /// The choice as it stands in URLs behind the version: `~s12500~e60000~d2`, milliseconds and seconds, without what
    /// is not chosen.
    pub fn name(&self) -> String {
        let mut name = String::new();
        if self.start_ms > 0 {
            name.push_str(&format!("~s{}", self.start_ms));
        }
        if let Some(end_ms) = self.end_ms {
            name.push_str(&format!("~e{end_ms}"));
        }
        if let Some(segment_s) = self.segment_s {
            name.push_str(&format!("~d{segment_s}"));
        }
        name
    }

    /// The choice that [`MediaChoice::name`] gives this name; `None` for any other spelling.
    pub fn from_name(name: &str) -> Option<MediaChoice> {
        let mut choice = MediaChoice::default();
        for part in name.strip_prefix('~').map(|rest| rest.split('~')).into_iter().flatten() {
            let (letter, number) = part.split_at_checked(1)?;
            match letter {
                "s" => choice.start_ms = number.parse().ok()?,
                "e" => choice.end_ms = Some(number.parse().ok()?),
                "d" => choice.segment_s = Some(number.parse().ok()?),
                _ => return None,
            }
        }
        let known = choice
            .segment_s
            .is_none_or(|seconds| SEGMENT_SECONDS.contains(&seconds));
        (known && choice.name() == name).then_some(choice)
    }

    /// The same choice of `presentation` in its shortest form: what is no other than the default is left out.
    pub fn canonical(&self, presentation: &Presentation) -> Result<MediaChoice, ChoiceError> {
        let duration_ms = presentation.duration.to_millis(Rounding::Ceil).max(0).unsigned_abs();
        let inside = |parameter, at_ms: u64, last_ms: u64| match at_ms <= last_ms {
            true => Ok(()),
            false => Err(ChoiceError::Beyond {
                parameter,
                at_ms,
                duration_ms,
            }),
        };
        inside("start", self.start_ms, duration_ms.saturating_sub(1))?;
        let end_ms = self.end_ms.unwrap_or(duration_ms);
        inside("end", end_ms, duration_ms)?;
        if self.start_ms >= end_ms {
            return Err(ChoiceError::Backwards {
                start_ms: self.start_ms,
                end_ms,
            });
        }
        let clipped = self.start_ms > 0 || end_ms < duration_ms;
        if clipped && end_ms - self.start_ms < CLIP_DURATION_MS_MIN {
            return Err(ChoiceError::TooShort {
                duration_ms: end_ms - self.start_ms,
            });
        }
        Ok(MediaChoice {
            start_ms: self.start_ms,
            end_ms: Some(end_ms).filter(|end_ms| *end_ms < duration_ms),
            segment_s: self
                .segment_s
                .filter(|seconds| seconds.saturating_mul(1_000) != presentation.target.millis()),
        })
    }

    /// Wanted segment duration where `own` is the presentation's.
    pub fn target(&self, own: SegmentTarget) -> SegmentTarget {
        let chosen = self
            .segment_s
            .and_then(|seconds| SegmentTarget::from_millis(seconds.saturating_mul(1_000)));
        chosen.unwrap_or(own)
    }
}

/// The tracks that a [`TrackChoice`] keeps of a presentation. Equal selections are equal, however they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Ids in the presentation's order; `None` for all.
    ids: Option<Vec<String>>,
}

impl Selection {
    /// True when representation `id` is kept.
    pub fn keeps(&self, id: &str) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.iter().any(|kept| kept == id))
    }

    /// `presentation` with what is kept, for entry points of `form`. Segments and their URLs stay what they are.
    pub fn of<'a>(&self, presentation: &'a Presentation, form: Form) -> Cow<'a, Presentation> {
        if self.ids.is_none() {
            return Cow::Borrowed(presentation);
        }
        let mut selected = presentation.clone();
        selected.representations.retain(|rep| self.keeps(&rep.id));
        selected.sound_apart |= muxed_audio(presentation, form).is_none();
        choose_defaults(&mut selected.representations);
        Cow::Owned(selected)
    }
}

impl TrackChoice {
    /// What is kept of `presentation` in `form`.
    ///
    /// `ids` must exist. `languages` keeps audio and text in these languages and must leave sound where there was some.
    /// `max_height` keeps the lowest pictures where all are higher, so that it never takes the last.
    pub fn select(&self, presentation: &Presentation, form: Form) -> Result<Selection, ChoiceError> {
        let mut kept: Vec<&Representation> = presentation.representations.iter().collect();
        self.keep_ids(&mut kept)?;
        self.keep_languages(&mut kept)?;
        self.cap_height(&mut kept);
        let ids: Vec<String> = kept.iter().map(|rep| rep.id.clone()).collect();
        let all = ids.len() == presentation.representations.len();
        let selection = Selection {
            ids: Some(ids).filter(|_| !all),
        };
        if all {
            return Ok(selection);
        }
        let selected = selection.of(presentation, form);
        if !selected.playable_in(form) {
            return Err(ChoiceError::NothingLeft);
        }
        let has_video = selected.carried(form, MediaKind::Video).next().is_some();
        match muxed_audio(presentation, form) {
            Some(audio) if has_video && !selection.keeps(&audio.id) => Err(ChoiceError::Muxed { id: audio.id.clone() }),
            _ => Ok(selection),
        }
    }

    fn keep_ids(&self, kept: &mut Vec<&Representation>) -> Result<(), ChoiceError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        if let Some(unknown) = self.ids.iter().find(|id| kept.iter().all(|rep| rep.id != **id)) {
            return Err(ChoiceError::UnknownTrack {
                id: unknown.clone(),
                known: joined(kept.iter().map(|rep| rep.id.as_str())),
            });
        }
        kept.retain(|rep| self.ids.contains(&rep.id));
        Ok(())
    }

    fn keep_languages(&self, kept: &mut Vec<&Representation>) -> Result<(), ChoiceError> {
        if self.languages.is_empty() {
            return Ok(());
        }
        let spoken = |rep: &&&Representation| rep.kind() != MediaKind::Video;
        let known = joined(kept.iter().filter(spoken).map(|rep| rep.language.as_str()));
        let count = |kept: &[&Representation], kind| kept.iter().filter(|rep| rep.kind() == kind).count();
        let audio_count = count(kept, MediaKind::Audio);
        kept.retain(|rep| rep.kind() == MediaKind::Video || self.speaks(&rep.language));
        let silenced = audio_count > 0 && count(kept, MediaKind::Audio) == 0;
        let nothing = kept.iter().all(|rep| rep.kind() == MediaKind::Video);
        match silenced || nothing {
            true => Err(ChoiceError::NoLanguage {
                wanted: self.languages.join(", "),
                known,
            }),
            false => Ok(()),
        }
    }

    /// Basic filtering (RFC 4647 3.3.1): `de` takes `de` and `de-AT`.
    fn speaks(&self, tag: &str) -> bool {
        let tag = tag.to_ascii_lowercase();
        self.languages.iter().any(|range| {
            let rest = tag.strip_prefix(range.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }

    fn cap_height(&self, kept: &mut Vec<&Representation>) {
        let Some(max_height) = self.max_height else { return };
        let height = |rep: &Representation| rep.video().map(|video| video.height);
        let lowest = kept.iter().filter_map(|rep| height(rep)).min().unwrap_or(0);
        kept.retain(|rep| height(rep).is_none_or(|height| height <= max_height.max(lowest)));
    }
}

/// The different words of a list, as they come.
fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut list: Vec<&str> = Vec::new();
    for word in words {
        if !list.contains(&word) {
            list.push(word);
        }
    }
    match list.is_empty() {
        true => "none".into(),
        false => list.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_exactly() {
        let check = |name: &str, value: &str, expected: Result<MediaChoice, &str>| {
            let mut choice = Choice::default();
            let set = choice.set(name, value).map_err(|error| error.to_string());
            assert_eq!(
                set.map(|_| choice.media),
                expected.map_err(str::to_owned),
                "{name}={value}"
            );
        };
        let start = |start_ms| {
            Ok(MediaChoice {
                start_ms,
                ..MediaChoice::default()
            })
        };
        check("start", "12.5", start(12_500));
        check("start", "0.001", start(1));
        check("start", "007.10", start(7_100));
        check("start", "99999999999999999999999", start(1_209_600_000));
        for nonsense in [
            "", "-1", "+1", "1.", ".5", "1.2345", "1e3", "NaN", "1,5", "0x1", "1.-2", " 1", "1s",
        ] {
            let message = format!("start: {nonsense:?} is not a number of seconds with at most 3 decimals");
            check("start", nonsense, Err(&message));
        }
        check(
            "segment",
            "6",
            Ok(MediaChoice {
                segment_s: Some(6),
                ..MediaChoice::default()
            }),
        );
        check("segment", "5", Err("segment: \"5\" is not 2, 4, 6, 8 or 10"));
        check("segment", "06", Err("segment: \"06\" is not 2, 4, 6, 8 or 10"));
        check(
            "max_height",
            "0",
            Err("max_height: \"0\" is not a number of picture lines"),
        );
        check(
            "max_height",
            "720p",
            Err("max_height: \"720p\" is not a number of picture lines"),
        );
        check(
            "tracks",
            "v1,,a1",
            Err("tracks: \"v1,,a1\" is not a list of track ids such as v1,a1"),
        );
        check(
            "languages",
            "d\u{e9}",
            Err("languages: \"d\u{e9}\" is not a list of language tags such as de,en"),
        );
        assert_eq!(Choice::default().set("session", "1"), Ok(false));
    }

    #[test]
    fn lists_are_sorted_and_short() {
        let mut choice = Choice::default();
        choice.set("tracks", "v2,a1,v2,v1").unwrap();
        choice.set("languages", "EN,de-AT,en").unwrap();
        assert_eq!(choice.tracks.ids, ["a1", "v1", "v2"]);
        assert_eq!(choice.tracks.languages, ["de-at", "en"]);
        assert!(choice.set("tracks", &"v1,".repeat(1_000)).is_err());
        assert!(choice.set("languages", &"x".repeat(36)).is_err());
    }

    #[test]
    fn a_media_choice_has_one_name() {
        let check = |name: &str, expected: Option<(u64, Option<u64>, Option<u32>)>| {
            let choice = MediaChoice::from_name(name);
            assert_eq!(choice.map(|c| (c.start_ms, c.end_ms, c.segment_s)), expected, "{name}");
        };
        check("", Some((0, None, None)));
        check("~s12500~e60000~d2", Some((12_500, Some(60_000), Some(2))));
        check("~e1", Some((0, Some(1), None)));
        for other in [
            "~",
            "s1",
            "~s0",
            "~s01",
            "~s+1",
            "~s1~",
            "~e2~s1",
            "~s1~s2",
            "~d3",
            "~d02",
            "~x1",
            "~s",
            "~s1-2",
            "~é",
            "~s99999999999999999999999",
        ] {
            check(other, None);
        }
    }
}
