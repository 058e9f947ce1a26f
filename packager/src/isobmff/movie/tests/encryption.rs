//! Encrypted tracks made up box by box: every way of telling how a sample is protected, whole and broken.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{read, read_encrypted};
use super::fixture::*;
use crate::crypto::cenc::SampleCipher;
use crate::crypto::{ContentKey, KeyId, Pattern, ProtectionScheme, Subsample};
use crate::isobmff::BoxWriter;
use crate::source::{ReadAt, SourceTracks};

const KID: u8 = 0xa1;
const OTHER_KID: u8 = 0xb2;
const IV: [u8; 16] = [9; 16];

fn keys() -> BTreeMap<KeyId, ContentKey> {
    [KID, OTHER_KID]
        .map(|kid| (KeyId([kid; 16]), ContentKey::new([kid ^ 0x55; 16])))
        .into()
}

/// A `tenc` or `seig`, from the pattern on.
#[derive(Clone, Copy)]
struct Told {
    pattern: u8,
    is_protected: u8,
    iv_size: u8,
    kid: u8,
    /// Bytes of constant IV; none is written for 0.
    constant_iv_size: u8,
}

const CENC: Told = Told {
    pattern: 0,
    is_protected: 1,
    iv_size: 8,
    kid: KID,
    constant_iv_size: 0,
};
const CBCS: Told = Told {
    pattern: 0x19,
    is_protected: 1,
    iv_size: 0,
    kid: KID,
    constant_iv_size: 16,
};
const CLEAR: Told = Told {
    pattern: 0,
    is_protected: 0,
    iv_size: 0,
    kid: 0,
    constant_iv_size: 0,
};

impl Told {
    fn write(&self, w: &mut BoxWriter) {
        w.u8(0);
        w.u8(self.pattern);
        w.u8(self.is_protected);
        w.u8(self.iv_size);
        w.bytes(&[self.kid; 16]);
        if self.constant_iv_size > 0 {
            w.u8(self.constant_iv_size);
            w.bytes(&IV[..usize::from(self.constant_iv_size)]);
        }
    }
}

/// VP8 pictures, protected: whatever they hold, nobody looks into them.
fn encv(scheme: &[u8; 4], told: Told) -> Vec<u8> {
    let clear = vp8(320);
    let mut w = BoxWriter::default();
    w.write_box(b"encv", |w| {
        w.bytes(&clear[8..]);
        w.write_box(b"sinf", |w| {
            w.write_box(b"frma", |w| w.bytes(b"vp08"));
            w.write_full_box(b"schm", 0, 0, |w| {
                w.bytes(scheme);
                w.u32(0x1_0000);
            });
            w.write_box(b"schi", |w| w.write_full_box(b"tenc", 1, 0, |w| told.write(w)));
        });
    });
    w.finish()
}

type Boxes<'a> = &'a dyn Fn(&mut BoxWriter, u64);

/// One track of `samples`. `boxes` go into the `traf` or `stbl`, told where `rows` lie: in front of the samples.
struct Film<'a> {
    fragmented: bool,
    entries: Vec<Vec<u8>>,
    description: u32,
    header_boxes: Boxes<'a>,
    boxes: Boxes<'a>,
    rows: Vec<u8>,
    samples: Vec<Vec<u8>>,
}

impl Film<'_> {
    fn write(&self) -> Bytes {
        let mut spec = video(&[], &[]);
        spec.entries = self.entries.clone();
        let media: usize = self.samples.iter().map(Vec::len).sum();
        let header = |rows_at: u64| {
            let mut w = BoxWriter::default();
            w.write_box(b"moov", |w| {
                write_mvhd(w);
                let mut trak = BoxWriter::default();
                write_trak(&mut trak, &spec, Form::default(), 0);
                let trak = trak.finish();
                // `stbl` ends the track, so what follows it belongs into it, `minf`, `mdia` and `trak`.
                let mut more = BoxWriter::default();
                (self.header_boxes)(&mut more, rows_at);
                if !self.fragmented {
                    self.write_tables(&mut more, rows_at + self.rows.len() as u64);
                    (self.boxes)(&mut more, rows_at);
                }
                w.bytes(&grown(&trak, &more.finish()));
                if self.fragmented {
                    w.write_box(b"mvex", |w| {
                        w.write_full_box(b"trex", 0, 0, |w| {
                            w.u32(1);
                            w.u32(1);
                            w.zeros(12);
                        });
                    });
                }
            });
            w.finish()
        };
        let fragment = |rows_at: u64| {
            let mut w = BoxWriter::default();
            w.write_box(b"moof", |w| {
                w.write_full_box(b"mfhd", 0, 0, |w| w.u32(1));
                w.write_box(b"traf", |w| {
                    w.write_full_box(b"tfhd", 0, 0x2_0002, |w| {
                        w.u32(1);
                        w.u32(self.description);
                    });
                    w.write_full_box(b"tfdt", 0, 0, |w| w.u32(0));
                    (self.boxes)(w, rows_at);
                    w.write_full_box(b"trun", 0, 0x301, |w| {
                        w.u32(self.samples.len() as u32);
                        w.u32(rows_at as u32 + self.rows.len() as u32);
                        for sample in &self.samples {
                            w.u32(40);
                            w.u32(sample.len() as u32);
                        }
                    });
                });
            });
            w.finish()
        };
        let mut file = BoxWriter::default();
        file.write_box(b"ftyp", |w| w.bytes(b"iso6\0\0\0\0iso6"));
        match self.fragmented {
            true => {
                file.bytes(&header(0));
                let size = fragment(0).len() as u64;
                file.bytes(&fragment(size + 8));
            }
            false => {
                let rows_at = file.len() as u64 + header(0).len() as u64 + 8;
                file.bytes(&header(rows_at));
            }
        }
        file.u32(8 + (self.rows.len() + media) as u32);
        file.bytes(b"mdat");
        file.bytes(&self.rows);
        self.samples.iter().for_each(|sample| file.bytes(sample));
        Bytes::from(file.finish())
    }

    fn write_tables(&self, w: &mut BoxWriter, at: u64) {
        w.write_full_box(b"stts", 0, 0, |w| {
            w.u32(1);
            w.u32(self.samples.len() as u32);
            w.u32(40);
        });
        // Chunks of two samples.
        w.write_full_box(b"stsc", 0, 0, |w| {
            w.u32(1);
            w.u32(1);
            w.u32(2);
            w.u32(self.description);
        });
        w.write_full_box(b"stsz", 0, 0, |w| {
            w.u32(0);
            w.u32(self.samples.len() as u32);
            self.samples.iter().for_each(|sample| w.u32(sample.len() as u32));
        });
        w.write_full_box(b"stco", 0, 0, |w| {
            w.u32(self.samples.len().div_ceil(2) as u32);
            let mut at = at as u32;
            for chunk in self.samples.chunks(2) {
                w.u32(at);
                at += chunk.iter().map(|sample| sample.len() as u32).sum::<u32>();
            }
        });
    }
}

/// `trak` with `more` at the end of its `stbl`, its empty tables gone.
fn grown(trak: &[u8], more: &[u8]) -> Vec<u8> {
    let mut w = BoxWriter::default();
    let mut parts: Vec<(&[u8], usize)> = Vec::new();
    let (mut at, mut end) = (0, trak.len());
    // Down the last child each time: trak, mdia, minf, stbl.
    for name in [b"trak", b"mdia", b"minf", b"stbl"] {
        let found = loop {
            let size = u32::from_be_bytes(trak[at..at + 4].try_into().unwrap()) as usize;
            if &trak[at + 4..at + 8] == name {
                break size;
            }
            at += size;
        };
        end = at + found;
        parts.push((&trak[at..], at));
        at += 8;
    }
    let stsd = u32::from_be_bytes(trak[at..at + 4].try_into().unwrap()) as usize;
    assert!(at + stsd <= end);
    let kept = at + stsd;
    w.bytes(&trak[..kept]);
    w.bytes(more);
    for (_, start) in parts {
        let size = (w.len() - start) as u32;
        w.patch_u32(start, size);
    }
    w.finish()
}

fn clear_samples() -> Vec<Vec<u8>> {
    [200usize, 33, 16, 47, 1, 160]
        .iter()
        .zip(1u8..)
        .map(|(size, seed)| {
            (0..*size)
                .map(|at| (at as u8).wrapping_mul(seed).wrapping_add(3))
                .collect()
        })
        .collect()
}

fn encrypted(
    sample: &[u8],
    scheme: ProtectionScheme,
    pattern: Pattern,
    kid: u8,
    iv: &[u8],
    subsamples: &[Subsample],
) -> Vec<u8> {
    let key = ContentKey::new([kid ^ 0x55; 16]);
    let mut whole = [0; 16];
    whole[..iv.len()].copy_from_slice(iv);
    let mut sample = sample.to_vec();
    let cipher = SampleCipher::new(scheme, pattern, &key).unwrap();
    cipher.encrypt(&whole, subsamples, &mut sample).unwrap();
    sample
}

fn iv_of(number: usize) -> [u8; 8] {
    (0x1000 + number as u64).to_be_bytes()
}

/// Clear and protected bytes of a sample: two entries where there is room.
fn map_of(sample: &[u8]) -> Vec<Subsample> {
    let size = sample.len() as u32;
    match size {
        0..40 => vec![Subsample {
            clear: 1,
            protected: size - 1,
        }],
        _ => vec![
            Subsample {
                clear: 5,
                protected: 16,
            },
            Subsample {
                clear: 7,
                protected: size - 28,
            },
        ],
    }
}

fn row(iv: &[u8], map: Option<&[Subsample]>) -> Vec<u8> {
    let mut row = iv.to_vec();
    if let Some(map) = map {
        row.extend((map.len() as u16).to_be_bytes());
        for entry in map {
            row.extend(entry.clear.to_be_bytes());
            row.extend(entry.protected.to_be_bytes());
        }
    }
    row
}

/// `cenc` samples with subsamples, and their rows.
fn mapped() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let samples = clear_samples();
    let numbered = samples.iter().enumerate();
    numbered
        .map(|(number, sample)| {
            let (iv, map) = (iv_of(number), map_of(sample));
            let bytes = encrypted(sample, ProtectionScheme::Cenc, Pattern::NONE, KID, &iv, &map);
            (bytes, row(&iv, Some(&map)))
        })
        .unzip()
}

fn senc(w: &mut BoxWriter, flags: u32, rows: &[Vec<u8>]) {
    w.write_full_box(b"senc", 0, flags, |w| {
        w.u32(rows.len() as u32);
        rows.iter().for_each(|row| w.bytes(row));
    });
}

fn none(_: &mut BoxWriter, _: u64) {}

/// What comes out of a film, decrypted, or why nothing does.
fn decrypted(file: &Bytes) -> Result<Vec<Vec<u8>>, String> {
    let found: SourceTracks = read_encrypted(file, &keys()).map_err(|error| error.to_string())?;
    let Some(track) = found.tracks.first() else {
        return Err(found.refused.iter().map(|refusal| refusal.why.clone()).collect());
    };
    let read = track.index.iter().map(|sample| {
        let mut bytes = file.read_at(sample.offset, sample.size as usize).unwrap().to_vec();
        if let Some(encryption) = &found.encryption {
            let place = [(sample.offset, sample.size)];
            encryption
                .decrypt(&keys(), place, &mut bytes)
                .map_err(|error| error.to_string())?;
        }
        Ok(bytes)
    });
    read.collect()
}

#[test]
fn senc_is_read_in_fragments_and_tables() {
    let (samples, rows) = mapped();
    for fragmented in [true, false] {
        let film = Film {
            fragmented,
            entries: vec![encv(b"cenc", CENC)],
            description: 1,
            header_boxes: &none,
            boxes: &|w, _| senc(w, 2, &rows),
            rows: Vec::new(),
            samples: samples.clone(),
        };
        assert_eq!(
            decrypted(&film.write()),
            Ok(clear_samples()),
            "fragmented: {fragmented}"
        );
        let refused = read(&film.write()).unwrap();
        let kid = KeyId([KID; 16]).hex();
        assert_eq!(refused.refused[0].why, format!("encrypted (cenc, KID {kid}): no key"));
        assert!(refused.has_encrypted);
    }
}

#[test]
fn rows_are_found_by_saiz_and_saio() {
    let (samples, rows) = mapped();
    let whole: Vec<Vec<u8>> = clear_samples()
        .iter()
        .enumerate()
        .map(|(number, sample)| encrypted(sample, ProtectionScheme::Cenc, Pattern::NONE, KID, &iv_of(number), &[]))
        .collect();
    let ivs: Vec<Vec<u8>> = (0..6).map(|number| row(&iv_of(number), None)).collect();
    for fragmented in [true, false] {
        // Of all: samples, rows, one size for all or none, one place for all or one a chunk.
        for (samples, rows, constant, is_long, chunked) in [
            (&samples, &rows, false, false, false),
            (&samples, &rows, false, true, !fragmented),
            (&whole, &ivs, true, true, false),
            (&whole, &ivs, true, false, !fragmented),
            (&whole, &ivs, false, false, false),
        ] {
            let film = Film {
                fragmented,
                entries: vec![encv(b"cenc", CENC)],
                description: 1,
                header_boxes: &none,
                boxes: &|w, at| {
                    w.write_full_box(b"saiz", 0, u32::from(is_long), |w| {
                        if is_long {
                            w.bytes(b"cenc\0\0\0\0");
                        }
                        w.u8(if constant { 8 } else { 0 });
                        w.u32(rows.len() as u32);
                        if !constant {
                            rows.iter().for_each(|row| w.u8(row.len() as u8));
                        }
                    });
                    w.write_full_box(b"saio", u8::from(is_long), 0, |w| {
                        let places: Vec<u64> = rows
                            .chunks(if chunked { 2 } else { rows.len() })
                            .scan(at, |at, chunk| {
                                let place = *at;
                                *at += chunk.iter().map(|row| row.len() as u64).sum::<u64>();
                                Some(place)
                            })
                            .collect();
                        w.u32(places.len() as u32);
                        for place in places {
                            match is_long {
                                true => w.u64(place),
                                false => w.u32(place as u32),
                            }
                        }
                    });
                },
                rows: rows.concat(),
                samples: samples.clone(),
            };
            let what = format!("fragmented {fragmented}, constant {constant}, long {is_long}, chunked {chunked}");
            assert_eq!(decrypted(&film.write()), Ok(clear_samples()), "{what}");
        }
    }
}

/// `sgpd` of `seig` groups.
fn sgpd(w: &mut BoxWriter, version: u8, groups: &[Told]) {
    w.write_full_box(b"sgpd", version, 0, |w| {
        w.bytes(b"seig");
        if version == 1 {
            w.u32(0);
        }
        w.u32(groups.len() as u32);
        for group in groups {
            if version == 1 {
                let constant = if group.constant_iv_size > 0 {
                    1 + u32::from(group.constant_iv_size)
                } else {
                    0
                };
                w.u32(20 + constant);
            }
            group.write(w);
        }
    });
}

fn sbgp(w: &mut BoxWriter, runs: &[(u32, u32)]) {
    w.write_full_box(b"sbgp", 0, 0, |w| {
        w.bytes(b"seig");
        w.u32(runs.len() as u32);
        for (count, group) in runs {
            w.u32(*count);
            w.u32(*group);
        }
    });
}

#[test]
fn groups_have_keys_and_patterns_of_their_own() {
    let clear = clear_samples();
    let other = Told { kid: OTHER_KID, ..CBCS };
    let pattern = Pattern { crypt: 1, skip: 9 };
    let cbcs = |sample: &Vec<u8>, kid| encrypted(sample, ProtectionScheme::Cbcs, pattern, kid, &IV, &[]);
    // Two samples by the track's key, one clear, two by another key; the last by the track's again.
    let samples = vec![
        cbcs(&clear[0], KID),
        cbcs(&clear[1], KID),
        clear[2].clone(),
        cbcs(&clear[3], OTHER_KID),
        cbcs(&clear[4], OTHER_KID),
        cbcs(&clear[5], KID),
    ];
    for (fragmented, version, base) in [(true, 1, 0x1_0000), (true, 0, 0), (false, 1, 0), (false, 0, 0)] {
        let groups: Boxes<'_> = &|w, _| sgpd(w, version, &[CLEAR, other]);
        let own: Boxes<'_> = &|w, at| {
            if base > 0 {
                groups(w, at);
            }
            sbgp(w, &[(2, 0), (1, base + 1), (2, base + 2)]);
        };
        let film = Film {
            fragmented,
            entries: vec![encv(b"cbcs", CBCS)],
            description: 1,
            header_boxes: if base > 0 { &none } else { groups },
            boxes: own,
            rows: Vec::new(),
            samples: samples.clone(),
        };
        assert_eq!(
            decrypted(&film.write()),
            Ok(clear.clone()),
            "fragmented {fragmented}, version {version}"
        );
    }
}

#[test]
fn a_fragment_may_be_of_a_clear_entry() {
    let film = |description, entry| Film {
        fragmented: true,
        entries: vec![encv(b"cenc", CENC), entry],
        description,
        header_boxes: &none,
        boxes: &none,
        rows: Vec::new(),
        samples: clear_samples(),
    };
    assert_eq!(decrypted(&film(2, vp8(320)).write()), Ok(clear_samples()));
    let why = decrypted(&film(1, vp8(320)).write()).unwrap_err();
    assert!(why.contains("no auxiliary information (senc, saiz)"), "{why}");
    // An entry of no known scheme in use.
    let why = decrypted(&film(2, encv(b"piff", CENC)).write()).unwrap_err();
    assert!(why.contains("encrypted (piff"), "{why}");
}

#[test]
fn what_can_not_be_decrypted_is_refused_by_name() {
    let (samples, rows) = mapped();
    let check = |entry: Vec<u8>, boxes: Boxes<'_>, expected: &str| {
        for fragmented in [true, false] {
            let film = Film {
                fragmented,
                entries: vec![entry.clone()],
                description: 1,
                header_boxes: &none,
                boxes,
                rows: Vec::new(),
                samples: samples.clone(),
            };
            let why = decrypted(&film.write()).unwrap_err();
            assert!(why.contains(expected), "fragmented {fragmented}: {why}, not {expected}");
        }
    };
    let of = |told: Told| encv(b"cenc", told);
    let right: Boxes<'_> = &|w, _| senc(w, 2, &rows);
    check(of(Told { kid: 1, ..CENC }), right, "no key");
    check(of(Told { iv_size: 7, ..CENC }), right, "IVs of 7 bytes");
    check(
        of(Told {
            is_protected: 2,
            ..CENC
        }),
        right,
        "isProtected 2",
    );
    check(of(Told { pattern: 0x19, ..CENC }), right, "pattern 1:9 in cenc");
    check(
        encv(b"cbcs", Told { pattern: 0x09, ..CBCS }),
        right,
        "pattern 0:9 in cbcs",
    );
    check(encv(b"cbcs", Told { iv_size: 8, ..CBCS }), right, "IVs of 8 bytes");
    check(
        encv(
            b"cbcs",
            Told {
                constant_iv_size: 8,
                ..CBCS
            },
        ),
        right,
        "a constant IV of 8 bytes",
    );
    check(encv(b"cbc1", Told { iv_size: 16, ..CENC }), right, "");
    check(of(CENC), &none, "no auxiliary information");
    check(of(CENC), &|w, _| senc(w, 2, &rows[..5]), "no auxiliary information");
    check(of(CENC), &|w, _| senc(w, 0, &rows), "bytes behind the last row");
    check(of(CENC), &|w, _| senc(w, 3, &rows), "flags 0x3");
    check(
        of(CENC),
        &|w, at| [right, right].iter().for_each(|boxes| boxes(w, at)),
        "a second one",
    );
    let short: Vec<Vec<u8>> = rows.iter().rev().cloned().collect();
    check(of(CENC), &|w, _| senc(w, 2, &short), "subsamples of");
    check(of(CENC), &|w, _| sbgp(w, &[(6, 3)]), "is in group 3, which is nowhere");
    check(
        of(CENC),
        &|w, _| sbgp(w, &[(6, 0x1_0001)]),
        "is in group 65537, which is nowhere",
    );
    check(
        of(CENC),
        &|w, _| w.write_full_box(b"csgp", 0, 0, |w| w.bytes(b"seig\0\0\0\0")),
        "compact groups",
    );
    check(
        of(CENC),
        &|w, _| w.write_full_box(b"saiz", 0, 0, |w| w.zeros(5)),
        "saiz without saio",
    );
    let huge: Boxes<'_> = &|w, _| {
        w.write_full_box(b"saiz", 0, 0, |w| {
            w.u8(255);
            w.u32(u32::MAX);
        });
        w.write_full_box(b"saio", 0, 0, |w| {
            w.u32(1);
            w.u32(8);
        });
    };
    check(of(CENC), huge, "bytes of auxiliary information");
}

/// Every box of `boxes` cut at every byte, and every word of it at its greatest.
fn broken(boxes: Boxes<'_>, entry: &[u8], samples: &[Vec<u8>], rows: &[u8]) {
    let mut probe = BoxWriter::default();
    boxes(&mut probe, 0);
    let size = probe.len();
    for fragmented in [true, false] {
        let check = |damage: &dyn Fn(&mut Vec<u8>)| {
            let film = Film {
                fragmented,
                entries: vec![entry.to_vec()],
                description: 1,
                header_boxes: &none,
                boxes: &|w, at| {
                    let mut own = BoxWriter::default();
                    boxes(&mut own, at);
                    let mut bytes = own.finish();
                    damage(&mut bytes);
                    w.bytes(&bytes);
                },
                rows: rows.to_vec(),
                samples: samples.to_vec(),
            };
            // Nothing panics, and what comes out has the size of its samples.
            if let Ok(read) = decrypted(&film.write()) {
                assert!(read.len() <= samples.len());
            }
        };
        for end in 0..size {
            check(&|bytes| bytes.truncate(end));
            // The last box says that it ends here.
            check(&|bytes| {
                bytes.truncate(end);
                let mut at = 0;
                while let Some(size) = bytes.get(at..at + 4) {
                    let size = u32::from_be_bytes(size.try_into().unwrap()) as usize;
                    if size < 8 || at + size > bytes.len() {
                        let left = (bytes.len() - at) as u32;
                        bytes[at..at + 4].copy_from_slice(&left.to_be_bytes());
                        break;
                    }
                    at += size;
                }
            });
            for word in [[0xff; 4], [0; 4], [0, 0, 0xff, 0xff]] {
                check(&|bytes| {
                    if let Some(place) = bytes.get_mut(end..end + 4) {
                        place.copy_from_slice(&word);
                    }
                });
            }
        }
    }
}

#[test]
fn broken_tables_of_encryption_are_survived() {
    let (samples, rows) = mapped();
    broken(&|w, _| senc(w, 2, &rows[..3]), &encv(b"cenc", CENC), &samples[..3], &[]);
    let other = Told { kid: OTHER_KID, ..CBCS };
    let groups: Boxes<'_> = &|w, _| {
        sgpd(w, 1, &[CLEAR, other]);
        sbgp(w, &[(1, 0x1_0001), (1, 0x1_0002), (1, 0)]);
    };
    broken(groups, &encv(b"cbcs", CBCS), &samples[..3], &[]);
    let sized: Boxes<'_> = &|w, at| {
        w.write_full_box(b"saiz", 0, 1, |w| {
            w.bytes(b"cenc\0\0\0\0");
            w.u8(0);
            w.u32(3);
            rows[..3].iter().for_each(|row| w.u8(row.len() as u8));
        });
        w.write_full_box(b"saio", 1, 0, |w| {
            w.u32(1);
            w.u64(at);
        });
    };
    broken(sized, &encv(b"cenc", CENC), &samples[..3], &rows[..3].concat());
    // The entry itself.
    let entry = encv(b"cbcs", CBCS);
    for at in 0..entry.len() {
        for value in [0, 0xff] {
            let mut entry = entry.clone();
            entry[at] = value;
            broken_entry(entry, &samples);
        }
        broken_entry(entry[..at].to_vec(), &samples);
    }
}

fn broken_entry(entry: Vec<u8>, samples: &[Vec<u8>]) {
    let film = Film {
        fragmented: true,
        entries: vec![entry],
        description: 1,
        header_boxes: &none,
        boxes: &none,
        rows: Vec::new(),
        samples: samples.to_vec(),
    };
    let _ = decrypted(&film.write());
}
