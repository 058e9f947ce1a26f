//! Languages of `mdhd`: packed ISO 639-2 codes and old Macintosh numbers, as BCP 47 tags.

use crate::isobmff::language::two_letters;

/// Bibliographic codes of ISO 639-2 that differ from the terminological ones.
#[rustfmt::skip] // one pair a line would be a screen
const BIBLIOGRAPHIC: &[(&str, &str)] = &[
    ("alb", "sqi"), ("arm", "hye"), ("baq", "eus"), ("bur", "mya"), ("chi", "zho"), ("cze", "ces"), ("dut", "nld"),
    ("fre", "fra"), ("geo", "kat"), ("ger", "deu"), ("gre", "ell"), ("ice", "isl"), ("mac", "mkd"), ("mao", "mri"),
    ("may", "msa"), ("per", "fas"), ("rum", "ron"), ("slo", "slk"), ("tib", "bod"), ("wel", "cym"),
];

/// Macintosh language numbers of QuickTime files; 0 (English) is left out, for too many writers mean "nothing" by it.
#[rustfmt::skip]
const MACINTOSH: &[(u16, &str)] = &[
    (1, "fr"), (2, "de"), (3, "it"), (4, "nl"), (5, "sv"), (6, "es"), (7, "da"), (8, "pt"), (9, "no"), (10, "he"),
    (11, "ja"), (12, "ar"), (13, "fi"), (14, "el"), (15, "is"), (16, "mt"), (17, "tr"), (18, "hr"), (19, "zh-Hant"),
    (20, "ur"), (21, "hi"), (22, "th"), (23, "ko"), (24, "lt"), (25, "pl"), (26, "hu"), (27, "et"), (28, "lv"),
    (30, "fo"), (31, "fa"), (32, "ru"), (33, "zh-Hans"), (35, "ga"), (36, "sq"), (37, "ro"), (38, "cs"), (39, "sk"),
    (40, "sl"), (41, "yi"), (42, "sr"), (43, "mk"), (44, "bg"), (45, "uk"), (46, "be"), (80, "vi"),
];

/// What nobody speaks.
pub(super) const UNDETERMINED: &str = "und";

/// The tag of a three-letter ISO 639-2 code: its two-letter form where there is one.
pub(crate) fn from_iso_639_2(code: &str) -> String {
    let terminological = BIBLIOGRAPHIC.iter().find(|(bibliographic, _)| *bibliographic == code);
    let code = terminological.map_or(code, |(_, terminological)| terminological);
    let two = code.as_bytes().try_into().ok().and_then(two_letters);
    two.unwrap_or(code).to_owned()
}

/// The tag of `mdhd`'s language field: three letters of five bits (ISO/IEC 14496-12:2022 8.4.2), or a Macintosh number.
pub(super) fn from_packed(packed: u16) -> String {
    if packed < 0x400 {
        let found = MACINTOSH.iter().find(|(number, _)| *number == packed);
        return found.map_or(UNDETERMINED, |(_, tag)| tag).to_owned();
    }
    let letters = [packed >> 10, packed >> 5, packed].map(|five| (five & 0x1f) as u8 + 0x60);
    let is_code = letters.iter().all(u8::is_ascii_lowercase);
    match std::str::from_utf8(&letters) {
        Ok(code) if is_code => from_iso_639_2(code),
        _ => UNDETERMINED.to_owned(),
    }
}

/// The tag of an `elng` box or another text field, if it looks like one (RFC 5646 2.1: letters, digits and hyphens,
/// subtags of 1 to 8). A lone three-letter code is shortened where it can be.
pub(crate) fn from_tag(text: &str) -> Option<String> {
    let text = text.trim_matches(['\0', ' ']);
    let mut subtags = text.split('-');
    let primary = subtags.next()?;
    let well_formed = (2..=8).contains(&primary.len())
        && primary.bytes().all(|byte| byte.is_ascii_alphabetic())
        && text.len() <= 64
        && subtags
            .all(|subtag| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if !well_formed {
        return None;
    }
    let shortened = from_iso_639_2(&primary.to_ascii_lowercase());
    Some(match text.split_once('-') {
        Some((_, rest)) => format!("{shortened}-{rest}"),
        None => shortened,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn packed(code: &str) -> u16 {
        code.bytes()
            .fold(0, |packed, letter| packed << 5 | u16::from(letter & 0x1f))
    }

    #[test]
    fn packed_codes_become_tags() {
        let check = |packed, expected: &str| assert_eq!(from_packed(packed), expected, "{packed:#x}");
        check(packed("eng"), "en");
        check(packed("ger"), "de");
        check(packed("deu"), "de");
        check(packed("und"), "und");
        check(packed("gsw"), "gsw");
        check(packed("mul"), "mul");
        check(0, "und");
        check(0x7fff, "und");
        check(11, "ja");
        check(packed("e\0g"), "und");
    }

    #[test]
    fn tags_are_checked() {
        let check = |text, expected: Option<&str>| assert_eq!(from_tag(text).as_deref(), expected, "{text}");
        check("en-US\0", Some("en-US"));
        check("eng", Some("en"));
        check("zh-Hant-TW", Some("zh-Hant-TW"));
        check("", None);
        check("e", None);
        check("en_US", None);
        check("en-", None);
        check("en-<script>", None);
    }
}
