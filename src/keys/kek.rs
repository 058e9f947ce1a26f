//! Key encryption key, as its file says: the key itself, an `age` identity, or where a key service has it.

use std::path::{Path, PathBuf};

use origin::keys::{FileKek, KekProvider, KeyStoreError};
use packager::crypto::wrap::{Secret32, WrapError};

/// What opens a vault. Its file is read each time: so secrets are in memory only while they are used.
#[derive(Clone, Debug)]
pub struct Kek {
    path: PathBuf,
}

/// What the origin opens its vault with.
pub fn open(path: &Path) -> Box<dyn KekProvider> {
    Box::new(Kek::new(path))
}

impl Kek {
    /// What this file says.
    pub fn new(path: &Path) -> Kek {
        Kek { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(not(feature = "control"))]
    fn provider(&self) -> Result<Box<dyn KekProvider>, KeyStoreError> {
        Ok(Box::new(FileKek::new(&self.path)))
    }

    #[cfg(feature = "control")]
    fn provider(&self) -> Result<Box<dyn KekProvider>, KeyStoreError> {
        elsewhere::provider(&self.path, FileKek::new(&self.path))
    }
}

impl KekProvider for Kek {
    fn kek_id(&self) -> Result<String, KeyStoreError> {
        self.provider()?.kek_id()
    }

    fn wrap(&self, tenant_key: &Secret32) -> Result<Vec<u8>, KeyStoreError> {
        self.provider()?.wrap(tenant_key)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Result<Secret32, WrapError>, KeyStoreError> {
        self.provider()?.unwrap(wrapped)
    }
}

#[cfg(feature = "control")]
mod elsewhere {
    //! Keys that are not in the file itself.

    use std::path::{Path, PathBuf};

    use anyhow::Context;
    use control_api::kek::age::AgeIdentity;
    use control_api::kek::transit::TransitKey;
    use control_api::kek::{KekError, Opened};
    use origin::keys::{FileKek, KekProvider, KeyStoreError};
    use packager::crypto::wrap::{Secret32, WrapError};
    use serde::Deserialize;

    use crate::keys::credentials::{Secret, read_secret, without_secrets};
    use crate::remote::Remote;

    /// A key service, as written by people.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ServiceFile {
        #[allow(dead_code)]
        service: Service,
        url: String,
        #[serde(default = "mount")]
        mount: String,
        key: String,
        token: Secret,
        #[serde(default)]
        private_network: bool,
        ca: Option<PathBuf>,
        client_certificate: Option<PathBuf>,
        client_key: Option<PathBuf>,
    }

    /// Contracts of key services.
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Service {
        Transit,
    }

    fn mount() -> String {
        "transit".to_owned()
    }

    pub(super) fn provider(path: &Path, file: FileKek) -> Result<Box<dyn KekProvider>, KeyStoreError> {
        // A plain key has the plain key's errors: no file, a wrong mode.
        let Ok(text) = read_secret(path) else {
            return Ok(Box::new(file));
        };
        if AgeIdentity::is_one(&text) {
            let identity = AgeIdentity::parse(&text).map_err(|error| failed(path, &error.into()))?;
            return Ok(Box::new(Age(identity)));
        }
        if text.contains("service") {
            let key = transit(path, &text).map_err(|error| failed(path, &error))?;
            return Ok(Box::new(Transit(key)));
        }
        Ok(Box::new(file))
    }

    fn failed(path: &Path, error: &anyhow::Error) -> KeyStoreError {
        let reason = format!("{}: {error:#}", path.display());
        KeyStoreError::Provider { reason }
    }

    fn transit(path: &Path, text: &str) -> anyhow::Result<TransitKey> {
        let file: ServiceFile = toml::from_str(text).map_err(|error| without_secrets(text, &error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let beside = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
        let (ca, chain, key) = (
            beside(&file.ca),
            beside(&file.client_certificate),
            beside(&file.client_key),
        );
        let remote = Remote {
            url: &file.url,
            private_network: file.private_network,
            ca: ca.as_deref(),
            client_certificate: chain.as_deref(),
            client_key: key.as_deref(),
        };
        let (url, outbound) = remote.open()?;
        TransitKey::new(url, &file.mount, &file.key, file.token.0.clone(), outbound).context("mount and key")
    }

    fn told(error: KekError) -> KeyStoreError {
        KeyStoreError::Provider {
            reason: error.to_string(),
        }
    }

    struct Age(AgeIdentity);

    impl KekProvider for Age {
        fn kek_id(&self) -> Result<String, KeyStoreError> {
            Ok(self.0.kek_id())
        }

        fn wrap(&self, tenant_key: &Secret32) -> Result<Vec<u8>, KeyStoreError> {
            self.0.wrap(tenant_key).map_err(told)
        }

        fn unwrap(&self, wrapped: &[u8]) -> Result<Result<Secret32, WrapError>, KeyStoreError> {
            Ok(self.0.unwrap(wrapped))
        }
    }

    struct Transit(TransitKey);

    impl KekProvider for Transit {
        fn kek_id(&self) -> Result<String, KeyStoreError> {
            Ok(self.0.kek_id())
        }

        fn wrap(&self, tenant_key: &Secret32) -> Result<Vec<u8>, KeyStoreError> {
            wait(self.0.wrap(tenant_key))?.map_err(told)
        }

        fn unwrap(&self, wrapped: &[u8]) -> Result<Result<Secret32, WrapError>, KeyStoreError> {
            let opened: Result<Opened, KekError> = wait(self.0.unwrap(wrapped))?;
            opened.map_err(told)
        }
    }

    /// Waits for an answer on a thread of its own: the caller may be one of a runtime's.
    fn wait<T: Send>(answer: impl Future<Output = T> + Send) -> Result<T, KeyStoreError> {
        let ended = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .ok()?;
                Some(runtime.block_on(answer))
            });
            thread.join().ok().flatten()
        });
        ended.ok_or_else(|| KeyStoreError::Provider {
            reason: "can not be asked from here".to_owned(),
        })
    }
}
