//! A vendor's server on loopback that answers as it is told and keeps what it was asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }

    /// Names of all headers, in order of the alphabet.
    pub fn names(&self) -> Vec<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut names: Vec<_> = lines.map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        names
    }
}

/// How to answer one request.
#[derive(Clone)]
pub enum Say {
    /// A status and a body.
    Reply(u16, Vec<u8>),
    /// These very bytes, and the end.
    Raw(Vec<u8>),
    /// Nothing, for this long.
    Silence(Duration),
    /// A body that never ends.
    Flood,
}

pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// Answers requests in the order of `script`; further ones like the last.
    pub fn start(script: Vec<Say>) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let keep = seen.clone();
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let say = script.get(at).or(script.last()).cloned();
                let (Ok(stream), Some(say)) = (stream, say) else { return };
                let keep = keep.clone();
                std::thread::spawn(move || answer(stream, &say, &keep));
            }
        });
        Upstream { address, seen }
    }

    pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Upstream {
        Upstream::start(vec![Say::Reply(status, body.into())])
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request there was.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

fn answer(mut stream: TcpStream, say: &Say, keep: &Mutex<Vec<Seen>>) {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes).unwrap();
    let (line, head) = text.split_once("\r\n").unwrap();
    let mut seen = Seen {
        line: line.to_owned(),
        head: head.to_owned(),
        body: Vec::new(),
    };
    let size = seen.header("content-length").map_or(0, |size| size.parse().unwrap());
    seen.body = vec![0; size];
    stream.read_exact(&mut seen.body).unwrap();
    keep.lock().unwrap().push(seen);
    match say {
        Say::Reply(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
        Say::Raw(bytes) => {
            let _ = stream.write_all(bytes);
        }
        Say::Silence(time) => std::thread::sleep(*time),
        Say::Flood => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
            while stream.write_all(&chunk).is_ok() {}
        }
    }
}
