//! TLS that the kernel seals and opens (kTLS: Linux with its module `tls`). After the handshake a connection is an ordinary
//! socket again, and files leave it by `sendfile`. `linux/tls.h` is the contract; libc has no names for most of it.
//!
//! TLS 1.3 alone: all players of today speak it, and a second layout of nonces would be there for none of them.
#![allow(unsafe_code)]

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};
use zeroize::Zeroizing;

const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const TLS_GET_RECORD_TYPE: libc::c_int = 2;
const TLS_1_3_VERSION: u16 = 0x0304;
/// Record types (RFC 8446 5.1).
const ALERT: u8 = 21;
/// Alerts (RFC 8446 6): what everybody says at the end.
const CLOSE_NOTIFY: u8 = 0;
const WARNING: u8 = 1;
/// Of a nonce (RFC 8446 5.3).
const NONCE_SIZE: usize = 12;
/// More than any alert or request for a new key takes.
const CONTROL_SIZE_BYTES_MAX: usize = 256;

/// A cipher that the kernel may know, as `linux/tls.h` numbers and lays it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cipher {
    name: &'static str,
    number: u16,
    key_size: usize,
    /// So many bytes of the nonce come as its salt, behind the key.
    salt_size: usize,
}

const CIPHERS: [Cipher; 3] = [
    Cipher {
        name: "AES-128-GCM",
        number: 51,
        key_size: 16,
        salt_size: 4,
    },
    Cipher {
        name: "AES-256-GCM",
        number: 52,
        key_size: 32,
        salt_size: 4,
    },
    Cipher {
        name: "ChaCha20-Poly1305",
        number: 54,
        key_size: 32,
        salt_size: 0,
    },
];

impl Cipher {
    /// That of `secrets`, with their key and nonce.
    fn of(secrets: &ConnectionTrafficSecrets) -> Option<(Cipher, &[u8], &[u8])> {
        let [aes128, aes256, chacha] = CIPHERS;
        Some(match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (aes128, key.as_ref(), iv.as_ref()),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (aes256, key.as_ref(), iv.as_ref()),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (chacha, key.as_ref(), iv.as_ref()),
            _ => return None,
        })
    }

    /// `struct tls12_crypto_info_…`: version, cipher, nonce without its salt, key, salt, number of the next record.
    fn crypto_info(self, key: &[u8], nonce: &[u8], record: u64) -> Option<Zeroizing<Vec<u8>>> {
        if key.len() != self.key_size || nonce.len() != NONCE_SIZE {
            return None;
        }
        let (salt, rest) = nonce.split_at(self.salt_size);
        // Room for all at once: what a vector leaves behind when it grows would not be wiped.
        let mut info = Zeroizing::new(Vec::with_capacity(4 + NONCE_SIZE + key.len() + 8));
        info.extend_from_slice(&TLS_1_3_VERSION.to_ne_bytes());
        info.extend_from_slice(&self.number.to_ne_bytes());
        for part in [rest, key, salt, &record.to_be_bytes()] {
            info.extend_from_slice(part);
        }
        Some(info)
    }
}

/// What the kernel can do, found out once.
#[derive(Debug)]
pub struct Kernel {
    ciphers: Vec<Cipher>,
}

impl Kernel {
    /// Tries every cipher on a connection of this process with itself; else why there is none.
    pub fn probe() -> std::io::Result<Kernel> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut known = Vec::new();
        for cipher in CIPHERS {
            let client = TcpStream::connect(listener.local_addr()?)?;
            let (_server, _) = listener.accept()?;
            attach(client.as_fd())?;
            let info = cipher.crypto_info(&vec![0; cipher.key_size], &[0; NONCE_SIZE], 0);
            let set = |side| {
                info.as_ref()
                    .map(|info| set_option(client.as_fd(), libc::SOL_TLS, side, info))
            };
            match (set(TLS_TX), set(TLS_RX)) {
                (Some(Ok(())), Some(Ok(()))) => known.push(cipher),
                tried => tracing::debug!(cipher = cipher.name, ?tried, "the kernel does not know it"),
            }
        }
        match known.is_empty() {
            true => Err(std::io::Error::other("it knows no cipher of TLS 1.3")),
            false => Ok(Kernel { ciphers: known }),
        }
    }

    /// The names of what it knows.
    pub fn cipher_names(&self) -> impl Iterator<Item = &'static str> {
        self.ciphers.iter().map(|cipher| cipher.name)
    }

    /// True where a connection of `suite` in TLS 1.3 may be handed over.
    pub fn knows(&self, suite: rustls::SupportedCipherSuite) -> bool {
        let wanted = match suite.suite() {
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => "AES-128-GCM",
            rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => "AES-256-GCM",
            rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "ChaCha20-Poly1305",
            _ => return false,
        };
        self.cipher_names().any(|name| name == wanted)
    }
}

/// Makes `socket` one that can be handed secrets. It goes on as it was until then.
pub fn attach(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    set_option(socket, libc::SOL_TCP, libc::TCP_ULP, b"tls\0")
}

/// From now on the kernel seals what is written to `socket` and opens what comes, each from its next record on.
pub fn hand_over(socket: BorrowedFd<'_>, secrets: &ExtractedSecrets) -> std::io::Result<()> {
    for (side, (record, secrets)) in [(TLS_TX, &secrets.tx), (TLS_RX, &secrets.rx)] {
        let info = Cipher::of(secrets).and_then(|(cipher, key, nonce)| cipher.crypto_info(key, nonce, *record));
        let info = info.ok_or_else(|| std::io::Error::other("a cipher that the kernel has no name for"))?;
        set_option(socket, libc::SOL_TLS, side, &info)?;
    }
    Ok(())
}

fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &[u8]) -> std::io::Result<()> {
    let size = value.len() as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes of `value`, which outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), size) };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// What is not data in a connection that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The other side is done.
    Closed,
    /// It gives up: an alert's number.
    Alert(u8),
    /// Something that the kernel can not answer, such as the wish for a new key: a record's type.
    Other(u8),
}

impl Control {
    fn of(kind: u8, bytes: &[u8]) -> Control {
        match (kind, bytes) {
            (ALERT, [_, CLOSE_NOTIFY, ..]) => Control::Closed,
            (ALERT, [_, alert, ..]) => Control::Alert(*alert),
            _ => Control::Other(kind),
        }
    }
}

/// Room for one control message of one byte, aligned as the kernel wants it.
#[repr(align(8))]
struct Ancillary([u8; 64]);

/// Takes the record that made a read fail with `EIO`: it is not data.
pub fn receive_control(socket: BorrowedFd<'_>) -> std::io::Result<Control> {
    let mut bytes = [0; CONTROL_SIZE_BYTES_MAX];
    let mut ancillary = Ancillary([0; 64]);
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: a message header is plain numbers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = ancillary.0.len() as _;
    // SAFETY: all that `message` points to outlives the call and is as long as it says.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(received) = usize::try_from(received) else {
        return Err(std::io::Error::last_os_error());
    };
    // SAFETY: the kernel filled `message` in, and `ancillary` is still there.
    let kind = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        let found =
            !first.is_null() && (*first).cmsg_level == libc::SOL_TLS && (*first).cmsg_type == TLS_GET_RECORD_TYPE;
        found.then(|| *libc::CMSG_DATA(first))
    };
    let kind = kind.ok_or_else(|| std::io::Error::other("a record without a type"))?;
    Ok(Control::of(kind, bytes.get(..received).unwrap_or_default()))
}

/// Says that nothing follows.
pub fn send_close_notify(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    let mut alert = [WARNING, CLOSE_NOTIFY];
    let mut ancillary = Ancillary([0; 64]);
    let mut vector = libc::iovec {
        iov_base: alert.as_mut_ptr().cast(),
        iov_len: alert.len(),
    };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    // SAFETY: both compute sizes only. One byte with its header takes less than `ancillary` has.
    let (size, space) = unsafe { (libc::CMSG_LEN(1), libc::CMSG_SPACE(1)) };
    message.msg_controllen = space as _;
    // SAFETY: the first header lies at the start of `ancillary`, which has room for it and its byte.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        (*first).cmsg_level = libc::SOL_TLS;
        (*first).cmsg_type = TLS_SET_RECORD_TYPE;
        (*first).cmsg_len = size as _;
        *libc::CMSG_DATA(first) = ALERT;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: all that `message` points to outlives the call and is as long as it says.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) } {
        0.. => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use aws_lc_rs::aead;
    use rustls::crypto::aws_lc_rs::{self as provider, cipher_suite};
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite};

    use super::*;

    /// Client and server of `suite` after their handshake.
    fn shaken(suite: SupportedCipherSuite) -> (ClientConnection, ServerConnection) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let mut with_suite = provider::default_provider();
        with_suite.cipher_suites = vec![suite];
        let with_suite = Arc::new(with_suite);
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(with_suite.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut server = ServerConfig::builder_with_provider(with_suite)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        server.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.wants_write() || server.wants_write() {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            client.write_tls(&mut there).unwrap();
            server.read_tls(&mut &there[..]).unwrap();
            server.process_new_packets().unwrap();
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            client.read_tls(&mut &back[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        (client, server)
    }

    /// The kernel, as `linux/tls.h` and RFC 8446 5.2 describe it: knows a structure alone.
    struct Told {
        key: aead::LessSafeKey,
        nonce: [u8; 12],
        record: u64,
    }

    impl Told {
        fn by(info: &[u8]) -> Told {
            let number = |at: usize| u16::from_ne_bytes([info[at], info[at + 1]]);
            assert_eq!(number(0), 0x0304);
            // Sizes of nonce, key and salt.
            let (algorithm, sizes) = match number(2) {
                51 => (&aead::AES_128_GCM, [8, 16, 4]),
                52 => (&aead::AES_256_GCM, [8, 32, 4]),
                54 => (&aead::CHACHA20_POLY1305, [12, 32, 0]),
                other => panic!("cipher {other}"),
            };
            let mut rest = &info[4..];
            let [iv, key, salt] = sizes.map(|size| rest.split_off(..size).unwrap());
            assert_eq!(rest.len(), 8);
            Told {
                key: aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).unwrap()),
                nonce: [salt, iv].concat().try_into().unwrap(),
                record: u64::from_be_bytes(rest.try_into().unwrap()),
            }
        }

        fn next_nonce(&mut self) -> aead::Nonce {
            let mut nonce = self.nonce;
            for (byte, number) in nonce[4..].iter_mut().zip(self.record.to_be_bytes()) {
                *byte ^= number;
            }
            self.record += 1;
            aead::Nonce::assume_unique_for_key(nonce)
        }

        fn seal(&mut self, kind: u8, plain: &[u8]) -> Vec<u8> {
            let mut inner = [plain, &[kind]].concat();
            let size = (inner.len() + 16) as u16;
            let head = [&[23, 3, 3], &size.to_be_bytes()[..]].concat();
            let nonce = self.next_nonce();
            self.key
                .seal_in_place_append_tag(nonce, aead::Aad::from(&head), &mut inner)
                .unwrap();
            [head, inner].concat()
        }

        fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
            let (head, sealed) = record.split_at(5);
            let mut sealed = sealed.to_vec();
            let nonce = self.next_nonce();
            let opened = self
                .key
                .open_in_place(nonce, aead::Aad::from(head), &mut sealed)
                .unwrap();
            let (kind, plain) = opened.split_last().unwrap();
            (*kind, plain.to_vec())
        }
    }

    #[test]
    fn what_the_kernel_is_told_is_enough_to_go_on() {
        for suite in [
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ] {
            let (mut client, server) = shaken(suite);
            let secrets = server.dangerous_extract_secrets().unwrap();
            let told = |(record, secrets): &(u64, ConnectionTrafficSecrets)| {
                let (cipher, key, nonce) = Cipher::of(secrets).unwrap();
                let kernel = Kernel { ciphers: vec![cipher] };
                assert!(kernel.knows(suite), "{suite:?}");
                let others = CIPHERS.into_iter().filter(|other| *other != cipher);
                assert!(
                    !Kernel {
                        ciphers: others.collect()
                    }
                    .knows(suite),
                    "{suite:?}"
                );
                Told::by(&cipher.crypto_info(key, nonce, *record).unwrap())
            };
            let (mut sends, mut receives) = (told(&secrets.tx), told(&secrets.rx));
            for text in ["first", "second"] {
                let record = sends.seal(23, text.as_bytes());
                client.read_tls(&mut &record[..]).unwrap();
                client.process_new_packets().unwrap();
                let mut read = vec![0; text.len()];
                client.reader().read_exact(&mut read).unwrap();
                assert_eq!(read, text.as_bytes(), "{suite:?}");
                client.writer().write_all(text.as_bytes()).unwrap();
                let mut record = Vec::new();
                client.write_tls(&mut record).unwrap();
                assert_eq!(receives.open(&record), (23, text.as_bytes().to_vec()), "{suite:?}");
            }
            let goodbye = sends.seal(ALERT, &[WARNING, CLOSE_NOTIFY]);
            client.read_tls(&mut &goodbye[..]).unwrap();
            assert!(client.process_new_packets().unwrap().peer_has_closed());
            client.send_close_notify();
            let mut record = Vec::new();
            client.write_tls(&mut record).unwrap();
            let (kind, bytes) = receives.open(&record);
            assert_eq!(Control::of(kind, &bytes), Control::Closed);
        }
        assert_eq!(Control::of(ALERT, &[2, 40]), Control::Alert(40));
        // A new key is asked for.
        assert_eq!(Control::of(22, &[24, 0, 0, 1, 1]), Control::Other(22));
    }

    #[test]
    fn structures_are_as_long_as_the_header_says() {
        let sizes = CIPHERS.map(|cipher| {
            let info = cipher.crypto_info(&vec![1; cipher.key_size], &[2; 12], 3).unwrap();
            assert!(cipher.crypto_info(&[1; 8], &[2; 12], 3).is_none());
            info.len()
        });
        assert_eq!(sizes, [40, 56, 56]);
    }

    #[test]
    fn a_connection_goes_on_in_the_kernel() {
        if let Err(error) = Kernel::probe() {
            eprintln!("SKIPPED: the kernel seals no TLS: {error}");
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for suite in [
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ] {
            let (client, server) = shaken(suite);
            let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            attach(accepted.as_fd()).unwrap();
            hand_over(accepted.as_fd(), &server.dangerous_extract_secrets().unwrap()).unwrap();
            let mut secure = rustls::StreamOwned::new(client, socket);
            secure.write_all(b"question").unwrap();
            let mut read = [0; 8];
            accepted.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"question", "{suite:?}");
            let answer: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
            let sending = std::thread::spawn(move || {
                accepted.write_all(&answer).unwrap();
                send_close_notify(accepted.as_fd()).unwrap();
                (accepted, answer)
            });
            let mut got = Vec::new();
            secure.read_to_end(&mut got).unwrap();
            let (mut accepted, answer) = sending.join().unwrap();
            assert!(got == answer, "{suite:?}");
            secure.conn.send_close_notify();
            secure.flush().unwrap();
            let failed = accepted.read(&mut read).unwrap_err();
            assert_eq!(failed.raw_os_error(), Some(libc::EIO), "{suite:?}");
            assert_eq!(receive_control(accepted.as_fd()).unwrap(), Control::Closed, "{suite:?}");
        }
    }
}
