//! Uploads: what may become of them, what clients say of them, where they lie. Pure; [`store`] writes the bytes.

pub mod store;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;

use crate::error::{ApiError, Code};

/// Largest file that can be uploaded at all.
pub const SIZE_BYTES_MAX: i64 = 1 << 40;
/// Unfinished uploads end so long after their last byte (UP-13).
pub const IDLE: TimeDelta = TimeDelta::hours(24);
/// Signed addresses hold so long (UP-14).
pub const URL_TTL: TimeDelta = TimeDelta::hours(1);
/// Types of assets.
pub const ASSET_TYPES: &[&str] = &["video_master", "trailer", "image", "subtitle", "audio_track"];

/// State of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing came yet.
    AwaitingUpload,
    /// Some of it came.
    Uploading,
    /// All of it came.
    Uploaded,
    /// It is an asset, and a ladder is made of it.
    Processing,
    /// Nothing is left to do.
    Completed,
    /// It is no good.
    Failed,
    /// Nobody wants it any more.
    Canceled,
}

impl Status {
    /// What is written in the row.
    pub fn of(name: &str) -> Status {
        match name {
            "awaiting_upload" => Status::AwaitingUpload,
            "uploading" => Status::Uploading,
            "uploaded" => Status::Uploaded,
            "processing" => Status::Processing,
            "completed" => Status::Completed,
            "failed" => Status::Failed,
            _ => Status::Canceled,
        }
    }

    /// Whether bytes may still come.
    pub fn is_open(self) -> bool {
        matches!(self, Status::AwaitingUpload | Status::Uploading)
    }

    /// Whether it may be cancelled (UP-4): until its ladder is there.
    pub fn cancel(self) -> Result<(), Code> {
        match self {
            Status::AwaitingUpload | Status::Uploading | Status::Uploaded | Status::Processing => Ok(()),
            Status::Completed | Status::Failed => Err(Code::UploadNotCancellable),
            Status::Canceled => Err(Code::UploadGone),
        }
    }

    /// Whether it may be completed (UP-2): `Ok(true)` if it is to be done now, `Ok(false)` if it was.
    pub fn complete(self, offset: i64, size: Option<i64>) -> Result<bool, Code> {
        match self {
            Status::AwaitingUpload | Status::Uploading if Some(offset) == size => Ok(true),
            Status::AwaitingUpload | Status::Uploading => Err(Code::UploadIncomplete),
            Status::Uploaded | Status::Processing | Status::Completed => Ok(false),
            Status::Failed => Err(Code::InvalidMedia),
            Status::Canceled => Err(Code::UploadGone),
        }
    }
}

/// `Upload-Metadata` of tus: names, and values in Base64.
pub fn tus_metadata(header: &str) -> Option<Vec<(String, String)>> {
    let pairs = header.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let value = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
        (!name.is_empty()).then(|| (name.to_owned(), value))
    });
    pairs.collect()
}

/// What `Content-Range` of a PUT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes */total`: how much is there?
    Asked {
        /// Size of the whole file, where it is known.
        total: Option<i64>,
    },
    /// `bytes first-last/total`
    Bytes {
        /// Offset of the first byte.
        first: i64,
        /// How many there are.
        size: i64,
        /// Size of the whole file, where it is known.
        total: Option<i64>,
    },
}

impl ContentRange {
    /// Reads it (RFC 9110 14.4).
    pub fn parse(text: &str) -> Option<ContentRange> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i64>().ok().filter(|_| digits)
        };
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let total = match total {
            "*" => None,
            total => Some(number(total)?),
        };
        if range == "*" {
            return Some(ContentRange::Asked { total });
        }
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let fits = first <= last && total.is_none_or(|total| last < total);
        fits.then_some(ContentRange::Bytes {
            first,
            size: last.checked_sub(first)?.checked_add(1)?,
            total,
        })
    }
}

/// A file's name without folders and control characters; nothing if nothing is left.
pub fn filename(text: &str) -> Option<String> {
    let name = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().filter(|char| !char.is_control()).collect();
    let name = name.trim();
    let dots = name.chars().all(|char| char == '.');
    (!dots).then(|| name.chars().take(255).collect())
}

/// A title made of a file's name.
pub fn title_of(filename: &str) -> String {
    let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem).trim();
    let stem = if stem.is_empty() { filename } else { stem };
    stem.chars().take(255).collect()
}

/// Whether a ladder is made of assets of this type.
pub fn is_video(asset_type: &str) -> bool {
    matches!(asset_type, "video_master" | "trailer")
}

/// A digest that a client says bytes have: `Upload-Checksum` of tus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// How it is made.
    pub algorithm: Algorithm,
    /// What it must be.
    pub digest: Vec<u8>,
}

/// How digests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// What `Tus-Checksum-Algorithm` names.
pub const CHECKSUM_ALGORITHMS: &str = "sha1,sha256";

impl Checksum {
    /// Reads `Upload-Checksum`.
    pub fn parse(header: &str) -> Result<Checksum, ApiError> {
        let fails = |what: &str| ApiError::parameter("Upload-Checksum", what);
        let (name, digest) = header
            .split_once(' ')
            .ok_or_else(|| fails("must be a name and Base64"))?;
        let (algorithm, size) = match name {
            "sha1" => (Algorithm::Sha1, 20),
            "sha256" => (Algorithm::Sha256, 32),
            _ => return Err(fails("must be sha1 or sha256")),
        };
        let digest = STANDARD.decode(digest.trim()).map_err(|_| fails("is not Base64"))?;
        match digest.len() == size {
            true => Ok(Checksum { algorithm, digest }),
            false => Err(fails("has not the length of its digest")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_2_and_4_states_allow_what_they_allow() {
        use Status::{AwaitingUpload, Canceled, Completed, Failed, Processing, Uploaded, Uploading};
        let complete = [
            (AwaitingUpload, 0, Some(5), Err(Code::UploadIncomplete)),
            (Uploading, 4, Some(5), Err(Code::UploadIncomplete)),
            (Uploading, 4, None, Err(Code::UploadIncomplete)),
            (Uploading, 5, Some(5), Ok(true)),
            (Uploaded, 5, Some(5), Ok(false)),
            (Processing, 5, Some(5), Ok(false)),
            (Completed, 5, Some(5), Ok(false)),
            (Failed, 5, Some(5), Err(Code::InvalidMedia)),
            (Canceled, 5, Some(5), Err(Code::UploadGone)),
        ];
        for (status, offset, size, expected) in complete {
            assert_eq!(status.complete(offset, size), expected, "{status:?}");
        }
        let cancel = [
            (AwaitingUpload, Ok(())),
            (Uploading, Ok(())),
            (Uploaded, Ok(())),
            (Processing, Ok(())),
            (Completed, Err(Code::UploadNotCancellable)),
            (Failed, Err(Code::UploadNotCancellable)),
            (Canceled, Err(Code::UploadGone)),
        ];
        for (status, expected) in cancel {
            assert_eq!(status.cancel(), expected, "{status:?}");
        }
    }

    #[test]
    fn up_1_ranges_of_puts() {
        let check = |text: &str, expected| assert_eq!(ContentRange::parse(text), expected, "{text}");
        let bytes = |first, size, total| Some(ContentRange::Bytes { first, size, total });
        check("bytes 0-0/1", bytes(0, 1, Some(1)));
        check("bytes 5-9/10", bytes(5, 5, Some(10)));
        check("bytes 5-9/*", bytes(5, 5, None));
        check("bytes */10", Some(ContentRange::Asked { total: Some(10) }));
        check("bytes */*", Some(ContentRange::Asked { total: None }));
        for wrong in [
            "",
            "bytes",
            "bytes 0-10/10",
            "bytes 5-4/10",
            "bytes -1-4/10",
            "bytes 0-/10",
            "items 0-1/2",
            "bytes 0-1",
            "bytes 0-9223372036854775807/9223372036854775808",
            "bytes +0-1/2",
        ] {
            check(wrong, None);
        }
        check("bytes 0-9223372036854775807/*", None);
    }

    #[test]
    fn up_6_metadata_is_base64() {
        let check = |text: &str, expected: Option<&[(&str, &str)]>| {
            let expected = expected.map(|pairs| {
                let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
                pairs.collect::<Vec<_>>()
            });
            assert_eq!(tus_metadata(text), expected, "{text}");
        };
        check("", Some(&[]));
        check("filename ZmlsbS5tcDQ=", Some(&[("filename", "film.mp4")]));
        check("a YQ==,flag, b Yg==", Some(&[("a", "a"), ("flag", ""), ("b", "b")]));
        check("filename %%", None);
        check("filename /w==", None);
    }

    #[test]
    fn names_lose_their_folders() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(filename(text).as_deref(), expected, "{text}");
        check("film.mp4", Some("film.mp4"));
        check("../../etc/passwd", Some("passwd"));
        check("C:\\films\\a.mkv", Some("a.mkv"));
        check("a\u{7}b\n", Some("ab"));
        check("..", None);
        check("x/", None);
        assert_eq!(title_of("Der Film.final.mp4"), "Der Film.final");
        assert_eq!(title_of(".mp4"), ".mp4");
    }

    #[test]
    fn up_6_checksums_are_named() {
        assert_eq!(
            Checksum::parse("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")
                .map(|checksum| checksum.algorithm)
                .ok(),
            Some(Algorithm::Sha1)
        );
        for wrong in ["md5 Kq5s", "sha1", "sha1 Kq5s", "sha1 %%"] {
            assert!(Checksum::parse(wrong).is_err(), "{wrong}");
        }
    }
}
