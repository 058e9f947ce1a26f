//! Which resource a request names: method, path and query in, [`Route`] out. Pure.
//!
//! Identifiers are names, never paths: nothing of a URL ever reaches the file system.

#![expect(
    missing_docs,
    reason = "each variant's line shows the path that its fields come from"
)]

use packager::crypto::signal::ClearKeyTag;
use packager::crypto::{KeyId, ProtectionScheme};
pub use packager::dash::mpd::{Addressing, TextCoding};
use packager::form::Form;
use packager::presentation::choice::{Choice, ChoiceError, MediaChoice};

use crate::vod::choice;

/// Longest path that is looked at.
const PATH_SIZE_BYTES_MAX: usize = 1_024;

/// A resource of the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`
    Health,
    /// `/readyz`: the library can be read.
    Ready,
    /// `/metrics`
    Metrics,
    /// `/`: what the library holds, for people.
    Index,
    /// `/v/{id}`
    Page { media: String },
    /// `/embed/{id}`
    Embed { media: String },
    /// `/player/{version}/{file}`
    PlayerFile { version: String, file: String },
    /// `/vod/{id}/…`
    Vod { media: String, resource: VodResource },
    /// `/vod/{id}/v{version}/key/{key}`: the 16 bytes of a key.
    Key { media: String, key: KeyId },
    /// `/vod/{id}/license/clearkey`, to which a request is posted.
    License { media: String },
    /// `/vod/{id}/…` with parameters that make no sense.
    Refused { error: ChoiceError },
}

/// Something below `/vod/{id}/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VodResource {
    /// `master.m3u8`, `ts/master.m3u8`
    Multivariant {
        form: Form,
        choice: Choice,
        clear_key: Option<ClearKeyTag>,
    },
    /// `manifest.mpd`
    Mpd {
        form: Form,
        addressing: Addressing,
        text: TextCoding,
        choice: Choice,
    },
    /// `thumbs.vtt`
    Thumbs,
    /// `poster.jpg`
    Poster,
    /// `v{version}/{form}/{representation}/{file}`; the version ends with the name of a choice.
    File {
        version: String,
        form: Form,
        representation: String,
        file: RepresentationFile,
    },
}

impl VodResource {
    /// Pictures that a title is offered with: to be had without a grant.
    pub fn is_offer(&self) -> bool {
        match self {
            VodResource::Thumbs | VodResource::Poster => true,
            VodResource::File { representation, .. } => representation == packager::images::REPRESENTATION_ID,
            VodResource::Multivariant { .. } | VodResource::Mpd { .. } => false,
        }
    }

    /// Whether the answer has to know where samples lie.
    pub fn is_of_samples(&self) -> bool {
        let VodResource::File { file, .. } = self else {
            return false;
        };
        match file {
            RepresentationFile::Init
            | RepresentationFile::PeriodInit { .. }
            | RepresentationFile::Segment { .. }
            | RepresentationFile::SegmentAt { .. }
            | RepresentationFile::TrickFrame { .. }
            | RepresentationFile::OnDemand => true,
            RepresentationFile::MediaPlaylist
            | RepresentationFile::TrickPlaylist
            | RepresentationFile::TextSegment { .. }
            | RepresentationFile::Image { .. }
            | RepresentationFile::WholeText => false,
        }
    }

    /// What the bytes are to be; `None` for what is the same in all forms.
    pub fn form(&self) -> Option<Form> {
        match self {
            VodResource::Multivariant { form, .. } | VodResource::Mpd { form, .. } => Some(*form),
            // Pictures are the same bytes in all forms, but the version in their URL is the form's.
            VodResource::File {
                representation, form, ..
            } if representation == packager::images::REPRESENTATION_ID && !form.is_protected() => None,
            VodResource::File { form, .. } => Some(*form),
            VodResource::Thumbs | VodResource::Poster => None,
        }
    }
}

/// A file of one representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepresentationFile {
    /// `index.m3u8`
    MediaPlaylist,
    /// `iframes.m3u8`
    TrickPlaylist,
    /// `init.mp4`
    Init,
    /// `init-{period}.mp4`: the header of a later key period, counted from 1.
    PeriodInit { period: u32 },
    /// `{number}.{ext}`
    Segment { number: u32, extension: Extension },
    /// `t{time}.m4s`: the segment that starts at `time` ticks.
    SegmentAt { time: u64 },
    /// `iframe-{number}.{ext}`
    TrickFrame { number: u32, extension: Extension },
    /// `{number}.vtt`
    TextSegment { number: u32 },
    /// `{number}.jpg`: a sheet of thumbnails.
    Image { number: u32 },
    /// `text.vtt`: all cues.
    WholeText,
    /// `media.mp4`: header, `sidx` and all fragments as one file.
    OnDemand,
}

/// File extension of a media segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    M4s,
    Ts,
    Aac,
    Mp3,
    Ac3,
    Ec3,
}

impl Extension {
    /// As it stands in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Extension::M4s => "m4s",
            Extension::Ts => "ts",
            Extension::Aac => "aac",
            Extension::Mp3 => "mp3",
            Extension::Ac3 => "ac3",
            Extension::Ec3 => "ec3",
        }
    }

    /// The extension that a URL names.
    pub fn from_name(name: &str) -> Option<Extension> {
        use Extension::{Aac, Ac3, Ec3, M4s, Mp3, Ts};
        [M4s, Ts, Aac, Mp3, Ac3, Ec3]
            .into_iter()
            .find(|extension| extension.name() == name)
    }
}

/// The resource that `path` (as on the wire) and `query` name, or `None`: unknown, or not an answerable name.
pub fn parse(path: &str, query: Option<&str>) -> Option<Route> {
    if path.len() > PATH_SIZE_BYTES_MAX || !path.is_ascii() {
        return None;
    }
    let mut parts = path.strip_prefix('/')?.split('/');
    let route = match parts.next()? {
        "" => Route::Index,
        "healthz" => Route::Health,
        "readyz" => Route::Ready,
        "metrics" => Route::Metrics,
        "v" => Route::Page {
            media: page_name(&mut parts)?,
        },
        "embed" => Route::Embed {
            media: page_name(&mut parts)?,
        },
        "player" => Route::PlayerFile {
            version: name(parts.next()?)?,
            file: name(parts.next()?)?,
        },
        "vod" => {
            let media = name(parts.next()?)?;
            match key_or_license(parts.clone()) {
                Some(Some(key)) => return Some(Route::Key { media, key }),
                Some(None) => return Some(Route::License { media }),
                None => {}
            }
            match vod(&mut parts, query.unwrap_or_default())? {
                Ok(resource) => Route::Vod { media, resource },
                Err(error) => Route::Refused { error },
            }
        }
        _ => return None,
    };
    parts.next().is_none().then_some(route)
}

fn vod<'a>(parts: &mut impl Iterator<Item = &'a str>, query: &str) -> Option<Result<VodResource, ChoiceError>> {
    match parts.next()? {
        "master.m3u8" => Some(multivariant(query, &CMAF_SCHEMES)),
        "ts" => (parts.next()? == "master.m3u8").then(|| multivariant(query, &TS_SCHEMES)),
        "manifest.mpd" => Some(mpd(query)),
        "thumbs.vtt" => Some(Ok(VodResource::Thumbs)),
        "poster.jpg" => Some(Ok(VodResource::Poster)),
        version => {
            let version = version.strip_prefix('v')?;
            let (hash, chosen) = version.split_at_checked(16)?;
            MediaChoice::from_name(chosen)?;
            let version = hash
                .bytes()
                .all(|b| b.is_ascii_hexdigit())
                .then(|| version.to_owned())?;
            let form = Form::from_name(parts.next()?)?;
            let representation = name(parts.next()?)?;
            let file = representation_file(parts.next()?)?;
            Some(Ok(VodResource::File {
                version,
                form,
                representation,
                file,
            }))
        }
    }
}

/// The key, or the licence (`None`), that the rest of a path names.
fn key_or_license<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<Option<KeyId>> {
    let found = match parts.next()? {
        "license" => (parts.next()? == "clearkey").then_some(None),
        version if is_version(version) => {
            let key = (parts.next()? == "key").then(|| parts.next())??;
            // One key has one name.
            Some(Some(KeyId::parse(key).filter(|id| id.to_string() == key)?))
        }
        _ => None,
    };
    found.filter(|_| parts.next().is_none())
}

fn is_version(part: &str) -> bool {
    let version = part.strip_prefix('v').and_then(|version| version.split_at_checked(16));
    version.is_some_and(|(hash, chosen)| {
        hash.bytes().all(|b| b.is_ascii_hexdigit()) && MediaChoice::from_name(chosen).is_some()
    })
}

/// The media that a page is for; a grant in front leaves a last slash.
fn page_name<'a>(parts: &mut (impl Iterator<Item = &'a str> + Clone)) -> Option<String> {
    let media = name(parts.next()?)?;
    if parts.clone().eq([""]) {
        parts.next();
    }
    Some(media)
}

/// A query parameter that takes one of few values.
struct Enumerated<T: 'static> {
    parameter: &'static str,
    values: &'static [(&'static str, T)],
    /// The values, for people.
    expected: &'static str,
    /// What stands where nothing is asked for.
    default: T,
}

/// What CMAF entry points lead to; the clear form stands for what the title's protection makes of it.
const CMAF_SCHEMES: Enumerated<Form> = Enumerated {
    parameter: "scheme",
    values: &[
        ("cbcs", Form::CmafProtected(ProtectionScheme::Cbcs)),
        ("cenc", Form::CmafProtected(ProtectionScheme::Cenc)),
    ],
    expected: "cbcs or cenc, which CMAF has",
    default: Form::Cmaf,
};

/// The same in MPEG-TS.
const TS_SCHEMES: Enumerated<Form> = Enumerated {
    parameter: "scheme",
    values: &[("aes128", Form::TsAes128), ("sampleaes", Form::TsSampleAes)],
    expected: "aes128 or sampleaes, which MPEG-TS has",
    default: Form::Ts,
};

/// How HLS names Clear Keys of `cbcs`: players take one way or the other.
const CLEAR_KEYS: Enumerated<Option<ClearKeyTag>> = Enumerated {
    parameter: "clear_key",
    values: &[
        ("identity", Some(ClearKeyTag::Identity)),
        ("licence", Some(ClearKeyTag::Licence)),
        ("license", Some(ClearKeyTag::Licence)),
    ],
    expected: "identity or licence",
    default: None,
};

const ADDRESSINGS: Enumerated<Addressing> = Enumerated {
    parameter: "addressing",
    values: &[
        ("timeline", Addressing::TimelineNumber),
        ("time", Addressing::TimelineTime),
        ("number", Addressing::Number),
        ("ondemand", Addressing::OnDemand),
    ],
    expected: "timeline, time, number or ondemand",
    default: Addressing::TimelineNumber,
};

const TEXT_CODINGS: Enumerated<TextCoding> = Enumerated {
    parameter: "text",
    values: &[
        ("wvtt", TextCoding::Wvtt),
        ("stpp", TextCoding::Stpp),
        ("vtt", TextCoding::WebVtt),
    ],
    expected: "wvtt, stpp or vtt",
    default: TextCoding::Wvtt,
};

impl<T: Copy> Enumerated<T> {
    /// What `query` asks for; parameters of other names never matter.
    fn of(&self, query: &str) -> Result<T, ChoiceError> {
        let parameter = self.parameter;
        let mut given = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix(parameter)?.strip_prefix('='));
        let Some(value) = given.next() else {
            return Ok(self.default);
        };
        if given.next().is_some() {
            return Err(ChoiceError::Repeated { parameter });
        }
        let known = self.values.iter().find(|(name, _)| *name == value);
        let malformed = || ChoiceError::Malformed {
            parameter,
            value: value.chars().take(40).collect(),
            expected: self.expected,
        };
        known.map(|(_, meaning)| *meaning).ok_or_else(malformed)
    }
}

fn multivariant(query: &str, schemes: &Enumerated<Form>) -> Result<VodResource, ChoiceError> {
    Ok(VodResource::Multivariant {
        form: schemes.of(query)?,
        choice: choice::from_query(query)?,
        clear_key: CLEAR_KEYS.of(query)?,
    })
}

fn mpd(query: &str) -> Result<VodResource, ChoiceError> {
    Ok(VodResource::Mpd {
        form: CMAF_SCHEMES.of(query)?,
        addressing: ADDRESSINGS.of(query)?,
        text: TEXT_CODINGS.of(query)?,
        choice: choice::from_query(query)?,
    })
}

/// A name of at most 128 letters, digits, `-`, `_` and inner dots.
fn name(part: &str) -> Option<String> {
    let plain = part
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (plain && !part.is_empty() && part.len() <= 128 && !part.starts_with('.')).then(|| part.to_owned())
}

fn representation_file(file: &str) -> Option<RepresentationFile> {
    match file {
        "index.m3u8" => return Some(RepresentationFile::MediaPlaylist),
        "iframes.m3u8" => return Some(RepresentationFile::TrickPlaylist),
        "init.mp4" => return Some(RepresentationFile::Init),
        "media.mp4" => return Some(RepresentationFile::OnDemand),
        "text.vtt" => return Some(RepresentationFile::WholeText),
        _ => {}
    }
    let (stem, extension) = file.split_once('.')?;
    let media = Extension::from_name(extension);
    if let Some(period) = stem.strip_prefix("init-") {
        let period = decimal(period)?;
        return (extension == "mp4").then_some(RepresentationFile::PeriodInit { period });
    }
    if let Some(number) = stem.strip_prefix("iframe-") {
        return Some(RepresentationFile::TrickFrame {
            number: decimal(number)?,
            extension: media?,
        });
    }
    if let Some(time) = stem.strip_prefix('t') {
        return (media == Some(Extension::M4s)).then_some(RepresentationFile::SegmentAt { time: decimal(time)? });
    }
    let number = decimal(stem)?;
    match extension {
        "vtt" => Some(RepresentationFile::TextSegment { number }),
        "jpg" => Some(RepresentationFile::Image { number }),
        _ => Some(RepresentationFile::Segment {
            number,
            extension: media?,
        }),
    }
}

/// A number in its only spelling: no sign, no leading zero, so that one segment has one URL.
fn decimal<T: std::str::FromStr>(digits: &str) -> Option<T> {
    let canonical = digits == "0" || !digits.starts_with('0');
    (canonical && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(file: RepresentationFile) -> Option<Route> {
        let resource = VodResource::File {
            version: "0123456789abcdef".into(),
            form: Form::Cmaf,
            representation: "v1".into(),
            file,
        };
        Some(Route::Vod {
            media: "film".into(),
            resource,
        })
    }

    #[test]
    fn names_lead_to_resources() {
        let check = |path: &str, expected: Option<Route>| assert_eq!(parse(path, None), expected, "{path}");
        let vod = |resource| {
            Some(Route::Vod {
                media: "film".into(),
                resource,
            })
        };
        check("/", Some(Route::Index));
        check("/v/film", Some(Route::Page { media: "film".into() }));
        check(
            "/vod/film/master.m3u8",
            vod(VodResource::Multivariant {
                form: Form::Cmaf,
                choice: Choice::default(),
                clear_key: None,
            }),
        );
        check(
            "/vod/film/ts/master.m3u8",
            vod(VodResource::Multivariant {
                form: Form::Ts,
                choice: Choice::default(),
                clear_key: None,
            }),
        );
        let base = "/vod/film/v0123456789abcdef/cmaf/v1/";
        check(&format!("{base}index.m3u8"), file(RepresentationFile::MediaPlaylist));
        check(
            &format!("{base}17.m4s"),
            file(RepresentationFile::Segment {
                number: 17,
                extension: Extension::M4s,
            }),
        );
        check(
            &format!("{base}t900.m4s"),
            file(RepresentationFile::SegmentAt { time: 900 }),
        );
        check(
            &format!("{base}iframe-3.m4s"),
            file(RepresentationFile::TrickFrame {
                number: 3,
                extension: Extension::M4s,
            }),
        );
        check(
            &format!("{base}3.vtt"),
            file(RepresentationFile::TextSegment { number: 3 }),
        );
        check(&format!("{base}3.jpg"), file(RepresentationFile::Image { number: 3 }));
        check("/vod/film/thumbs.vtt", vod(VodResource::Thumbs));
        check("/vod/film/poster.jpg", vod(VodResource::Poster));
    }

    #[test]
    fn anything_else_is_unknown() {
        let base = "/vod/film/v0123456789abcdef/cmaf/v1/";
        let unknown = [
            "",
            "v/film",
            "/v",
            "/v/",
            "/v/a/b",
            "/vod/film",
            "/vod/film/",
            "/vod/film/ts",
            "/vod/film/ts/x",
            "/vod/../etc/passwd",
            "/vod/%2e%2e/master.m3u8",
            "/vod/.hidden/master.m3u8",
            "/v/a%00b",
            "/v/a b",
            "/vod/film/v0123/cmaf/v1/1.m4s",
            "/vod/film/v0123456789abcdeg/cmaf/v1/1.m4s",
            "/vod/film/v0123456789abcdef/flv/v1/1.m4s",
            "/vod/film/v0123456789abcdef~/cmaf/v1/1.m4s",
            "/vod/film/v0123456789abcdef~s01/cmaf/v1/1.m4s",
            "/vod/film/v0123456789abcdef~d2~s1/cmaf/v1/1.m4s",
            "/vod/film/v0123456789abcdef0/cmaf/v1/1.m4s",
            "//vod/film/master.m3u8",
            "/vod/film/master.m3u8/",
        ];
        for path in unknown {
            assert_eq!(parse(path, None), None, "{path}");
        }
        for name in [
            "01.m4s",
            "+1.m4s",
            "-1.m4s",
            "1.exe",
            "1",
            ".m4s",
            "99999999999.m4s",
            "t1.ts",
            "1.m4s.vtt",
            "iframe-1.jpg",
            "t1.jpg",
            "01.jpg",
            "init.mp4/x",
        ] {
            assert_eq!(parse(&format!("{base}{name}"), None), None, "{name}");
        }
        assert_eq!(parse(&format!("/v/{}", "a".repeat(2000)), None), None);
    }

    #[test]
    fn unknown_query_parameters_do_not_matter() {
        let mpd = |query| match parse("/vod/film/manifest.mpd", Some(query)) {
            Some(Route::Vod {
                resource: VodResource::Mpd { addressing, text, .. },
                ..
            }) => (addressing, text),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            mpd("addressing=time&CMCD=x"),
            (Addressing::TimelineTime, TextCoding::Wvtt)
        );
        assert_eq!(
            mpd("x=addressing=time&text=stpp"),
            (Addressing::TimelineNumber, TextCoding::Stpp)
        );
    }

    #[test]
    fn unknown_values_are_refused() {
        let check = |entry: &str, query: &str, expected: &str| match parse(&format!("/vod/film/{entry}"), Some(query)) {
            Some(Route::Refused { error }) => assert_eq!(error.to_string(), expected, "{entry}?{query}"),
            other => panic!("{entry}?{query}: {other:?}"),
        };
        let cmaf = "scheme: \"aes128\" is not cbcs or cenc, which CMAF has";
        check("master.m3u8", "scheme=aes128", cmaf);
        check("manifest.mpd", "scheme=aes128", cmaf);
        let ts = "scheme: \"cenc\" is not aes128 or sampleaes, which MPEG-TS has";
        check("ts/master.m3u8", "scheme=cenc", ts);
        check(
            "master.m3u8",
            "clear_key=",
            "clear_key: \"\" is not identity or licence",
        );
        let addressing = "addressing: \"Time\" is not timeline, time, number or ondemand";
        check("manifest.mpd", "addressing=Time", addressing);
        check("manifest.mpd", "text=srt", "text: \"srt\" is not wvtt, stpp or vtt");
        let twice = "addressing: given more than once";
        check("manifest.mpd", "addressing=time&addressing=time", twice);
    }
}
