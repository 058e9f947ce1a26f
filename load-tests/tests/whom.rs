//! Whom the load is for: an origin that is not there, or has no such title, is named before anything is measured.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

/// What a run of one second says of what went wrong.
fn refusal(address: SocketAddr, media: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_load-tests"))
        .args([
            "run",
            "--seconds",
            "1",
            "--address",
            &address.to_string(),
            "--media",
            media,
        ])
        .output()
        .expect("the program runs");
    assert_eq!(out.status.code(), Some(1));
    String::from_utf8(out.stderr).expect("text")
}

#[test]
fn an_origin_that_is_not_there_is_named() {
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let said = refusal(address, "film");
    assert!(said.contains(&address.to_string()), "{said}");
}

#[test]
fn a_title_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
            while lines.next().is_some_and(|line| !line.expect("a head").is_empty()) {}
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                .expect("sent");
        }
    });
    let said = refusal(address, "no-such-film");
    assert!(said.contains("no-such-film") && said.contains("404"), "{said}");
}
