//! TLS settings: certificate and key from files, looked at again when they change.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ProducesTickets;

use crate::ktls::Kernel;

/// How often the files are looked at.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// A chain with its key is a few KiB.
const FILE_SIZE_BYTES_MAX: u64 = 1 << 20;
/// Certificates of a chain.
const CHAIN_LENGTH_MAX: usize = 16;

/// `[origin.tls]` as written by people.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// Address and port where TLS is spoken; that of `[origin]` itself for TLS alone.
    pub listen: String,
    /// PEM file of the certificate, the issuers after it.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// Connections are sealed by the kernel where it can (kTLS).
    #[serde(default = "yes")]
    pub kernel: bool,
}

fn yes() -> bool {
    true
}

/// The TLS settings, checked but for what is in the files.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Where TLS is spoken.
    pub listen: SocketAddr,
    /// PEM file of the certificate chain.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
    /// Connections are sealed by the kernel where it can.
    pub kernel: bool,
}

impl TlsSection {
    /// The settings, checked; else the key that is wrong and why.
    pub fn check(self) -> Result<TlsConfig, (&'static str, String)> {
        let Ok(listen) = self.listen.parse() else {
            let reason = format!("\"{}\" is not an address like 127.0.0.1:8443", self.listen);
            return Err(("tls.listen", reason));
        };
        Ok(TlsConfig {
            listen,
            certificate: self.certificate,
            key: self.key,
            kernel: self.kernel,
        })
    }
}

/// Why TLS can not be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can not be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Certificate and key are not for each other, or not for TLS.
    #[error("certificate and key: {0}")]
    Pair(#[source] rustls::Error),
    /// The cipher library gives no key for session tickets.
    #[error("session tickets: {0}")]
    Tickets(#[source] rustls::Error),
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Mark {
    fn of(path: &Path) -> Option<Mark> {
        let found = std::fs::metadata(path).ok()?;
        Some(Mark {
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

/// The certificate in force.
pub struct Tls {
    config: TlsConfig,
    kernel: Option<Kernel>,
    tickets: Arc<dyn ProducesTickets>,
    current: RwLock<Arc<ServerConfig>>,
    marks: Mutex<[Option<Mark>; 2]>,
}

impl Tls {
    /// Reads the files of `config`.
    pub fn open(config: TlsConfig) -> Result<Tls, TlsError> {
        let marks = marks(&config);
        let tickets = aws_lc_rs::Ticketer::new().map_err(TlsError::Tickets)?;
        let kernel = kernel_for(&config);
        let current = read(&config, &tickets, kernel.is_some())?;
        Ok(Tls {
            config,
            kernel,
            tickets,
            current: RwLock::new(current),
            marks: Mutex::new(marks),
        })
    }

    /// What a connection accepted now speaks.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What seals connections once hands are shaken; `None` where that is done in this process.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }

    /// Reads the files again, and keeps to what was in force if they are no good. Blocking.
    pub fn reload(&self) {
        let marks = marks(&self.config);
        match read(&self.config, &self.tickets, self.kernel.is_some()) {
            Ok(read) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
                tracing::info!(certificate = %self.config.certificate.display(), "certificate read again");
            }
            Err(error) => tracing::error!(%error, "the certificate in force is kept"),
        }
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner) = marks;
    }

    /// Reads the files again if they have changed. Blocking.
    pub fn reload_if_changed(&self) {
        let now = marks(&self.config);
        let changed = *self.marks.lock().unwrap_or_else(PoisonError::into_inner) != now;
        // One of the two may be missing for a moment while both are replaced.
        if changed && now.iter().all(Option::is_some) {
            self.reload();
        }
    }
}

/// Asks the kernel once, and says what it said.
fn kernel_for(config: &TlsConfig) -> Option<Kernel> {
    if !config.kernel {
        return None;
    }
    match Kernel::probe() {
        Ok(kernel) => {
            let ciphers: Vec<&str> = kernel.cipher_names().collect();
            tracing::info!(ciphers = %ciphers.join(", "), "TLS 1.3 is sealed by the kernel");
            Some(kernel)
        }
        Err(error) => {
            tracing::info!(%error, "TLS is sealed in this process: the kernel has none (module tls)");
            None
        }
    }
}

fn marks(config: &TlsConfig) -> [Option<Mark>; 2] {
    [Mark::of(&config.certificate), Mark::of(&config.key)]
}

fn read(config: &TlsConfig, tickets: &Arc<dyn ProducesTickets>, kernel: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |path: &Path, what: String| TlsError::Content {
        path: path.to_owned(),
        what,
    };
    let text = read_file(&config.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text)
        .take(CHAIN_LENGTH_MAX + 1)
        .collect();
    let chain = chain.map_err(|error| wrong(&config.certificate, format!("not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(&config.certificate, "holds no certificate".into()));
    }
    if chain.len() > CHAIN_LENGTH_MAX {
        let what = format!("holds more than {CHAIN_LENGTH_MAX} certificates");
        return Err(wrong(&config.certificate, what));
    }
    let mode = std::fs::metadata(&config.key).map(|found| found.mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        let what = "can be read or written by everybody: take the rights of others away".into();
        return Err(wrong(&config.key, what));
    }
    let text = zeroize::Zeroizing::new(read_file(&config.key)?);
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| wrong(&config.key, format!("holds no unencrypted private key: {error}")))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let built = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut built = built.map_err(TlsError::Pair)?;
    built.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Stateless resumption: no table of sessions that a flood could fill.
    built.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    built.ticketer = tickets.clone();
    // One ticket is enough for a player, and each costs the handshake a record.
    built.send_tls13_tickets = 1;
    // Early data can be replayed, and grants are in it.
    built.max_early_data_size = 0;
    built.enable_secret_extraction = kernel;
    Ok(Arc::new(built))
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > FILE_SIZE_BYTES_MAX {
        return Err(TlsError::Content {
            path: path.to_owned(),
            what: format!("{size} bytes are more than {FILE_SIZE_BYTES_MAX}"),
        });
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_SIZE_BYTES_MAX), &mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder with `cert.pem` and `key.pem`; removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("headwater-tls-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn renew(&self) {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
            self.write("cert.pem", &made.cert.pem(), 0o644);
            self.write("key.pem", &made.signing_key.serialize_pem(), 0o600);
        }

        fn write(&self, name: &str, text: &str, mode: u32) {
            // Replaced, as a renewal does it.
            let part = self.0.join("part");
            std::fs::write(&part, text).unwrap();
            std::fs::set_permissions(&part, std::fs::Permissions::from_mode(mode)).unwrap();
            std::fs::rename(part, self.0.join(name)).unwrap();
        }

        fn open(&self) -> Result<Tls, TlsError> {
            let section = TlsSection {
                listen: "127.0.0.1:0".into(),
                certificate: self.0.join("cert.pem"),
                key: self.0.join("key.pem"),
                kernel: true,
            };
            Tls::open(section.check().unwrap())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said() {
        let folder = Folder::new("wrong");
        let check = |change: fn(&Folder), expected: &str| {
            folder.renew();
            change(&folder);
            let said = folder.open().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(expected), "\"{said}\" does not say \"{expected}\"");
        };
        check(|_| {}, "");
        check(
            |f| drop(std::fs::remove_file(f.0.join("cert.pem"))),
            "cert.pem: No such file",
        );
        check(
            |f| drop(std::fs::remove_file(f.0.join("key.pem"))),
            "key.pem: No such file",
        );
        check(|f| f.write("cert.pem", "", 0o644), "cert.pem: holds no certificate");
        check(
            |f| f.write("key.pem", "", 0o600),
            "key.pem: holds no unencrypted private key",
        );
        check(
            |f| {
                f.write(
                    "cert.pem",
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                    0o644,
                )
            },
            "certificate and key: ",
        );
        check(
            |f| {
                let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
                f.write("key.pem", &other.signing_key.serialize_pem(), 0o600);
            },
            "certificate and key: ",
        );
        check(
            |f| {
                let key = std::fs::read_to_string(f.0.join("key.pem")).unwrap();
                f.write("key.pem", &key, 0o604);
            },
            "key.pem: can be read or written by everybody",
        );
        check(
            |f| f.write("cert.pem", &"x".repeat(2 << 20), 0o644),
            "more than 1048576",
        );
    }

    #[test]
    fn changed_files_are_read_and_bad_ones_are_not_taken() {
        let folder = Folder::new("renew");
        folder.renew();
        let tls = folder.open().unwrap();
        let first = tls.current();
        tls.reload_if_changed();
        assert!(Arc::ptr_eq(&first, &tls.current()), "nothing has changed");
        folder.renew();
        tls.reload_if_changed();
        let second = tls.current();
        assert!(!Arc::ptr_eq(&first, &second));
        folder.write("cert.pem", "no certificate", 0o644);
        tls.reload_if_changed();
        assert!(Arc::ptr_eq(&second, &tls.current()), "a bad one is in force");
        std::fs::remove_file(folder.0.join("cert.pem")).unwrap();
        tls.reload_if_changed();
        assert!(Arc::ptr_eq(&second, &tls.current()));
    }
}
