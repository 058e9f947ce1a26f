//! A client's connection: HTTP/1.1 with keep-alive, whose bodies are counted and thrown away inside the kernel; over TLS,
//! once they are opened.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::net::RecvFlags;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Patience with any one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer head that is read.
const HEAD_SIZE_BYTES_MAX: usize = 32 << 10;
/// Most answers of an API fit into this.
const BUFFER_SIZE_BYTES: usize = 8 << 10;
/// Most that a TLS record holds.
const RECORD_SIZE_BYTES: usize = 16 << 10;
/// Bytes of a body thrown away at once.
const DRAIN_SIZE_BYTES: usize = 1 << 20;

/// An answer, read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Bytes of its body.
    pub size: u64,
}

/// TLS 1.3 with one cipher suite, so that whoever is asked has no choice, and the issuers in the PEM file `ca` alone.
pub fn tls_config(ca: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let named = || ca.display().to_string();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(named)? {
        roots.add(certificate.with_context(named)?)?;
    }
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let versions =
        ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth().into())
}

enum Stream {
    Plain(TcpStream),
    Sealed(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Sealed(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Stream {
    async fn send(&mut self, request: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(request).await,
            Stream::Sealed(stream) => {
                stream.write_all(request).await?;
                stream.flush().await
            }
        }
    }
}

/// One connection, opened when first needed and again after each end.
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    stream: Option<Stream>,
    buffer: Vec<u8>,
    /// Connections that had ended when the next request came, and were replaced.
    pub reopened: u64,
}

impl Client {
    /// A client of `address`, not connected yet.
    pub fn new(address: SocketAddr) -> Client {
        Client::over(address, None)
    }

    /// The same, over TLS if there are settings for it.
    pub fn over(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Client {
        Client {
            address,
            tls,
            stream: None,
            buffer: Vec::with_capacity(BUFFER_SIZE_BYTES),
            reopened: 0,
        }
    }

    /// Asks for `path` and throws the body away.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.send(path, &get(path), None).await
    }

    /// Asks for `path` and keeps the body.
    pub async fn read(&mut self, path: &str) -> anyhow::Result<(Answer, Vec<u8>)> {
        let mut body = Vec::new();
        let answer = self.send(path, &get(path), Some(&mut body)).await?;
        Ok((answer, body))
    }

    /// Sends a whole request as it is, for `path`, and puts the body into `body` or throws it away.
    pub async fn send(&mut self, path: &str, request: &[u8], mut body: Option<&mut Vec<u8>>) -> anyhow::Result<Answer> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let reused = self.stream.is_some();
            let tried = tokio::time::timeout_at(deadline.into(), self.try_once(request, body.as_deref_mut())).await;
            let failed = match tried {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => failed,
                Err(_) => {
                    self.stream = None;
                    bail!("{path}: no answer within {TIMEOUT:?}");
                }
            };
            self.stream = None;
            // RFC 9112 9.3.1: an idle connection may end at any time, and what was asked on it is asked again.
            if !(reused && failed.unanswered) {
                return Err(failed.error.context(path.to_owned()));
            }
            self.reopened += 1;
        }
    }

    async fn try_once(&mut self, request: &[u8], body: Option<&mut Vec<u8>>) -> Result<Answer, Failed> {
        let unanswered = |error: std::io::Error| Failed {
            error: error.into(),
            unanswered: true,
        };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await.map_err(unanswered)?;
                stream.set_nodelay(true).map_err(unanswered)?;
                match &self.tls {
                    None => Stream::Plain(stream),
                    Some(tls) => {
                        let name = ServerName::IpAddress(self.address.ip().into());
                        let connecting = TlsConnector::from(tls.clone()).connect(name, stream);
                        Stream::Sealed(connecting.await.context("shaking hands")?.into())
                    }
                }
            }
        };
        stream.send(request).await.map_err(unanswered)?;
        self.buffer.clear();
        let head_size = loop {
            let count = stream.read_buf(&mut self.buffer).await.map_err(|error| Failed {
                error: error.into(),
                unanswered: self.buffer.is_empty(),
            })?;
            if count == 0 {
                return Err(Failed {
                    error: anyhow::anyhow!("the connection ended before the answer"),
                    unanswered: self.buffer.is_empty(),
                });
            }
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > HEAD_SIZE_BYTES_MAX {
                return Err(anyhow::anyhow!("an answer head without end").into());
            }
        };
        let (head, rest) = self.buffer.split_at(head_size);
        let head = Head::parse(head)?;
        let mut left = head.size.saturating_sub(rest.len() as u64);
        match body {
            Some(body) => {
                body.extend_from_slice(rest);
                let mut limited = (&mut stream).take(left);
                let read = limited.read_to_end(body).await.context("reading a body")?;
                left -= read as u64;
            }
            None => left = drain(&mut stream, left).await?,
        }
        if left > 0 {
            return Err(anyhow::anyhow!("the answer ended {left} bytes early").into());
        }
        if head.keeps {
            self.stream = Some(stream);
        }
        Ok(Answer {
            status: head.status,
            size: head.size,
        })
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: load\r\n\r\n").into_bytes()
}

struct Failed {
    error: anyhow::Error,
    /// Not a byte of an answer came.
    unanswered: bool,
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Failed {
        Failed {
            error,
            unanswered: false,
        }
    }
}

struct Head {
    status: u16,
    size: u64,
    keeps: bool,
}

impl Head {
    fn parse(bytes: &[u8]) -> anyhow::Result<Head> {
        let text = std::str::from_utf8(bytes).context("an answer head that is not text")?;
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.context("an answer without a status")?;
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value.trim()))
        };
        let size = match field("content-length") {
            Some(size) => size.parse().context("content-length")?,
            None if status == 204 || status == 304 => 0,
            None => bail!("an answer without content-length"),
        };
        Ok(Head {
            status,
            size,
            keeps: !field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        })
    }
}

/// Throws `left` bytes away; how many did not come.
async fn drain(stream: &mut Stream, left: u64) -> anyhow::Result<u64> {
    match stream {
        Stream::Plain(stream) => drain_plain(stream, left).await,
        Stream::Sealed(stream) => drain_sealed(stream, left).await,
    }
}

async fn drain_sealed(stream: &mut TlsStream<TcpStream>, mut left: u64) -> anyhow::Result<u64> {
    let mut nowhere = vec![MaybeUninit::uninit(); RECORD_SIZE_BYTES];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(nowhere.len());
        let mut buffer = ReadBuf::uninit(&mut nowhere[..want]);
        std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer))
            .await
            .context("receiving a body")?;
        match buffer.filled().len() {
            0 => break,
            count => left -= count as u64,
        }
    }
    Ok(left)
}

/// Without copying them.
async fn drain_plain(stream: &TcpStream, mut left: u64) -> anyhow::Result<u64> {
    // The kernel is told a length and touches none of it.
    let mut nowhere = [MaybeUninit::<u8>::uninit(); 1 << 10];
    let mut large = Vec::new();
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(DRAIN_SIZE_BYTES);
        let target = if want <= nowhere.len() {
            &mut nowhere[..want]
        } else {
            large.resize(DRAIN_SIZE_BYTES, MaybeUninit::uninit());
            &mut large[..want]
        };
        let receive = || Ok(rustix::net::recv(stream, &mut *target, RecvFlags::TRUNC)?.1);
        match stream
            .async_io(Interest::READABLE, receive)
            .await
            .context("receiving a body")?
        {
            0 => break,
            count => left -= (count as u64).min(left),
        }
    }
    Ok(left)
}
