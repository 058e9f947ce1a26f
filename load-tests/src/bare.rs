//! A server that does nothing but receive and send: what a request costs on a machine before anybody has looked at it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};

/// The largest answer.
const SIZE_BYTES_MAX: usize = 64 << 20;
/// Of a head that does not end.
const HEAD_SIZE_BYTES_MAX: usize = 64 << 10;

/// Answers every request for `/N` with N bytes, on one thread, for ever. Of a request the first number is read and nothing
/// else; an answer is one call.
pub async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("{listen}"))?;
    println!("bare: {}", listener.local_addr()?);
    let known = Rc::new(std::cell::RefCell::new(VecDeque::new()));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let known = known.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = answer(&stream, &known).await {
                eprintln!("bare: {error:#}");
            }
        });
    }
}

/// Answers by their size; the newest few.
type Known = std::cell::RefCell<VecDeque<(usize, Rc<[u8]>)>>;

async fn answer(stream: &TcpStream, known: &Known) -> anyhow::Result<()> {
    let mut buffer = vec![0; HEAD_SIZE_BYTES_MAX];
    let mut filled = 0;
    loop {
        stream.readable().await?;
        match stream.try_read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => return Ok(()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let head = buffer.get(..filled).unwrap_or_default();
        if !head.ends_with(b"\r\n\r\n") {
            anyhow::ensure!(
                filled < HEAD_SIZE_BYTES_MAX,
                "a head of over {HEAD_SIZE_BYTES_MAX} bytes"
            );
            continue;
        }
        let answer = prepared(known, wanted(head).context("a request that is not for /N")?);
        filled = 0;
        let mut rest = &answer[..];
        while !rest.is_empty() {
            match stream.try_write(rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// N of `GET /N …`.
fn wanted(head: &[u8]) -> Option<usize> {
    let digits = head.strip_prefix(b"GET /")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let size = std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()?;
    (size <= SIZE_BYTES_MAX).then_some(size)
}

/// The answer of `size` bytes.
fn prepared(known: &Known, size: usize) -> Rc<[u8]> {
    let mut known = known.borrow_mut();
    if let Some((_, answer)) = known.iter().find(|(known, _)| *known == size) {
        return answer.clone();
    }
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + size, b'x');
    let answer: Rc<[u8]> = answer.into();
    known.push_front((size, answer.clone()));
    known.truncate(4);
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_size_is_asked_for() {
        assert_eq!(wanted(b"GET /4096 HTTP/1.1\r\n\r\n"), Some(4_096));
        assert_eq!(wanted(b"GET /0 HTTP/1.1\r\n\r\n"), Some(0));
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET /x",
            "POST /1 ",
            "GET /99999999999 HTTP/1.1\r\n\r\n",
            "GET /1",
        ] {
            assert_eq!(wanted(head.as_bytes()), None, "{head}");
        }
    }

    #[tokio::test]
    async fn every_request_gets_as_many_bytes_as_it_names() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, client) = tokio::join!(listener.accept(), connecting);
        let (stream, mut client) = (accepted.unwrap().0, client.unwrap());
        let known = Known::default();
        let asking = async move {
            for size in [3_usize, 3, 200_000] {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
                // A head in two parts.
                client
                    .write_all(format!("GET /{size} HTTP/1.1\r\n").as_bytes())
                    .await
                    .unwrap();
                client.write_all(b"\r\n").await.unwrap();
                let mut got = vec![0; head.len() + size];
                client.read_exact(&mut got).await.unwrap();
                assert!(got.starts_with(head.as_bytes()) && got.ends_with(b"xxx"), "{size}");
            }
        };
        let (answered, ()) = tokio::join!(answer(&stream, &known), asking);
        answered.unwrap();
        assert_eq!(known.borrow().len(), 2);
    }
}
