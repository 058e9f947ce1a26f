//! Malformed and two-faced requests: each must have one meaning or none.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::{self, END_HEADERS, END_STREAM, frame, kind};

/// How long a server may take to make up its mind about one of these.
const PATIENCE: Duration = Duration::from_secs(20);
/// What would be answered 200 if a body were taken for a request.
const SMUGGLED: &str = "GET /healthz HTTP/1.1\r\nhost: smuggled\r\n\r\n";

/// A connection's bytes.
struct Case {
    name: String,
    bytes: Vec<u8>,
    /// Answers 200 that may come at most.
    good_max: usize,
}

/// Sends every case to `address`, one connection each; what went wrong.
pub async fn probe(address: SocketAddr) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        match exchange(address, &case.bytes).await {
            Err(error) => wrong.push(format!("{}: {error}", case.name)),
            Ok(answer) if case.bytes.starts_with(b"PRI") => {
                if let Some(status) = h2_server_error(&answer) {
                    wrong.push(format!("{}: answered {status}", case.name));
                }
            }
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer);
                let statuses: Vec<&str> = text
                    .split("HTTP/1.")
                    .skip(1)
                    .filter_map(|answer| answer.get(2..5))
                    .collect();
                if statuses.iter().any(|status| status.starts_with('5')) {
                    wrong.push(format!("{}: answered {statuses:?}", case.name));
                }
                let good = statuses.iter().filter(|status| **status == "200").count();
                if good > case.good_max {
                    let most = case.good_max;
                    wrong.push(format!("{}: {good} answers 200, at most {most} is right", case.name));
                }
            }
        }
    }
    (cases.len(), wrong)
}

/// Sends `bytes` and reads until the server closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        // The server may have closed already: what it answered still counts.
        let _sent = stream.write_all(bytes).await;
        let _closed = stream.shutdown().await;
        let mut answer = Vec::new();
        let _reset = stream.take(1 << 20).read_to_end(&mut answer).await;
        std::io::Result::Ok(answer)
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Ok(answer) => Ok(answer?),
        Err(_) => anyhow::bail!("still open after {PATIENCE:?}"),
    }
}

/// A status of 500 and above among HTTP/2 frames: indexed (RFC 7541 appendix A: 14 is `:status 500`).
fn h2_server_error(mut bytes: &[u8]) -> Option<&'static str> {
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let size = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = rest.get(..size)?;
        if head[3] == kind::HEADERS && payload.first() == Some(&0x8e) {
            return Some("500");
        }
        bytes = rest.get(size..)?;
    }
    None
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    http1(&mut cases);
    http2(&mut cases);
    cases
}

fn http1(cases: &mut Vec<Case>) {
    let mut add = |name: &str, good_max: usize, text: String| {
        cases.push(Case {
            name: name.to_owned(),
            bytes: text.into_bytes(),
            good_max,
        });
    };
    let get = |fields: &str, body: &str| format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}");
    let chunked = "transfer-encoding: chunked\r\n";
    // Two lengths, or two ways to tell one (RFC 9112 6.3).
    add(
        "content-length and chunked",
        1,
        get(
            &format!("content-length: 6\r\n{chunked}"),
            &format!("0\r\n\r\n{SMUGGLED}"),
        ),
    );
    add(
        "chunked and content-length",
        1,
        get(
            &format!("{chunked}content-length: 100\r\n"),
            &format!("0\r\n\r\n{SMUGGLED}"),
        ),
    );
    for (a, b) in [("0", "43"), ("43", "0"), ("5", "6")] {
        let fields = format!("content-length: {a}\r\ncontent-length: {b}\r\n");
        add("two lengths", 1, get(&fields, SMUGGLED));
        add(
            "two lengths in one",
            1,
            get(&format!("content-length: {a}, {b}\r\n"), SMUGGLED),
        );
    }
    for value in [
        "+0",
        "-0",
        "-1",
        "0x0",
        "0 0",
        "0,",
        ",0",
        "00000000000000000000043",
        "18446744073709551616",
        "1e1",
        "",
        " ",
        "0;x",
        "\"0\"",
        "4 3",
        "0_0",
        "NaN",
        "٤",
    ] {
        add(
            &format!("content-length {value:?}"),
            2,
            get(&format!("content-length: {value}\r\n"), SMUGGLED),
        );
    }
    // Codings that some take for chunked and others do not.
    for value in [
        "chunked, identity",
        "identity, chunked",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;q=1",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "cow",
        "gzip, chunked",
        "CHUNKED",
        "\tchunked",
        "chunked\t",
        "\x0bchunked",
        "chunked\0",
        "identity",
    ] {
        add(
            &format!("transfer-encoding {value:?}"),
            1,
            get(
                &format!("transfer-encoding: {value}\r\ncontent-length: 5\r\n"),
                &format!("0\r\n\r\n{SMUGGLED}"),
            ),
        );
    }
    for name in [
        "transfer-encoding ",
        " transfer-encoding",
        "transfer_encoding",
        "transfer-encoding\t",
        "\ttransfer-encoding",
        "x: y\ntransfer-encoding",
        "x: y\rtransfer-encoding",
    ] {
        add(
            &format!("field name {name:?}"),
            2,
            get(
                &format!("{name}: chunked\r\ncontent-length: 5\r\n"),
                &format!("0\r\n\r\n{SMUGGLED}"),
            ),
        );
    }
    // Chunks whose size or end is in doubt (RFC 9112 7.1).
    for chunk in [
        "g\r\n",
        "-1\r\nx\r\n",
        "0x1\r\nx\r\n",
        "1 \r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "1\nx\n0\n\n",
        "ffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "1;a=\"\r\nx\r\n0\r\n\r\n",
        "1\r\nx0\r\n\r\n",
        "0\r\nx: y\r\nz",
        "0\r\n\rX",
        "1\r\nx\r\n0\r\ncontent-length: 9\r\n\r\n",
        "\r\n1\r\nx\r\n0\r\n\r\n",
        "00000000000000000000001\r\nx\r\n0\r\n\r\n",
    ] {
        add(
            &format!("chunk {chunk:?}"),
            2,
            get(chunked, &format!("{chunk}{SMUGGLED}")),
        );
    }
    add(
        "endless chunk extension",
        1,
        get(chunked, &format!("1;{}", "x".repeat(100_000))),
    );
    add(
        "endless trailers",
        1,
        get(chunked, &format!("0\r\n{}", "x: y\r\n".repeat(20_000))),
    );
    // Old and foreign versions.
    for line in [
        "GET /healthz HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n",
        "GET /healthz\r\n",
        "GET /healthz HTTP/0.9\r\n",
        "GET /healthz HTTP/1.2\r\nhost: a\r\n",
        "GET /healthz HTTP/2.0\r\nhost: a\r\n",
        "GET /healthz HTTP/9.9\r\n",
        "GET /healthz http/1.1\r\nhost: a\r\n",
        "GET  /healthz HTTP/1.1\r\nhost: a\r\n",
        "GET /healthz HTTP/1.1 \r\nhost: a\r\n",
        "GET\t/healthz\tHTTP/1.1\r\nhost: a\r\n",
        " GET /healthz HTTP/1.1\r\nhost: a\r\n",
        "GET /healthz HTTP/1.1\nhost: a\n",
        "GET /healthz HTTP/1.1\rhost: a\r",
        "\r\n\r\nGET /healthz HTTP/1.1\r\nhost: a\r\n",
        "G\0T /healthz HTTP/1.1\r\nhost: a\r\n",
        "GET /health\0z HTTP/1.1\r\nhost: a\r\n",
        "GET healthz HTTP/1.1\r\nhost: a\r\n",
        "GET * HTTP/1.1\r\nhost: a\r\n",
        "GET http://b/healthz HTTP/1.1\r\nhost: a\r\n",
        "CONNECT b:1 HTTP/1.1\r\nhost: a\r\n",
        "TRACE / HTTP/1.1\r\nhost: a\r\n",
        "PRI / HTTP/1.1\r\nhost: a\r\n",
        "GET /%zz HTTP/1.1\r\nhost: a\r\n",
        "GET /\u{e9} HTTP/1.1\r\nhost: a\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n",
        "GET /healthz HTTP/1.1\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a b\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nx\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\n: x\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nx y: z\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nx: \x01\x02\x7f\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nexpect: magic\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n",
        "HEAD /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 43\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: content-length\r\ncontent-length: 43\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\nrange: bytes=0-0,1-1,2-2,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-\r\n",
    ] {
        add(&format!("head {line:?}"), 2, format!("{line}\r\n{SMUGGLED}"));
    }
    add(
        "one field too long",
        0,
        get(&format!("x: {}\r\n", "y".repeat(100_000)), ""),
    );
    add("too many fields", 0, get(&"x: y\r\n".repeat(5_000), ""));
    add(
        "a path too long",
        0,
        format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(100_000)),
    );
    add("nothing", 0, String::new());
    add("empty lines alone", 0, "\r\n".repeat(10_000));
    add("zeros", 0, "\0".repeat(10_000));
    add(
        "a TLS hello",
        0,
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{7c}\x03\x03".into(),
    );
}

fn http2(cases: &mut Vec<Case>) {
    let mut add = |name: &str, parts: &[Vec<u8>]| {
        cases.push(Case {
            name: format!("HTTP/2: {name}"),
            bytes: [frames::OPENING, &parts.concat()].concat(),
            good_max: 0,
        });
    };
    let ended = END_STREAM | END_HEADERS;
    let get = |stream| frame(kind::HEADERS, ended, stream, &frames::request("/healthz"));
    add("an even stream", &[get(2)]);
    add("stream 0", &[get(0)]);
    add("streams backwards", &[get(5), get(3)]);
    add("the same stream twice", &[get(1), get(1)]);
    add("DATA on an idle stream", &[frame(kind::DATA, 0, 7, b"x")]);
    add("DATA after the end", &[get(1), frame(kind::DATA, 0, 1, &[0; 100])]);
    add(
        "CONTINUATION of nothing",
        &[frame(kind::CONTINUATION, END_HEADERS, 1, b"")],
    );
    let open = frame(kind::HEADERS, END_STREAM, 1, &frames::request("/healthz"));
    add("HEADERS between HEADERS and CONTINUATION", &[open.clone(), get(3)]);
    add(
        "PING between HEADERS and CONTINUATION",
        &[open.clone(), frame(kind::PING, 0, 0, &[0; 8])],
    );
    let more = frame(kind::CONTINUATION, 0, 1, &frames::field("x", &"y".repeat(8_000)));
    add("CONTINUATION without end", &[open.clone(), more.repeat(500)]);
    add(
        "empty CONTINUATION without end",
        &[open, frame(kind::CONTINUATION, 0, 1, b"").repeat(20_000)],
    );
    add("settings of 5 bytes", &[frame(kind::SETTINGS, 0, 0, &[0; 5])]);
    add("settings on a stream", &[frame(kind::SETTINGS, 0, 1, &[0; 6])]);
    add(
        "a window of 2^31",
        &[frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])],
    );
    add("a frame size of 0", &[frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 0])]);
    add(
        "settings without end",
        &[frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]).repeat(20_000)],
    );
    add("pings without end", &[frame(kind::PING, 0, 0, &[7; 8]).repeat(20_000)]);
    add("a ping of 7 bytes", &[frame(kind::PING, 0, 0, &[0; 7])]);
    add("a window update of 0", &[frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])]);
    add(
        "a window beyond 2^31",
        &[frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)],
    );
    add("a frame too large", &[frame(kind::DATA, 0, 1, &vec![0; 100_000])]);
    add("a frame of unknown type", &[frame(0xbe, 0xff, 0, &[1; 100]), get(1)]);
    add(
        "RST_STREAM of an idle stream",
        &[frame(kind::RST_STREAM, 0, 9, &[0, 0, 0, 8])],
    );
    add("GOAWAY on a stream", &[frame(kind::GOAWAY, 0, 1, &[0; 8])]);
    for (name, block) in [
        (
            "no path",
            [frames::field(":method", "GET"), frames::field(":scheme", "http")].concat(),
        ),
        (
            "two paths",
            [frames::request("/healthz"), frames::field(":path", "/")].concat(),
        ),
        (
            "an upper-case field",
            [frames::request("/healthz"), frames::field("X", "y")].concat(),
        ),
        (
            "a connection field",
            [frames::request("/healthz"), frames::field("connection", "close")].concat(),
        ),
        (
            "transfer-encoding",
            [
                frames::request("/healthz"),
                frames::field("transfer-encoding", "chunked"),
            ]
            .concat(),
        ),
        (
            "a line feed in a value",
            [frames::request("/healthz"), frames::field("x", "y\r\nz: 1")].concat(),
        ),
        (
            "a length that lies",
            [frames::request("/healthz"), frames::field("content-length", "5")].concat(),
        ),
        ("an index beyond the table", vec![0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("an integer without end", vec![0xff; 100]),
        ("a text cut short", vec![0, 0x7f, 0xff]),
        ("a table size beyond its bound", vec![0x3f, 0xff, 0xff, 0xff, 0x7f]),
        (
            "a pseudo field of answers",
            [frames::request("/healthz"), frames::field(":status", "200")].concat(),
        ),
        ("a path with a NUL", frames::request("/health\0z")),
        (
            "a list of 1 MiB",
            [frames::request("/healthz"), frames::field("x", &"y".repeat(15_000))].concat(),
        ),
    ] {
        add(name, &[frame(kind::HEADERS, ended, 1, &block), get(3)]);
    }
    add(
        "padding longer than the frame",
        &[frame(kind::HEADERS, ended | 0x8, 1, &[0xff, 0x82])],
    );
    add("rubbish", &[vec![0xa5; 10_000]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_and_all_have_a_name() {
        let cases = cases();
        assert!(cases.len() >= 100, "{}", cases.len());
        let mut names: Vec<_> = cases.iter().map(|case| (&case.name, &case.bytes)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cases.len());
    }

    #[test]
    fn server_errors_are_found_among_frames() {
        let bad = [frame(kind::SETTINGS, 0, 0, b""), frame(kind::HEADERS, 4, 1, &[0x8e])].concat();
        assert_eq!(h2_server_error(&bad), Some("500"));
        let good = [frame(kind::SETTINGS, 0, 0, b""), frame(kind::HEADERS, 4, 1, &[0x88])].concat();
        assert_eq!(h2_server_error(&good), None);
        assert_eq!(h2_server_error(&bad[..bad.len() - 1]), None);
    }
}
