//! Key periods as playlists, MPDs and ciphers have them.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::dash::mpd;
use crate::hls::{media, multivariant};
use crate::index::{IndexWriter, NewSample, TrackIndex};
use crate::isobmff::fixture;
use crate::presentation::choice::MediaChoice;
use crate::presentation::{Content, NewPresentation, NewRepresentation, clip};
use crate::segment::SegmentTarget;
use crate::text::{Cue, TextTrack};
use crate::time::Timescale;
use crate::track::{MediaDescription, Track};

const CBCS: Form = Form::CmafProtected(ProtectionScheme::Cbcs);
const CENC: Form = Form::CmafProtected(ProtectionScheme::Cenc);

fn index(scale: u32, count: u32, duration: u32, gop: u32) -> TrackIndex {
    let mut writer = IndexWriter::new(Timescale::new(scale).unwrap());
    for at in 0..count {
        let sample = NewSample {
            offset: u64::from(at) * 1_000,
            size: 1_000,
            duration,
            composition_offset: 0,
            sync: at % gop == 0,
        };
        writer.push(sample).unwrap();
    }
    writer.finish(0).unwrap()
}

fn video(height: u32, seconds: u32, gop: u32) -> Content {
    let mut description = fixture::video();
    if let MediaDescription::Video(video) = &mut description.media {
        (video.width, video.height) = (height * 16 / 9, height);
    }
    let index = index(90_000, seconds * 25, 3_600, gop);
    Content::Samples(Track { description, index })
}

fn audio(seconds: u32) -> Content {
    let description = fixture::audio();
    let index = index(48_000, (seconds * 48_000).div_ceil(1024), 1024, 1);
    Content::Samples(Track { description, index })
}

fn text() -> Content {
    let cue = Cue {
        start_ms: 1_000,
        end_ms: 9_000,
        id: String::new(),
        settings: String::new(),
        payload: "hello".into(),
    };
    Content::Cues(TextTrack::new(Vec::new(), vec![cue]))
}

fn presentation(contents: Vec<Content>) -> Presentation {
    let tracks = contents.into_iter().map(|content| NewRepresentation {
        source: 0,
        content,
        language: "en".into(),
        label: None,
        roles: Vec::new(),
        default: false,
    });
    let new = NewPresentation {
        title: "film".into(),
        tracks: tracks.collect(),
        refused: Vec::new(),
        target: SegmentTarget::from_millis(4_000).unwrap(),
        hls: Default::default(),
    };
    Presentation::assemble(new).unwrap()
}

/// 40 s in segments of 4 s: two videos, sound, text.
fn film() -> Presentation {
    presentation(vec![video(720, 40, 50), video(360, 40, 50), audio(40), text()])
}

/// Pictures and sound have a key each in every period; sound keeps its first one in the second.
fn schedule(presentation: &Presentation, starts_ms: &[u64], clear_lead_ms: u64) -> KeySchedule {
    let key = |period: usize, id: &str| {
        let (class, period) = match id.as_bytes()[0] {
            b'a' => (0xa0, if period == 1 { 0 } else { period }),
            _ => (0x10, period),
        };
        SignalledKey::unchecked(KeyId([class + period as u8; 16]))
    };
    let ids = || presentation.representations.iter().map(|rep| rep.id.clone());
    let periods = starts_ms.iter().enumerate().map(|(period, starts_ms)| NewKeyPeriod {
        starts_ms: *starts_ms,
        keys: ids().map(|id| (id.clone(), key(period, &id))).collect(),
    });
    KeySchedule {
        periods: periods.collect(),
        clear_lead_ms,
        naming: KeyNaming::Header,
    }
}

fn systems() -> DrmSystems {
    DrmSystems {
        clear_key: Some(crate::crypto::signal::ClearKey {
            key_url: Some("../../key/{kid}".into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn protection(presentation: &Presentation, form: Form, starts_ms: &[u64], clear_lead_ms: u64) -> Protection {
    let schedule = schedule(presentation, starts_ms, clear_lead_ms);
    Protection::new(presentation, form, &systems(), &schedule).unwrap()
}

/// Start in milliseconds, and the set of keys; `-` where it is clear.
fn periods(protection: &Protection) -> String {
    let periods = protection.cut.periods.iter().map(|period| {
        let start = period.start.to_millis(crate::time::Rounding::Nearest);
        match period.set {
            Some(set) => format!("{start}:{set}"),
            None => format!("{start}:-"),
        }
    });
    periods.collect::<Vec<_>>().join(" ")
}

#[test]
fn periods_begin_at_the_boundary_at_or_after_their_start() {
    let film = film();
    let check = |starts_ms: &[u64], clear_lead_ms, expected: &str| {
        let made = protection(&film, CBCS, starts_ms, clear_lead_ms);
        assert_eq!(periods(&made), expected, "{starts_ms:?} {clear_lead_ms}");
        for rep in &film.representations {
            let mut next = 1;
            for (period, begun) in made.periods().enumerate() {
                let segments = made.segments(rep, SegmentList::Media, period);
                assert_eq!(segments.start, next, "{} {period}", rep.id);
                next = segments.end;
                for number in segments {
                    assert_eq!(made.period_of(rep, SegmentList::Media, number), period);
                    let segment = rep.segments.get(number).unwrap();
                    let start = MediaTime::new(segment.start as i64, rep.segments.timescale());
                    let apart = |time: MediaTime| time.to_millis(crate::time::Rounding::Nearest);
                    assert!(apart(start) + 25 >= apart(begun.start()), "{} {number}", rep.id);
                }
            }
            assert_eq!(next as usize, rep.segments.segments().len() + 1);
        }
    };
    check(&[0], 0, "0:0");
    check(&[0, 8_000], 0, "0:0 8000:1");
    check(&[0, 8_001], 0, "0:0 8000:1");
    check(&[0, 8_002], 0, "0:0 12000:1");
    check(&[0, 1], 0, "0:0 4000:1");
    check(&[0, 4_000, 4_100, 7_999, 36_000], 0, "0:0 4000:1 8000:3 36000:4");
    // Past the last boundary there is nothing to encrypt.
    check(&[0, 8_000, 36_002], 0, "0:0 8000:1");
    check(&[0, u64::MAX], 0, "0:0");
    // The first is the beginning's, whatever it says.
    check(&[3_000, 8_000], 0, "0:0 8000:1");
    // A clear lead hides what it covers, and never covers all.
    check(&[0, 8_000], 3_000, "0:- 4000:0 8000:1");
    check(&[0, 8_000], 7_000, "0:- 8000:1");
    check(&[0, 8_000], 9_000, "0:- 12000:1");
    check(&[0, 8_000], 36_002, "0:0 8000:1");
    check(&[0], u64::MAX, "0:0");
}

#[test]
fn parts_keep_the_times_of_the_whole() {
    let film = film();
    let check = |(start_s, segment_s): (u64, Option<u32>), form, expected: &str| {
        let whole = protection(&film, form, &[0, 8_000, 21_000], 5_000);
        let choice = MediaChoice {
            start_ms: start_s * 1_000,
            end_ms: None,
            segment_s,
        };
        let part = clip::derive(&film, &choice, form).unwrap();
        let begins = clip::beginning(&film, choice.start_ms, form);
        let begins_ms = begins.to_millis(crate::time::Rounding::Nearest) as u64;
        assert_eq!(
            periods(&whole.of_part(&part, begins_ms)),
            expected,
            "{start_s} {segment_s:?}"
        );
    };
    check((0, None), CBCS, "0:- 8000:1 24000:2");
    check((0, Some(2)), CBCS, "0:- 6000:0 8000:1 22000:2");
    // Keys of the second period begin 5 s behind the start; the first boundary there is the whole's at 10 s.
    check((3, Some(2)), CBCS, "0:- 3000:0 5000:1 19000:2");
    check((8, None), CBCS, "0:1 16000:2");
    check((30, None), CBCS, "0:2");
    check((3, Some(2)), Form::TsAes128, "0:- 4000:0 6000:1 20000:2");
}

/// The tags and URIs of a playlist, without its head and EXTINF.
fn lines(playlist: Vec<u8>) -> Vec<String> {
    let text = String::from_utf8(playlist).unwrap();
    let kept = text.lines().filter(|line| {
        line.starts_with("#EXT-X-KEY")
            || line.starts_with("#EXT-X-MAP")
            || line.starts_with("#EXT-X-DISC")
            || !line.starts_with('#')
    });
    let short = |line: &str| {
        let line = line.split(",KEYFORMAT").next().unwrap_or(line);
        line.replace("data:text/plain;base64,", "").replace("0000000-", "-")
    };
    kept.map(short).collect()
}

#[test]
fn playlists_change_tags_and_header_where_the_key_changes() {
    let film = film();
    let rep = |id| film.representation(id).unwrap();
    let made = protection(&film, CENC, &[0, 8_000, 16_000], 0);
    let only = |lines: Vec<String>| -> Vec<String> { lines.into_iter().take_while(|line| line != "6.m4s").collect() };
    let licence = |name: u8| {
        use base64::Engine as _;
        let name = base64::engine::general_purpose::STANDARD.encode([name; 16]);
        format!("#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI=\"{name}\"")
    };
    let identity = |name: u8| {
        format!(
            "#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI=\"../../key/{}\"",
            KeyId([name; 16])
        )
    };
    let map = |name: &str| format!("#EXT-X-MAP:URI=\"{name}\"");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let begin = |name: u8, header: &str| vec![licence(name), identity(name), map(header)];
    let expected = [
        begin(0x10, "init.mp4"),
        names(&["1.m4s", "2.m4s"]),
        begin(0x11, "init-2.mp4"),
        names(&["3.m4s", "4.m4s"]),
        begin(0x12, "init-3.mp4"),
        names(&["5.m4s"]),
    ];
    assert_eq!(
        only(lines(media::render_protected(rep("v1"), &made))),
        expected.concat()
    );
    // Sound keeps its key over the second period, and its header with it.
    let expected = [
        begin(0xa0, "init.mp4"),
        names(&["1.m4s", "2.m4s", "3.m4s", "4.m4s"]),
        begin(0xa2, "init-3.mp4"),
        names(&["5.m4s"]),
    ];
    assert_eq!(
        only(lines(media::render_protected(rep("a1"), &made))),
        expected.concat()
    );
    assert_eq!(made.headers(rep("v1")), [0, 1, 2]);
    assert_eq!(made.headers(rep("a1")), [0, 2]);
    assert_eq!(made.headers(rep("t1")), [0]);
    let text = lines(media::render_protected(rep("t1"), &made));
    assert!(text.iter().all(|line| !line.starts_with('#')), "{text:?}");

    // One frame every 2 s.
    let trick = lines(media::render_protected_trick(rep("v1"), &made));
    let expected = [
        begin(0x10, "init.mp4"),
        names(&["iframe-1.m4s", "iframe-2.m4s", "iframe-3.m4s", "iframe-4.m4s"]),
        begin(0x11, "init-2.mp4"),
        names(&["iframe-5.m4s"]),
    ];
    assert_eq!(trick[..11], expected.concat());

    let session = String::from_utf8(multivariant::render_protected(&film, &made, "")).unwrap();
    let session: Vec<&str> = session.lines().filter(|line| line.contains("SESSION-KEY")).collect();
    // Three keys of pictures and two of sound, each once.
    assert_eq!(session.len(), 5, "{session:?}");
}

#[test]
fn a_clear_lead_is_under_no_key() {
    let film = film();
    let rep = |id| film.representation(id).unwrap();
    let head = |form, id| {
        let made = protection(&film, form, &[0], 4_000);
        lines(media::render_protected(rep(id), &made))
    };
    let cmaf = head(CBCS, "v1");
    assert_eq!(
        cmaf[..3],
        ["#EXT-X-KEY:METHOD=NONE", "#EXT-X-MAP:URI=\"init.mp4\"", "1.m4s"]
    );
    assert!(cmaf[3].starts_with("#EXT-X-KEY:METHOD=SAMPLE-AES,URI="), "{}", cmaf[3]);
    assert_eq!(cmaf[4..6], ["#EXT-X-MAP:URI=\"init-2.mp4\"", "2.m4s"]);
    let ts = head(Form::TsAes128, "v1");
    assert_eq!(ts[..2], ["#EXT-X-KEY:METHOD=NONE", "1.ts"]);
    assert!(ts[2].starts_with("#EXT-X-KEY:METHOD=AES-128,URI="), "{}", ts[2]);
    assert!(ts[4].starts_with("#EXT-X-KEY:METHOD=AES-128,URI="), "{}", ts[4]);
    let ts = head(Form::TsSampleAes, "v1");
    assert_eq!(ts[..2], ["#EXT-X-KEY:METHOD=NONE", "1.ts"]);
    assert!(ts[2].starts_with("#EXT-X-KEY:METHOD=SAMPLE-AES,URI="), "{}", ts[2]);
    assert_eq!(ts[3..5], ["2.ts", "3.ts"]);
    let made = protection(&film, CBCS, &[0], 4_000);
    for id in ["v1", "a1"] {
        assert!(made.track_at(rep(id), SegmentList::Media, 1).unwrap().is_none());
        assert!(made.track_at(rep(id), SegmentList::Media, 2).unwrap().is_some());
    }
    assert!(made.track_at(rep("v1"), SegmentList::Trick, 2).unwrap().is_none());
    assert!(made.track_at(rep("v1"), SegmentList::Trick, 3).unwrap().is_some());
}

#[test]
fn what_has_no_key_in_some_period_is_refused() {
    let film = film();
    let mut schedule = schedule(&film, &[0, 8_000], 0);
    schedule.periods[1].keys.remove("v2");
    let error = Protection::new(&film, CBCS, &systems(), &schedule).unwrap_err();
    let missing = ProtectionError::MissingKey {
        representation: "v2".into(),
        form: CBCS,
    };
    assert_eq!(error, missing);
    for count in [0, KEY_PERIOD_COUNT_MAX + 1] {
        let one = schedule.periods[0].clone();
        schedule.periods = vec![one; count.max(1)];
        schedule.periods.truncate(count);
        let error = Protection::new(&film, CBCS, &systems(), &schedule).unwrap_err();
        assert_eq!(error, ProtectionError::PeriodCount(count));
        schedule = super::tests::schedule(&film, &[0], 0);
    }
}

/// Attribute `name` of each `element`, in order.
fn attributes(xml: &str, element: &str, name: &str) -> Vec<String> {
    let tags = xml
        .split('<')
        .filter(|tag| tag.split([' ', '>', '/']).next() == Some(element));
    tags.map(|tag| {
        let value = tag.split_once(&format!(" {name}=\""));
        value
            .map_or("-", |(_, rest)| rest.split('"').next().unwrap())
            .to_owned()
    })
    .collect()
}

#[test]
fn each_key_period_is_a_period_of_the_mpd() {
    let film = film();
    let made = protection(&film, CBCS, &[0, 8_000, 16_000], 0);
    let render = |addressing| {
        let options = mpd::Options {
            addressing,
            ..Default::default()
        };
        String::from_utf8(mpd::render_protected(&film, "", &options, &made)).unwrap()
    };
    let xml = render(mpd::Addressing::TimelineNumber);
    assert_eq!(
        attributes(&xml, "Period", "start"),
        ["PT0S", "PT8.000000S", "PT16.000000S"]
    );
    assert_eq!(
        attributes(&xml, "Period", "duration"),
        ["PT8.000000S", "PT8.000000S", "PT24.000000S"]
    );
    let parts: Vec<&str> = xml.split("<Period ").collect();
    let tracks = |part: usize, name| attributes(parts[part], "SegmentTemplate", name);
    // Two videos, their frames, sound, text.
    assert_eq!(tracks(1, "presentationTimeOffset"), ["-"; 6]);
    assert_eq!(
        tracks(2, "presentationTimeOffset"),
        ["720000", "720000", "720000", "720000", "384000", "8000"]
    );
    assert_eq!(tracks(2, "startNumber"), ["3", "3", "5", "5", "3", "3"]);
    assert_eq!(
        tracks(2, "initialization"),
        [
            "v1/init-2.mp4",
            "v2/init-2.mp4",
            "v1/init-2.mp4",
            "v2/init-2.mp4",
            "a1/init.mp4",
            "t1/init.mp4"
        ]
    );
    assert_eq!(tracks(3, "initialization")[4], "a1/init-3.mp4");
    assert_eq!(
        attributes(parts[2], "S", "t"),
        ["720000", "720000", "720000", "720000", "384000", "-", "8000"]
    );
    assert_eq!(
        attributes(parts[1], "AdaptationSet", "id"),
        attributes(parts[3], "AdaptationSet", "id")
    );
    let keys: Vec<String> = attributes(&xml, "ContentProtection", "cenc:default_KID");
    let keys: Vec<&str> = keys.iter().filter(|key| *key != "-").map(|key| &key[..2]).collect();
    assert_eq!(keys, ["10", "10", "a0", "11", "11", "a0", "12", "12", "a2"]);
    // What has the same header goes on: sound and text, not pictures; in the third only text.
    let continuity = |part: usize| parts[part].matches("period-continuity:2015").count();
    assert_eq!([continuity(1), continuity(2), continuity(3)], [0, 2, 1]);

    let xml = render(mpd::Addressing::Number);
    let parts: Vec<&str> = xml.split("<Period ").collect();
    assert_eq!(attributes(parts[2], "SegmentTemplate", "duration")[0], "360000");
    assert_eq!(attributes(parts[2], "SegmentTemplate", "startNumber")[0], "3");
    let xml = render(mpd::Addressing::TimelineTime);
    assert!(xml.contains("v1/t$Time$.m4s"));

    // One Period needs none of that.
    let made = protection(&film, CBCS, &[0], 0);
    let xml = String::from_utf8(mpd::render_protected(&film, "", &mpd::Options::default(), &made)).unwrap();
    assert!(
        !xml.contains("AssetIdentifier") && !xml.contains("presentationTimeOffset"),
        "{xml}"
    );
    assert_eq!(attributes(&xml, "Period", "start"), ["PT0S"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// B20: over a whole rotated presentation, and over parts of it, no initialisation vector meets a key twice, unless it
    /// is for the very same sample; so no counter block does, since the block counter has the other eight bytes.
    #[test]
    fn no_counter_block_is_used_twice(
        starts in prop::collection::btree_set(1u64..40_000, 0..6),
        lead in prop::sample::select(vec![0u64, 5_000, 13_000]),
        gops in prop::sample::select(vec![25u32, 50, 37]),
        clip_start in prop::sample::select(vec![0u64, 7_000, 20_500]),
        form in prop::sample::select(vec![CENC, CBCS, Form::CmafProtected(ProtectionScheme::Cens), Form::CmafProtected(ProtectionScheme::Cbc1), Form::TsAes128]),
    ) {
        let film = presentation(vec![video(720, 40, gops), video(360, 40, gops), audio(40)]);
        let starts: Vec<u64> = [0].into_iter().chain(starts).collect();
        let whole = protection(&film, form, &starts, lead);
        let choice = MediaChoice { start_ms: clip_start, end_ms: None, segment_s: Some(2) };
        let part = clip::derive(&film, &choice, form).unwrap();
        let begins = clip::beginning(&film, clip_start, form).to_millis(crate::time::Rounding::Nearest);
        let of_part = whole.of_part(&part, begins as u64);
        // (key, vector) to what is encrypted with it.
        let mut used: BTreeMap<(KeyId, [u8; 16]), String> = BTreeMap::new();
        let mut count = 0;
        for (of, protection) in [(&film, &whole), (&part, &of_part)] {
            for rep in &of.representations {
                let lists = [
                    (SegmentList::Media, rep.segments.segments().iter().map(|s| s.samples.clone()).collect::<Vec<_>>()),
                    (SegmentList::Trick, rep.trick_frames.iter().map(|f| f.sample_index..f.sample_index + 1).collect()),
                ];
                for (list, ranges) in lists {
                    for (samples, number) in ranges.into_iter().zip(1u32..) {
                        let Some(track) = protection.track_at(rep, list, number).unwrap() else { continue };
                        let mut note = |iv: [u8; 16], what: String| {
                            count += 1;
                            let before = used.insert((track.key_id, iv), what.clone());
                            prop_assert!(before.as_ref().is_none_or(|before| *before == what), "{before:?} and {what}");
                            Ok(())
                        };
                        match track.encryption {
                            None => note(track.segment_iv(list, number), format!("{} {} {list:?} {number}", of.version, rep.id))?,
                            // Its vector is constant (ISO/IEC 23001-7 9.2).
                            Some(encryption) if encryption.iv_size() == 0 => {
                                note(encryption.iv(0), rep.id.clone())?;
                            }
                            Some(encryption) => for sample in samples {
                                let source = rep.first_source_sample + sample;
                                let iv = encryption.iv(source);
                                prop_assert!(encryption.iv_size() == 16 || iv[8..] == [0; 8]);
                                note(iv, format!("{} {source}", rep.id))?;
                            }
                        }
                    }
                }
            }
        }
        prop_assert!(count > 20);
    }
}

/// Where a box lies in `bytes`, looked for by its name.
fn payload<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    let at = bytes.windows(4).position(|four| four == name)?;
    let size = u32::from_be_bytes(bytes[at - 4..at].try_into().unwrap()) as usize;
    Some(&bytes[at + 4..at - 4 + size])
}

#[test]
fn fragments_name_their_key_where_that_is_asked_for() {
    use crate::isobmff::fragment::{self, SegmentPosition};
    use crate::isobmff::init::{InitFacts, protected_header};
    use crate::isobmff::protection::FragmentCipher;
    let film = presentation(vec![audio(40)]);
    let rep = film.representation("a1").unwrap();
    let track = rep.track().unwrap();
    let check = |form, naming, sizes: Option<usize>| {
        let schedule = KeySchedule {
            naming,
            ..schedule(&film, &[0, 8_000], 0)
        };
        let made = Protection::new(&film, form, &systems(), &schedule).unwrap();
        let encryption = made.period(1).track(rep).unwrap().encryption.unwrap();
        let key = crate::crypto::ContentKey::new([7; 16]);
        let cipher = FragmentCipher::new(&track.description, &encryption, &key).unwrap();
        let range = rep.segments.get(3).unwrap().samples.clone();
        let mut media = vec![5; track.index.size_bytes(range.clone()) as usize];
        let auxiliary = cipher.encrypt(&track.index, range.clone(), 0, &mut media).unwrap();
        let header = fragment::protected_header(&track.index, range.clone(), 3, SegmentPosition::Inner, &auxiliary);
        let group = payload(&header, b"sgpd");
        assert_eq!(group.map(<[u8]>::len), sizes, "{form:?} {naming:?}");
        // The row of the first sample is where `saio` says, from the start of the `moof`.
        let moof = header.windows(4).position(|four| four == b"moof").unwrap() - 4;
        if let Some(saio) = payload(&header, b"saio") {
            let offset = u32::from_be_bytes(saio[8..12].try_into().unwrap()) as usize;
            assert_eq!(
                header[moof + offset..moof + offset + 8],
                encryption.iv(range.start)[..8]
            );
        }
        let Some(group) = group else { return };
        let init = protected_header(&track.description, InitFacts::of(&track.index), &encryption, &[]);
        // B19: what the group says is what `tenc` says, pattern and all.
        assert_eq!(group[16..], payload(&init, b"tenc").unwrap()[4..]);
        let samples = payload(&header, b"sbgp").unwrap();
        assert_eq!(samples[4..8], *b"seig");
        let count = (range.end - range.start).to_be_bytes();
        assert_eq!((&samples[12..16], &samples[16..20]), (&count[..], &[0, 1, 0, 1][..]));
    };
    check(CENC, KeyNaming::Header, None);
    check(CENC, KeyNaming::Fragments, Some(16 + 20));
    check(CBCS, KeyNaming::Header, None);
    check(CBCS, KeyNaming::Fragments, Some(16 + 37));
}

#[test]
fn output_rules_stand_in_manifests() {
    let film = presentation(vec![video(720, 8, 50), video(360, 8, 50), audio(8)]);
    let rules: OutputRules = serde_json::from_str(
        r#"{"HD": {"hdcp_level": "TYPE-1", "allowed_cpc": ["com.example:HW", "com.other:A/B"]}, "SD": {"hdcp_level": "NONE"}}"#,
    )
    .unwrap();
    let variants = |form| {
        let made = protection(&film, form, &[0], 0).with_outputs(rules.clone());
        let text = String::from_utf8(multivariant::render_protected(&film, &made, "")).unwrap();
        let lines = text.lines().filter(|line| line.contains("STREAM-INF"));
        let ends = lines.map(|line| {
            let (_, rest) = line.split_once(",HDCP-LEVEL=").unwrap();
            rest.split(",STABLE").next().unwrap().to_owned()
        });
        ends.collect::<Vec<_>>()
    };
    let hd = "TYPE-1,ALLOWED-CPC=\"com.example:HW,com.other:A/B\"";
    assert_eq!(variants(CBCS), [hd, "NONE", hd, "NONE"]);
    assert_eq!(variants(Form::TsAes128), ["TYPE-1", "NONE", "TYPE-1", "NONE"]);
    let made = protection(&film, CBCS, &[0], 4_000).with_outputs(rules.clone());
    let xml = String::from_utf8(mpd::render_protected(&film, "", &mpd::Options::default(), &made)).unwrap();
    // Of the second Period, the pictures of the larger video and its frames.
    assert_eq!(attributes(&xml, "OutputProtection", "value"), ["2.2"; 2]);
    let part = xml.split("<Period ").nth(1).unwrap();
    assert!(!part.contains("OutputProtection"));
}
