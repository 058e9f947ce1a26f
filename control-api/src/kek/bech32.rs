//! Bech32: names and keys in letters that people can copy (BIP 173), as `age` writes its keys.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use zeroize::Zeroizing;

const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Longest text that is read.
const SIZE_BYTES_MAX: usize = 128;

fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    let generator = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum: u32, value| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        let bits = generator.iter().enumerate().filter(|(at, _)| top >> at & 1 == 1);
        bits.fold(next, |next, (_, term)| next ^ term)
    })
}

/// The prefix, as the checksum covers it.
fn expanded(prefix: &str) -> impl Iterator<Item = u8> + '_ {
    prefix
        .bytes()
        .map(|byte| byte >> 5)
        .chain([0])
        .chain(prefix.bytes().map(|byte| byte & 31))
}

/// The bytes behind `prefix`, which is in lower case; the text may be in upper case as a whole.
pub(super) fn decode(prefix: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let one_case =
        !(text.bytes().any(|byte| byte.is_ascii_lowercase()) && text.bytes().any(|byte| byte.is_ascii_uppercase()));
    if text.len() > SIZE_BYTES_MAX || !one_case {
        return None;
    }
    let text = Zeroizing::new(text.to_ascii_lowercase());
    let (found, data) = text.rsplit_once('1')?;
    let values = data.bytes().map(|byte| {
        LETTERS
            .iter()
            .position(|letter| *letter == byte)
            .and_then(|at| u8::try_from(at).ok())
    });
    let values = Zeroizing::new(values.collect::<Option<Vec<u8>>>()?);
    if found != prefix || polymod(expanded(prefix).chain(values.iter().copied())) != 1 {
        return None;
    }
    let (values, _) = values.split_at_checked(values.len().checked_sub(6)?)?;
    let mut out = Zeroizing::new(Vec::with_capacity(values.len() * 5 / 8));
    let (mut bits, mut held) = (0_u32, 0_u32);
    for value in values {
        held = held << 5 | u32::from(*value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits & 0xff) as u8);
            held &= (1 << bits) - 1;
        }
    }
    (bits < 5 && held == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_texts_are_read() {
        // BIP 173's own, and its broken ones.
        assert_eq!(decode("a", "A12UEL5L").as_deref().map(Vec::as_slice), Some(&[][..]));
        assert!(decode("abcdef", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw").is_some());
        for (prefix, wrong) in [
            ("a", "A12UEL5M"),
            ("b", "A12UEL5L"),
            ("a", "a12UEL5L"),
            ("a", "a"),
            ("a", "a1"),
            ("a", "a1uel5"),
            ("a", ""),
            ("a", "a12bel5l"),
            ("de", "de1lg7wt\u{ff}"),
        ] {
            assert!(decode(prefix, wrong).is_none(), "{wrong}");
        }
        assert!(decode("a", &("a1".to_owned() + &"q".repeat(200))).is_none());
    }
}
