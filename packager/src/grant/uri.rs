//! `catu`: which URIs a grant opens, part by part (CTA-5007-B 4.6.10).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{GrantRefusal, GrantRequest};

/// A part of a URI. Ports and queries can not be evaluated here: claims that name them are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UriPart {
    /// `https`
    Scheme,
    /// `media.example`; compared without regard to case.
    Host,
    /// `/vod/f1/master.m3u8`
    Path,
    /// `/vod/f1`: the path without its last segment.
    ParentPath,
    /// `master.m3u8`: the path's last segment.
    Filename,
    /// `master`: the last segment up to its first dot.
    Stem,
    /// `.m3u8`: the last segment from its first dot.
    Extension,
}

impl UriPart {
    /// Label in a `catu` map.
    pub(super) fn label(self) -> i64 {
        match self {
            UriPart::Scheme => 0,
            UriPart::Host => 1,
            UriPart::Path => 3,
            UriPart::ParentPath => 5,
            UriPart::Filename => 6,
            UriPart::Stem => 7,
            UriPart::Extension => 8,
        }
    }

    pub(super) fn from_label(label: i64) -> Option<UriPart> {
        let parts = [
            UriPart::Scheme,
            UriPart::Host,
            UriPart::Path,
            UriPart::ParentPath,
            UriPart::Filename,
            UriPart::Stem,
            UriPart::Extension,
        ];
        parts.into_iter().find(|part| part.label() == label)
    }

    /// The part of `request` that this names; `None` when the caller did not say.
    fn of<'a>(self, request: &GrantRequest<'a>) -> Option<&'a str> {
        let (parent, filename) = request.path.rsplit_once('/').unwrap_or(("", request.path));
        let dot = filename.find('.').unwrap_or(filename.len());
        match self {
            UriPart::Scheme => request.scheme,
            UriPart::Host => request.host,
            UriPart::Path => Some(request.path),
            UriPart::ParentPath => Some(parent),
            UriPart::Filename => Some(filename),
            UriPart::Stem => filename.get(..dot),
            UriPart::Extension => filename.get(dot..),
        }
    }
}

/// How a part is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UriMatch {
    /// Is the value.
    Exact,
    /// Begins with the value.
    Prefix,
    /// Ends with the value.
    Suffix,
    /// Holds the value somewhere.
    Contains,
}

impl UriMatch {
    /// Label in a match map. Regular expressions (4) and hashes (-1, -2) are refused.
    pub(super) fn label(self) -> i64 {
        match self {
            UriMatch::Exact => 0,
            UriMatch::Prefix => 1,
            UriMatch::Suffix => 2,
            UriMatch::Contains => 3,
        }
    }

    pub(super) fn from_label(label: i64) -> Option<UriMatch> {
        let matches = [UriMatch::Exact, UriMatch::Prefix, UriMatch::Suffix, UriMatch::Contains];
        matches.into_iter().find(|way| way.label() == label)
    }

    fn holds(self, found: &str, value: &str) -> bool {
        match self {
            UriMatch::Exact => found == value,
            UriMatch::Prefix => found.starts_with(value),
            UriMatch::Suffix => found.ends_with(value),
            UriMatch::Contains => found.contains(value),
        }
    }
}

/// One condition on a URI; all conditions of a grant must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UriRule {
    /// What is compared.
    pub part: UriPart,
    /// How it is compared.
    pub way: UriMatch,
    /// With what.
    pub value: String,
}

impl UriRule {
    fn holds(&self, request: &GrantRequest<'_>) -> bool {
        let Some(found) = self.part.of(request) else {
            return false;
        };
        match self.part {
            UriPart::Host | UriPart::Scheme => self
                .way
                .holds(&found.to_ascii_lowercase(), &self.value.to_ascii_lowercase()),
            _ => self.way.holds(found, &self.value),
        }
    }
}

/// Whether `rules` tell where a path begins.
pub(super) fn name_path(rules: &[UriRule]) -> bool {
    rules.iter().any(|rule| {
        matches!(rule.part, UriPart::Path | UriPart::ParentPath)
            && matches!(rule.way, UriMatch::Exact | UriMatch::Prefix)
    })
}

/// Whether `rules` open the request's path. Rules that say nothing of the path open nothing, and a path that means
/// another one (dot segments, encoded slashes) is never opened.
pub(super) fn check(rules: &[UriRule], request: &GrantRequest<'_>) -> Result<(), GrantRefusal> {
    let open = name_path(rules) && is_plain(request.path) && rules.iter().all(|rule| rule.holds(request));
    if open { Ok(()) } else { Err(GrantRefusal::WrongPath) }
}

/// Absolute, and every segment means itself: delivery paths need no escapes.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(['%', '\\', '?', '#'])
        && path.split('/').all(|segment| !matches!(segment, "." | ".."))
}
