//! Languages of `mdhd`: packed ISO 639-2 codes and old Macintosh numbers, as BCP 47 tags.

/// ISO 639-2 codes (terminological, then bibliographic where it differs) that have an ISO 639-1 code, which BCP 47
/// prefers (RFC 5646 2.2.1). Sorted by the first.
#[rustfmt::skip] // one pair a line would be four screens
const TWO_LETTER: &[(&str, &str)] = &[
    ("aar", "aa"), ("abk", "ab"), ("afr", "af"), ("aka", "ak"), ("alb", "sq"), ("amh", "am"), ("ara", "ar"),
    ("arg", "an"), ("arm", "hy"), ("asm", "as"), ("ava", "av"), ("ave", "ae"), ("aym", "ay"), ("aze", "az"),
    ("bak", "ba"), ("bam", "bm"), ("baq", "eu"), ("bel", "be"), ("ben", "bn"), ("bis", "bi"), ("bod", "bo"),
    ("bos", "bs"), ("bre", "br"), ("bul", "bg"), ("bur", "my"), ("cat", "ca"), ("ces", "cs"), ("cha", "ch"),
    ("che", "ce"), ("chi", "zh"), ("chu", "cu"), ("chv", "cv"), ("cor", "kw"), ("cos", "co"), ("cre", "cr"),
    ("cym", "cy"), ("cze", "cs"), ("dan", "da"), ("deu", "de"), ("div", "dv"), ("dut", "nl"), ("dzo", "dz"),
    ("ell", "el"), ("eng", "en"), ("epo", "eo"), ("est", "et"), ("eus", "eu"), ("ewe", "ee"), ("fao", "fo"),
    ("fas", "fa"), ("fij", "fj"), ("fin", "fi"), ("fra", "fr"), ("fre", "fr"), ("fry", "fy"), ("ful", "ff"),
    ("geo", "ka"), ("ger", "de"), ("gla", "gd"), ("gle", "ga"), ("glg", "gl"), ("glv", "gv"), ("gre", "el"),
    ("grn", "gn"), ("guj", "gu"), ("hat", "ht"), ("hau", "ha"), ("heb", "he"), ("her", "hz"), ("hin", "hi"),
    ("hmo", "ho"), ("hrv", "hr"), ("hun", "hu"), ("hye", "hy"), ("ibo", "ig"), ("ice", "is"), ("ido", "io"),
    ("iii", "ii"), ("iku", "iu"), ("ile", "ie"), ("ina", "ia"), ("ind", "id"), ("ipk", "ik"), ("isl", "is"),
    ("ita", "it"), ("jav", "jv"), ("jpn", "ja"), ("kal", "kl"), ("kan", "kn"), ("kas", "ks"), ("kat", "ka"),
    ("kau", "kr"), ("kaz", "kk"), ("khm", "km"), ("kik", "ki"), ("kin", "rw"), ("kir", "ky"), ("kom", "kv"),
    ("kon", "kg"), ("kor", "ko"), ("kua", "kj"), ("kur", "ku"), ("lao", "lo"), ("lat", "la"), ("lav", "lv"),
    ("lim", "li"), ("lin", "ln"), ("lit", "lt"), ("ltz", "lb"), ("lub", "lu"), ("lug", "lg"), ("mac", "mk"),
    ("mah", "mh"), ("mal", "ml"), ("mao", "mi"), ("mar", "mr"), ("may", "ms"), ("mkd", "mk"), ("mlg", "mg"),
    ("mlt", "mt"), ("mon", "mn"), ("mri", "mi"), ("msa", "ms"), ("mya", "my"), ("nau", "na"), ("nav", "nv"),
    ("nbl", "nr"), ("nde", "nd"), ("ndo", "ng"), ("nep", "ne"), ("nld", "nl"), ("nno", "nn"), ("nob", "nb"),
    ("nor", "no"), ("nya", "ny"), ("oci", "oc"), ("oji", "oj"), ("ori", "or"), ("orm", "om"), ("oss", "os"),
    ("pan", "pa"), ("per", "fa"), ("pli", "pi"), ("pol", "pl"), ("por", "pt"), ("pus", "ps"), ("que", "qu"),
    ("roh", "rm"), ("ron", "ro"), ("rum", "ro"), ("run", "rn"), ("rus", "ru"), ("sag", "sg"), ("san", "sa"),
    ("sin", "si"), ("slk", "sk"), ("slo", "sk"), ("slv", "sl"), ("sme", "se"), ("smo", "sm"), ("sna", "sn"),
    ("snd", "sd"), ("som", "so"), ("sot", "st"), ("spa", "es"), ("sqi", "sq"), ("srd", "sc"), ("srp", "sr"),
    ("ssw", "ss"), ("sun", "su"), ("swa", "sw"), ("swe", "sv"), ("tah", "ty"), ("tam", "ta"), ("tat", "tt"),
    ("tel", "te"), ("tgk", "tg"), ("tgl", "tl"), ("tha", "th"), ("tib", "bo"), ("tir", "ti"), ("ton", "to"),
    ("tsn", "tn"), ("tso", "ts"), ("tuk", "tk"), ("tur", "tr"), ("twi", "tw"), ("uig", "ug"), ("ukr", "uk"),
    ("urd", "ur"), ("uzb", "uz"), ("ven", "ve"), ("vie", "vi"), ("vol", "vo"), ("wel", "cy"), ("wln", "wa"),
    ("wol", "wo"), ("xho", "xh"), ("yid", "yi"), ("yor", "yo"), ("zha", "za"), ("zho", "zh"), ("zul", "zu"),
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
pub(super) fn from_iso_639_2(code: &str) -> String {
    match TWO_LETTER.iter().find(|(three, _)| *three == code) {
        Some((_, two)) => (*two).to_owned(),
        None => code.to_owned(),
    }
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

    #[test]
    fn the_table_is_sorted_and_lower_case() {
        assert!(TWO_LETTER.is_sorted());
        assert!(TWO_LETTER.iter().all(|(three, two)| three.len() == 3 && two.len() == 2));
    }
}
