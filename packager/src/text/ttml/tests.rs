//! Tests of reading TTML.

use super::*;

const ROOT: &str = r##"<tt xmlns="http://www.w3.org/ns/ttml" xmlns:tts="http://www.w3.org/ns/ttml#styling" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" xmlns:ttm="http://www.w3.org/ns/ttml#metadata" xml:lang="de">"##;

fn read(inner: &str) -> Parsed {
    parse(format!("{ROOT}{inner}</tt>").as_bytes()).unwrap()
}

fn shown(parsed: &Parsed) -> Vec<(u64, u64, &str, &str)> {
    let cue = |c: &'_ Cue| (c.start_ms, c.end_ms);
    parsed
        .track
        .cues()
        .iter()
        .map(|c| (cue(c).0, cue(c).1, c.settings.as_str(), c.payload.as_str()))
        .collect()
}

/// Start, end and payload of what a body holds.
fn check(body: &str, expected: &[(u64, u64, &str)]) {
    let parsed = read(&format!("<body>{body}</body>"));
    let found: Vec<_> = shown(&parsed)
        .into_iter()
        .map(|(start, end, _, payload)| (start, end, payload))
        .collect();
    assert_eq!(found, expected, "{body}");
}

/// The payload of one paragraph.
fn check_payload(paragraph: &str, expected: &str) {
    check(
        &format!("<div><p begin='1s' end='2s'>{paragraph}</p></div>"),
        &[(1_000, 2_000, expected)],
    );
}

#[test]
fn times_are_relative_to_what_holds_them() {
    check("<div><p begin='1s' end='2s'>a</p></div>", &[(1_000, 2_000, "a")]);
    check("<div><p begin='1s' dur='2s'>a</p></div>", &[(1_000, 3_000, "a")]);
    check(
        "<div><p begin='1s' dur='2s' end='2s'>a</p></div>",
        &[(1_000, 2_000, "a")],
    );
    check(
        "<div begin='10s'><p begin='1s' end='2s'>a</p></div>",
        &[(11_000, 12_000, "a")],
    );
    check(
        "<div begin='10s' end='11500ms'><p begin='1s' end='2s'>a</p></div>",
        &[(11_000, 11_500, "a")],
    );
    check("<div begin='1s' end='3s'><p>a</p></div>", &[(1_000, 3_000, "a")]);
    check(
        "<div><div begin='1s'><div begin='2s'><p end='3s'>a</p></div></div></div>",
        &[(3_000, 6_000, "a")],
    );
    check("<p begin='1s' end='2s'>a</p>", &[(1_000, 2_000, "a")]);
}

#[test]
fn a_sequence_begins_each_child_at_the_end_of_the_one_before() {
    check(
        "<div timeContainer='seq'><p dur='1s'>a</p><p begin='1s' dur='2s'>b</p><p dur='1s'>c</p></div>",
        &[(0, 1_000, "a"), (2_000, 4_000, "b"), (4_000, 5_000, "c")],
    );
    check(
        "<div timeContainer='seq' begin='10s'><div><p end='1s'>a</p><p end='3s'>b</p></div><p end='1s'>c</p></div>",
        &[(10_000, 11_000, "a"), (10_000, 13_000, "b"), (13_000, 14_000, "c")],
    );
    check(
        "<div timeContainer='seq' end='5s'><p dur='1s'>a</p><p>b</p><p dur='1s'>never</p></div>",
        &[(0, 1_000, "a"), (1_000, 5_000, "b")],
    );
    check(
        "<p begin='1s' timeContainer='seq'><span dur='1s'>a</span> <span dur='1s'>b</span></p>",
        &[(1_000, 2_000, "a"), (2_000, 3_000, "b")],
    );
    check(
        "<div timeContainer='seq' end='20s'><div><p end='1s'>a</p></div><p end='1s'>b</p></div>",
        &[(0, 1_000, "a"), (1_000, 2_000, "b")],
    );
    check(
        "<div timeContainer='seq'><div end='5s'><p end='1s'>a</p></div><p end='1s'>b</p></div>",
        &[(0, 1_000, "a"), (5_000, 6_000, "b")],
    );
    let nested = "<div timeContainer='seq'><div timeContainer='seq'><p dur='1s'>a</p><p dur='1s'>b</p></div><p dur='1s'>c</p></div>";
    check(nested, &[(0, 1_000, "a"), (1_000, 2_000, "b"), (2_000, 3_000, "c")]);
}

#[test]
fn a_paragraph_is_cut_where_its_spans_change() {
    check(
        "<p begin='1s' end='5s'>a<span begin='1s'> b</span><span begin='2s' end='3s'> c</span></p>",
        &[
            (1_000, 2_000, "a"),
            (2_000, 3_000, "a b"),
            (3_000, 4_000, "a b c"),
            (4_000, 5_000, "a b"),
        ],
    );
    check(
        "<p><span begin='1s' end='2s'>a</span>  <span begin='3s' end='4s'>b</span></p>",
        &[(1_000, 2_000, "a"), (3_000, 4_000, "b")],
    );
    check(
        "<p begin='1s' end='3s'><span end='1s'>a</span><span begin='1s'>a</span></p>",
        &[(1_000, 3_000, "a")],
    );
    let parsed = read("<body><p xml:id='x' begin='0s' end='2s'>a<span begin='1s'>b</span></p></body>");
    assert_eq!(
        parsed
            .track
            .cues()
            .iter()
            .map(|cue| cue.id.as_str())
            .collect::<Vec<_>>(),
        ["x", ""]
    );
}

#[test]
fn white_space_collapses_unless_preserved() {
    check_payload("\n  a \t b\n  <span> c </span>  d  \n", "a b c d");
    check_payload("a<br/>b", "a\nb");
    check_payload(" a <br/> b ", "a\nb");
    check_payload("<br/>a<br/><br/>b<br/>", "a\n\u{a0}\nb");
    check_payload("<span xml:space='preserve'> a  b\n c</span>", " a  b\n c");
    check_payload(
        "a<!-- x --> b<![CDATA[<c> & ]]>&amp;&lt;&#x41;",
        "a b&lt;c&gt; &amp; &amp;&lt;A",
    );
    check_payload("a --&gt; b", "a --&gt; b");
    check_payload(
        "a<ttm:title>no</ttm:title><metadata>no</metadata><x xmlns='y'>no</x><set/>b",
        "ab",
    );
    check("<p begin='1s' end='2s'> <br/> </p>", &[]);
}

#[test]
fn spans_become_tags() {
    check_payload("<span tts:fontStyle='italic'>a</span> b", "<i>a</i> b");
    check_payload(
        "<span tts:fontWeight='bold' tts:fontStyle='oblique'>a</span>",
        "<b><i>a</i></b>",
    );
    check_payload(
        "<span tts:textDecoration='underline'>a<span tts:textDecoration='none'>b</span></span>",
        "<u>a</u>b",
    );
    check_payload(
        "<span tts:color='yellow'>a</span><span tts:color='#ffffffff'>b</span>",
        "<c.yellow>a</c>b",
    );
    check_payload(
        "<span tts:backgroundColor='blue' tts:color='red'>a<span>b</span></span>",
        "<c.red.bg_blue>ab</c>",
    );
    check_payload("<span tts:backgroundColor='black' tts:color='white'>a</span>", "a");
    check_payload("<span tts:fontStyle='italic'>a<br/>b</span>", "<i>a\nb</i>");
    check_payload(
        "<span tts:visibility='hidden'>a</span>b<span tts:display='none'>c</span>",
        "b",
    );
    let parsed = read("<body><p begin='1s' end='2s'><span tts:color='#ff8800'>a</span></p></body>");
    assert_eq!(shown(&parsed), [(1_000, 2_000, "", "<c.rgb_ff8800>a</c>")]);
    let css = "::cue(.rgb_ff8800) { color: #ff8800; }";
    assert_eq!(parsed.track.header(), [super::super::HeaderBlock::Style(css.into())]);
}

#[test]
fn styles_are_looked_up() {
    let head = "<head><styling><style xml:id='a' tts:fontStyle='italic' style='b'/>\
        <style xml:id='b' tts:fontWeight='bold' tts:fontStyle='normal' style='a'/><style xml:id='c' tts:color='red'/></styling>\
        <layout><region xml:id='r' tts:textAlign='center' style='c'/></layout></head>";
    let check = |paragraph: &str, expected: &str| {
        let parsed = read(&format!(
            "{head}<body><div begin='1s' end='2s'>{paragraph}</div></body>"
        ));
        assert_eq!(shown(&parsed), [(1_000, 2_000, "", expected)], "{paragraph}");
        parsed
    };
    check("<p style='a'>x</p>", "<b><i>x</i></b>");
    check("<p style='c b'>x</p>", "<c.red><b>x</b></c>");
    check("<p style='b' tts:fontWeight='normal'>x</p>", "x");
    check("<p region='r'>x</p>", "<c.red>x</c>");
    check("<p region='r'><span tts:color='lime'>x</span></p>", "<c.lime>x</c>");
    let parsed = check("<p region='no' style='no c'>x</p>", "<c.red>x</c>");
    let dropped: Vec<_> = parsed.dropped.iter().map(|dropped| dropped.reason).collect();
    assert_eq!(dropped, [DropReason::UndefinedReference; 2]);
}

#[test]
fn regions_become_settings() {
    let check = |region: &str, paragraph: &str, expected: &str| {
        let head = format!("<head><layout><region xml:id='r' {region}</layout></head>");
        let body = format!("<body><p region='r' begin='1s' end='2s' {paragraph}>x</p></body>");
        assert_eq!(
            shown(&read(&format!("{head}{body}"))),
            [(1_000, 2_000, expected, "x")],
            "{region} {paragraph}"
        );
    };
    let bottom = "tts:origin='10% 10%' tts:extent='80% 80%' tts:displayAlign='after' tts:textAlign='center'/>";
    check(bottom, "", "");
    check(bottom, "tts:textAlign='left'", "position:10% size:80% align:left");
    check(bottom, "tts:textAlign='end'", "position:90% size:80% align:end");
    check(
        "tts:origin='10% 70%' tts:extent='80% 5%' tts:displayAlign='after' tts:textAlign='center'/>",
        "",
        "line:75%,end",
    );
    check(
        "tts:origin='10.5% 40%' tts:extent='20% 20%'/>",
        "",
        "line:40% position:10.5% size:20% align:start",
    );
    check(
        "tts:origin='0% 0%' tts:extent='50% 20%' tts:displayAlign='center' tts:textAlign='center'/>",
        "",
        "line:10%,center position:25% size:50%",
    );
    check(
        "tts:origin='4c 3c' tts:extent='24c 3c' tts:textAlign='center'/>",
        "",
        "line:20% size:75%",
    );
    check(
        "tts:origin='-5% -5%' tts:extent='900% 900%' tts:textAlign='center'/>",
        "",
        "line:0%",
    );
    check("tts:displayAlign='before' tts:textAlign='center'/>", "", "line:0");
    check("tts:writingMode='tbrl' tts:textAlign='center'/>", "", "vertical:rl");
    check("tts:origin='auto' tts:extent='80%'/>", "", "");
    check(
        "tts:textAlign='center'><style tts:origin='10% 10%'/><style tts:extent='80% 10%'/></region>",
        "",
        "line:10%",
    );
}

#[test]
fn ruby_is_kept() {
    let container = |inner: &str| format!("a <span tts:ruby='container'> {inner} </span> b");
    check_payload(
        &container("<span tts:ruby='base'>x</span> <span tts:ruby='text'>y</span>"),
        "a <ruby>x<rt>y</rt></ruby> b",
    );
    check_payload(
        &container("<span tts:ruby='text'>y</span><span tts:ruby='base'>x</span>"),
        "a <ruby>x<rt>y</rt></ruby> b",
    );
    check_payload(
        &container("<span tts:ruby='base'>x</span><span tts:ruby='delimiter'>(</span>"),
        "a x b",
    );
    check_payload(&container("<span tts:ruby='text'>y</span>"), "a b");
    let two = "<span tts:ruby='baseContainer'><span tts:ruby='base'>x</span> <span tts:ruby='base'>z</span></span>\
        <span tts:ruby='textContainer'><span tts:ruby='text'>1</span> <span tts:ruby='text'>2</span></span>";
    check_payload(&container(two), "a <ruby>x<rt>1</rt>z<rt>2</rt></ruby> b");
}

#[test]
fn what_is_left_out_is_counted() {
    let check = |body: &str, cue_count: usize, expected: &[(u64, DropReason)]| {
        let parsed = read(&format!("\n<body>\n{body}</body>"));
        assert_eq!(parsed.track.cues().len(), cue_count, "{body}");
        let found: Vec<_> = parsed
            .dropped
            .iter()
            .map(|dropped| (dropped.line, dropped.reason))
            .collect();
        assert_eq!(found, expected, "{body}");
    };
    check(
        "<p begin='x' end='2s'>a</p>\n<p begin='1s' end='2s'>b</p>",
        1,
        &[(3, DropReason::BadTimes)],
    );
    check(
        "<div begin='x'><p begin='y'>a</p></div>",
        0,
        &[(3, DropReason::BadTimes)],
    );
    check("<p begin='1s'>a<br/>b</p>", 0, &[(3, DropReason::NoEnd)]);
    check("<p begin='2s' end='1s'>a</p>", 0, &[(3, DropReason::EndsBeforeStart)]);
    check(
        "<p begin='1s' end='99999999999h'>a</p>",
        0,
        &[(3, DropReason::TimeOutOfRange)],
    );
    check("<p begin='1s' end='2s'></p><p></p>", 0, &[]);
}

#[test]
fn what_cannot_be_read_is_refused_with_its_reason() {
    let check = |text: &str, expected: &str| {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}\n{error}");
    };
    check("", "xml at offset 0: document has no element");
    check("text", "xml at offset 0: text outside the root element");
    check(
        "<!DOCTYPE tt [<!ENTITY a 'b'>]><tt xmlns='http://www.w3.org/ns/ttml'/>",
        "xml at offset 0: document types are refused",
    );
    check(
        &format!("{ROOT}&lol;</tt>"),
        "xml at offset 193: reference to an unknown entity",
    );
    check(
        &format!("{ROOT}<body>"),
        "xml at offset 199: document ends inside an element",
    );
    check(
        &format!("{ROOT}</tt><tt/>"),
        "xml at offset 198: document has more than one root",
    );
    check("<tt xmlns='http://www.w3.org/ns/ttml'></x>", "xml at offset");
    check("<tt xmlns='http://www.w3.org/ns/ttml' a></tt>", "xml at offset 0: ");
    check(
        "<ttx xmlns='http://www.w3.org/ns/ttml'/>",
        "ttml at offset 0: root is not the tt element",
    );
    check(
        "<tt xmlns='http://example.com/'/>",
        "ttml at offset 0: root is not the tt element",
    );
    check(&"<tt>".repeat(65), "xml at offset 256: elements are nested too deep");
    let many: String = (0..200).map(|n| format!(" a{n}=''")).collect();
    check(
        &format!("<tt{many}/>"),
        "xml at offset 0: element has too many attributes",
    );
    let tt = |attributes: &str| ROOT.replace("xml:lang", &format!("{attributes} xml:lang")) + "</tt>";
    check(&tt("ttp:timeBase='clock'"), "ttml at offset 0: timeBase clock");
    check(&tt("ttp:frameRate='0'"), "ttml at offset 0: frameRate");
    check(
        &tt("ttp:profile='http://www.w3.org/ns/ttml/profile/imsc1/image'"),
        "ttml at offset 0: image subtitles",
    );
    check(
        &format!("{ROOT}<body><div smpte:backgroundImage='x'/></body></tt>"),
        "ttml at offset 199: image subtitles",
    );
    check(
        &format!("{ROOT}<body><div><image src='x'/></div></body></tt>"),
        "ttml at offset 204: image subtitles",
    );
    assert_eq!(
        parse(b"<tt>\xFF</tt>"),
        Err(TextError::BadEncoding {
            encoding: "UTF-8",
            offset: 4
        })
    );
}

#[test]
fn utf16_and_drafts_are_read() {
    let text = "\u{feff}<?xml version='1.0' encoding='UTF-16'?><tt xmlns='http://www.w3.org/2006/10/ttaf1'><body><div><p begin='1s' end='2s'>é</p></div></body></tt>";
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let parsed = parse(&bytes).unwrap();
    assert_eq!(
        (shown(&parsed), parsed.encoding),
        (vec![(1_000, 2_000, "", "é")], super::super::Encoding::Utf16Be)
    );
}

#[test]
fn work_that_grows_with_the_square_is_refused() {
    let spans: String = (0..30_000).map(|n| format!("<span begin='{n}s'>x</span>")).collect();
    let text = format!("{ROOT}<body><p end='40000s'>{spans}</p></body></tt>");
    let error = parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("changes too often"), "{error}");
    let parts = "<br/>".repeat(70_000);
    let error = parse(format!("{ROOT}<body><p end='4s'>{parts}</p></body></tt>").as_bytes())
        .unwrap_err()
        .to_string();
    assert!(error.contains("too many parts"), "{error}");
    let chain: String = (0..50_000)
        .map(|n| format!("<style xml:id='s{n}' style='s{} s{}'/>", n + 1, n + 2))
        .collect();
    let text = format!("{ROOT}<head><styling>{chain}</styling></head><body><p style='s0' end='4s'>a</p></body></tt>");
    assert_eq!(parse(text.as_bytes()).unwrap().track.cues().len(), 1);
}
