//! Language as `mdhd` holds it: three letters of ISO 639-2/T in 15 bits.

/// `und`: the language is not known, or has no code of three letters.
const UNDETERMINED: [u8; 3] = *b"und";

/// The primary language of a BCP 47 tag, packed as ISO/IEC 14496-12:2022 8.4.2.3 says.
pub(super) fn pack(tag: &str) -> u16 {
    three_letters(tag)
        .iter()
        .fold(0, |packed, letter| packed << 5 | u16::from(letter - 0x60))
}

/// The two-letter code of a terminological three-letter one, which BCP 47 prefers (RFC 5646 2.2.1).
pub(super) fn two_letters(three: &[u8; 3]) -> Option<&'static str> {
    let (two, _) = ISO_639_1.iter().find(|(_, code)| *code == three)?;
    std::str::from_utf8(*two).ok()
}

/// Only what may appear in a BCP 47 tag, so that it can stand in a box as a C string.
pub(super) fn is_tag(tag: &str) -> bool {
    !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Code of three letters of a tag's primary language, `und` where it has none.
pub(crate) fn three_letters(tag: &str) -> [u8; 3] {
    let primary = tag.split('-').next().unwrap_or_default();
    let mut letters = [0; 3];
    let Some(letters) = letters.get_mut(..primary.len()) else {
        return UNDETERMINED;
    };
    for (letter, byte) in letters.iter_mut().zip(primary.bytes()) {
        if !byte.is_ascii_alphabetic() {
            return UNDETERMINED;
        }
        *letter = byte.to_ascii_lowercase();
    }
    match *letters {
        [a, b, c] => [a, b, c],
        [a, b] => ISO_639_1
            .binary_search_by_key(&[a, b], |(two, _)| **two)
            .ok()
            .and_then(|found| ISO_639_1.get(found))
            .map_or(UNDETERMINED, |(_, three)| **three),
        _ => UNDETERMINED,
    }
}

/// Codes of two letters (ISO 639-1), in order, and their terminological codes of three (ISO 639-2/T).
#[rustfmt::skip]
const ISO_639_1: [(&[u8; 2], &[u8; 3]); 183] = [
    (b"aa", b"aar"), (b"ab", b"abk"), (b"ae", b"ave"), (b"af", b"afr"), (b"ak", b"aka"), (b"am", b"amh"),
    (b"an", b"arg"), (b"ar", b"ara"), (b"as", b"asm"), (b"av", b"ava"), (b"ay", b"aym"), (b"az", b"aze"),
    (b"ba", b"bak"), (b"be", b"bel"), (b"bg", b"bul"), (b"bi", b"bis"), (b"bm", b"bam"), (b"bn", b"ben"),
    (b"bo", b"bod"), (b"br", b"bre"), (b"bs", b"bos"), (b"ca", b"cat"), (b"ce", b"che"), (b"ch", b"cha"),
    (b"co", b"cos"), (b"cr", b"cre"), (b"cs", b"ces"), (b"cu", b"chu"), (b"cv", b"chv"), (b"cy", b"cym"),
    (b"da", b"dan"), (b"de", b"deu"), (b"dv", b"div"), (b"dz", b"dzo"), (b"ee", b"ewe"), (b"el", b"ell"),
    (b"en", b"eng"), (b"eo", b"epo"), (b"es", b"spa"), (b"et", b"est"), (b"eu", b"eus"), (b"fa", b"fas"),
    (b"ff", b"ful"), (b"fi", b"fin"), (b"fj", b"fij"), (b"fo", b"fao"), (b"fr", b"fra"), (b"fy", b"fry"),
    (b"ga", b"gle"), (b"gd", b"gla"), (b"gl", b"glg"), (b"gn", b"grn"), (b"gu", b"guj"), (b"gv", b"glv"),
    (b"ha", b"hau"), (b"he", b"heb"), (b"hi", b"hin"), (b"ho", b"hmo"), (b"hr", b"hrv"), (b"ht", b"hat"),
    (b"hu", b"hun"), (b"hy", b"hye"), (b"hz", b"her"), (b"ia", b"ina"), (b"id", b"ind"), (b"ie", b"ile"),
    (b"ig", b"ibo"), (b"ii", b"iii"), (b"ik", b"ipk"), (b"io", b"ido"), (b"is", b"isl"), (b"it", b"ita"),
    (b"iu", b"iku"), (b"ja", b"jpn"), (b"jv", b"jav"), (b"ka", b"kat"), (b"kg", b"kon"), (b"ki", b"kik"),
    (b"kj", b"kua"), (b"kk", b"kaz"), (b"kl", b"kal"), (b"km", b"khm"), (b"kn", b"kan"), (b"ko", b"kor"),
    (b"kr", b"kau"), (b"ks", b"kas"), (b"ku", b"kur"), (b"kv", b"kom"), (b"kw", b"cor"), (b"ky", b"kir"),
    (b"la", b"lat"), (b"lb", b"ltz"), (b"lg", b"lug"), (b"li", b"lim"), (b"ln", b"lin"), (b"lo", b"lao"),
    (b"lt", b"lit"), (b"lu", b"lub"), (b"lv", b"lav"), (b"mg", b"mlg"), (b"mh", b"mah"), (b"mi", b"mri"),
    (b"mk", b"mkd"), (b"ml", b"mal"), (b"mn", b"mon"), (b"mr", b"mar"), (b"ms", b"msa"), (b"mt", b"mlt"),
    (b"my", b"mya"), (b"na", b"nau"), (b"nb", b"nob"), (b"nd", b"nde"), (b"ne", b"nep"), (b"ng", b"ndo"),
    (b"nl", b"nld"), (b"nn", b"nno"), (b"no", b"nor"), (b"nr", b"nbl"), (b"nv", b"nav"), (b"ny", b"nya"),
    (b"oc", b"oci"), (b"oj", b"oji"), (b"om", b"orm"), (b"or", b"ori"), (b"os", b"oss"), (b"pa", b"pan"),
    (b"pi", b"pli"), (b"pl", b"pol"), (b"ps", b"pus"), (b"pt", b"por"), (b"qu", b"que"), (b"rm", b"roh"),
    (b"rn", b"run"), (b"ro", b"ron"), (b"ru", b"rus"), (b"rw", b"kin"), (b"sa", b"san"), (b"sc", b"srd"),
    (b"sd", b"snd"), (b"se", b"sme"), (b"sg", b"sag"), (b"si", b"sin"), (b"sk", b"slk"), (b"sl", b"slv"),
    (b"sm", b"smo"), (b"sn", b"sna"), (b"so", b"som"), (b"sq", b"sqi"), (b"sr", b"srp"), (b"ss", b"ssw"),
    (b"st", b"sot"), (b"su", b"sun"), (b"sv", b"swe"), (b"sw", b"swa"), (b"ta", b"tam"), (b"te", b"tel"),
    (b"tg", b"tgk"), (b"th", b"tha"), (b"ti", b"tir"), (b"tk", b"tuk"), (b"tl", b"tgl"), (b"tn", b"tsn"),
    (b"to", b"ton"), (b"tr", b"tur"), (b"ts", b"tso"), (b"tt", b"tat"), (b"tw", b"twi"), (b"ty", b"tah"),
    (b"ug", b"uig"), (b"uk", b"ukr"), (b"ur", b"urd"), (b"uz", b"uzb"), (b"ve", b"ven"), (b"vi", b"vie"),
    (b"vo", b"vol"), (b"wa", b"wln"), (b"wo", b"wol"), (b"xh", b"xho"), (b"yi", b"yid"), (b"yo", b"yor"),
    (b"za", b"zha"), (b"zh", b"zho"), (b"zu", b"zul"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_three_letters() {
        let check = |tag, expected: &[u8; 3]| assert_eq!(&three_letters(tag), expected, "{tag}");
        check("en", b"eng");
        check("en-GB", b"eng");
        check("DE", b"deu");
        check("zh-Hant-TW", b"zho");
        check("cmn-Hans", b"cmn");
        check("und", b"und");
        check("", b"und");
        check("x-klingon", b"und");
        check("qq", b"und");
        check("e1", b"und");
        check("engl", b"und");
        check("\u{e9}n", b"und");
    }

    #[test]
    fn letters_are_packed_in_fifteen_bits() {
        assert_eq!(pack("und"), 0x55c4);
        assert_eq!(pack("en"), 0x15c7);
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(ISO_639_1.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
