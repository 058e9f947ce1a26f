//! Titles: their states and legal moves, what publishing needs, how slugs are made. Pure.

use chrono::{DateTime, Utc};

use crate::error::{Code, Detail};

/// State of a movie or episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Never seen.
    Draft,
    /// Seen.
    Published,
    /// Seen from a time on.
    Scheduled,
    /// Seen no more.
    Unpublished,
}

impl Status {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Status::Draft => "draft",
            Status::Published => "published",
            Status::Scheduled => "scheduled",
            Status::Unpublished => "unpublished",
        }
    }

    /// What [`Status::name`] wrote; never seen for anything else.
    pub fn of(name: &str) -> Status {
        match name {
            "published" => Status::Published,
            "scheduled" => Status::Scheduled,
            "unpublished" => Status::Unpublished,
            _ => Status::Draft,
        }
    }

    /// Publishes (PB-2, PB-3): at once, or from `available_from` on if that is in the future.
    pub fn publish(self, available_from: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<Status, Code> {
        match self {
            Status::Published => Err(Code::InvalidStateTransition),
            _ if available_from.is_some_and(|from| from > now) => Ok(Status::Scheduled),
            _ => Ok(Status::Published),
        }
    }

    /// Takes it back (PB-4).
    pub fn unpublish(self) -> Result<Status, Code> {
        match self {
            Status::Published | Status::Scheduled => Ok(Status::Unpublished),
            Status::Draft | Status::Unpublished => Err(Code::InvalidStateTransition),
        }
    }

    /// Moves to `wanted`, as a create or replacement asks (PB-8). The same state is no move.
    pub fn request(
        self,
        wanted: Status,
        available_from: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Status, Code> {
        let to = match wanted {
            Status::Published | Status::Scheduled if self == Status::Published => Status::Published,
            Status::Published | Status::Scheduled => self.publish(available_from, now)?,
            Status::Unpublished if self == Status::Unpublished => self,
            Status::Unpublished => self.unpublish()?,
            Status::Draft if self == Status::Draft => self,
            Status::Draft => return Err(Code::InvalidStateTransition),
        };
        Ok(to)
    }

    /// Whether it may be deleted (DL-1, DL-4).
    pub fn is_deletable(self) -> bool {
        matches!(self, Status::Draft | Status::Unpublished)
    }
}

/// What of a title publishing looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readiness {
    /// Whether it has a running time.
    pub has_runtime: bool,
    /// Whether it has a rating.
    pub has_rating: bool,
    /// Whether a video is attached that did not fail.
    pub has_video: bool,
    /// Whether one can be played.
    pub video_plays: bool,
}

/// What is missing before a movie may be `to` (PB-1): one row a field.
pub fn missing(readiness: Readiness, to: Status) -> Vec<Detail> {
    let video = match to {
        Status::Published => (readiness.video_plays, "a video that is ready must be attached"),
        Status::Scheduled => (readiness.has_video, "a video must be attached"),
        Status::Draft | Status::Unpublished => return Vec::new(),
    };
    let rows = [
        ("runtime_minutes", readiness.has_runtime, "must be set"),
        ("content_rating", readiness.has_rating, "must be set"),
        ("assets", video.0, video.1),
    ];
    let missing = rows.into_iter().filter(|(_, there, _)| !there);
    missing
        .map(|(field, _, message)| Detail {
            field: field.to_owned(),
            message: message.to_owned(),
        })
        .collect()
}

/// Whether a show is published, and whether it is still being shown: two facts, told as one value (PB-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Airing {
    /// Whether it is published.
    pub published: bool,
    /// One of [`AIRINGS`], where it is known.
    pub airing: Option<&'static str>,
}

/// What can be said of a show's airing.
pub const AIRINGS: &[&str] = &["ongoing", "ended", "canceled"];

/// The one of [`AIRINGS`] that is written `name`.
pub fn airing_of(name: &str) -> Option<&'static str> {
    AIRINGS.iter().copied().find(|known| *known == name)
}

impl Airing {
    /// The value that is shown.
    pub fn status(self) -> &'static str {
        match (self.published, self.airing) {
            (false, _) => "draft",
            (true, None) => "published",
            (true, Some(airing)) => airing,
        }
    }

    /// Publishes: what was known of the airing is shown again.
    pub fn publish(self) -> Result<Airing, Code> {
        match self.published {
            true => Err(Code::InvalidStateTransition),
            false => Ok(Airing {
                published: true,
                ..self
            }),
        }
    }

    /// Takes it back (PB-4): the airing is kept.
    pub fn unpublish(self) -> Result<Airing, Code> {
        match self.published {
            false => Err(Code::InvalidStateTransition),
            true => Ok(Airing {
                published: false,
                ..self
            }),
        }
    }

    /// Moves to what a create or replacement asks for (PB-8): every value can be reached from every other.
    pub fn request(self, wanted: &str) -> Airing {
        match (wanted, airing_of(wanted)) {
            (_, Some(airing)) => Airing {
                published: true,
                airing: Some(airing),
            },
            ("published", None) => Airing {
                published: true,
                airing: self.airing.filter(|_| !self.published),
            },
            (_, None) => Airing {
                published: false,
                ..self
            },
        }
    }
}

/// `slug`, or the first of `slug-2`, `slug-3`, … that is not among those taken.
pub fn free_slug(slug: String, taken: &[String]) -> Option<String> {
    if !taken.contains(&slug) {
        return Some(slug);
    }
    (2..=taken.len().saturating_add(2))
        .map(|number| format!("{slug}-{number}"))
        .find(|slug| !taken.contains(slug))
}

/// A slug of a title: `[a-z0-9-]+`, at most 100 characters.
pub fn slug(title: &str) -> String {
    let mut slug = String::new();
    for char in title.chars().flat_map(char::to_lowercase) {
        let plain = match char {
            'a'..='z' | '0'..='9' => char.to_string(),
            'ä' | 'æ' => "ae".to_owned(),
            'ö' | 'ø' | 'œ' => "oe".to_owned(),
            'ü' => "ue".to_owned(),
            'ß' => "ss".to_owned(),
            'à' | 'á' | 'â' | 'ã' | 'å' => "a".to_owned(),
            'ç' => "c".to_owned(),
            'è' | 'é' | 'ê' | 'ë' => "e".to_owned(),
            'ì' | 'í' | 'î' | 'ï' => "i".to_owned(),
            'ñ' => "n".to_owned(),
            'ò' | 'ó' | 'ô' | 'õ' => "o".to_owned(),
            'ù' | 'ú' | 'û' => "u".to_owned(),
            '\'' | '’' => String::new(),
            _ => "-".to_owned(),
        };
        if plain != "-" || (!slug.is_empty() && !slug.ends_with('-')) {
            slug.push_str(&plain);
        }
        if slug.len() >= 100 {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "title".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Draft, Published, Scheduled, Unpublished};

    #[test]
    fn pb_7_publication_and_airing_are_two_facts() {
        let draft = Airing {
            published: false,
            airing: None,
        };
        let ended = draft.request("ended");
        assert_eq!(ended.status(), "ended");
        let kept = ended.unpublish().unwrap();
        assert_eq!((kept.status(), kept.airing), ("draft", Some("ended")));
        assert_eq!(kept.publish().unwrap().status(), "ended");
        assert_eq!(kept.request("published").status(), "ended");
        assert_eq!(ended.request("published").status(), "published");
        assert_eq!(ended.request("draft").request("ongoing").status(), "ongoing");
        assert_eq!(ended.publish(), Err(Code::InvalidStateTransition));
        assert_eq!(draft.unpublish(), Err(Code::InvalidStateTransition));
    }

    #[test]
    fn slugs_are_numbered_where_they_are_taken() {
        let taken = ["a", "a-2", "a-4"].map(str::to_owned);
        assert_eq!(free_slug("a".to_owned(), &taken).as_deref(), Some("a-3"));
        assert_eq!(free_slug("b".to_owned(), &taken).as_deref(), Some("b"));
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn pb_2_3_and_4_moves() {
        let now = at(100);
        let no = Err(Code::InvalidStateTransition);
        for from in [Draft, Unpublished, Scheduled] {
            assert_eq!(from.publish(None, now), Ok(Published));
            assert_eq!(from.publish(Some(at(100)), now), Ok(Published));
            assert_eq!(from.publish(Some(at(101)), now), Ok(Scheduled));
        }
        assert_eq!(Published.publish(None, now), no);
        assert_eq!(
            [Published, Scheduled].map(Status::unpublish),
            [Ok(Unpublished), Ok(Unpublished)]
        );
        assert_eq!([Draft, Unpublished].map(Status::unpublish), [no, no]);
    }

    #[test]
    fn pb_8_a_status_in_a_body_is_a_request() {
        let now = at(100);
        let cases = [
            (Draft, Draft, Ok(Draft)),
            (Draft, Published, Ok(Published)),
            (Draft, Unpublished, Err(Code::InvalidStateTransition)),
            (Published, Published, Ok(Published)),
            (Published, Draft, Err(Code::InvalidStateTransition)),
            (Published, Unpublished, Ok(Unpublished)),
            (Unpublished, Unpublished, Ok(Unpublished)),
            (Unpublished, Draft, Err(Code::InvalidStateTransition)),
            (Scheduled, Scheduled, Ok(Published)),
        ];
        for (from, wanted, expected) in cases {
            assert_eq!(from.request(wanted, None, now), expected, "{from:?} {wanted:?}");
        }
        assert_eq!(Scheduled.request(Scheduled, Some(at(200)), now), Ok(Scheduled));
    }

    #[test]
    fn pb_1_everything_missing_is_told_at_once() {
        let fields = |readiness: Readiness, to: Status| -> Vec<String> {
            missing(readiness, to).into_iter().map(|detail| detail.field).collect()
        };
        assert_eq!(
            fields(Readiness::default(), Published),
            ["runtime_minutes", "content_rating", "assets"]
        );
        let attached = Readiness {
            has_runtime: true,
            has_rating: true,
            has_video: true,
            video_plays: false,
        };
        assert_eq!(fields(attached, Published), ["assets"]);
        assert!(fields(attached, Scheduled).is_empty());
        assert!(fields(Readiness::default(), Draft).is_empty());
    }

    #[test]
    fn dl_1_and_4_what_may_be_deleted() {
        assert_eq!(
            [Draft, Unpublished, Published, Scheduled].map(Status::is_deletable),
            [true, true, false, false]
        );
    }

    #[test]
    fn slugs() {
        let cases = [
            ("Amélie", "amelie"),
            ("  The Matrix: Reloaded!  ", "the-matrix-reloaded"),
            ("Schöne Grüße", "schoene-gruesse"),
            ("It's", "its"),
            ("七人の侍", "title"),
            ("---", "title"),
        ];
        for (title, expected) in cases {
            assert_eq!(slug(title), expected, "{title}");
        }
        assert!(slug(&"a b".repeat(200)).len() <= 101);
    }
}
