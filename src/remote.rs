//! Servers of others that are asked: key servers, key services, licence services, payment providers.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use control_api::outbound::{Identity, Outbound, Reach, Url, check_url};

use crate::keys::credentials::read_secret;

/// Longest certificate or file of certificates.
const PUBLIC_FILE_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Somebody else's server, as people configure it.
pub struct Remote<'a> {
    /// Its URL.
    pub url: &'a str,
    /// It may be in a private network.
    pub private_network: bool,
    /// Certificate authorities (PEM) to trust in place of the system's.
    pub ca: Option<&'a Path>,
    /// What proves us (PEM).
    pub client_certificate: Option<&'a Path>,
    /// Its private key (PEM, mode 0600).
    pub client_key: Option<&'a Path>,
}

impl Remote<'_> {
    /// What is asked there, and what asks.
    pub fn open(&self) -> anyhow::Result<(Url, Outbound)> {
        let reach = match self.private_network {
            true => Reach::Private,
            false => Reach::Public,
        };
        let url = check_url(self.url, reach).context("url")?;
        let roots = self.ca.map(read_public).transpose()?;
        let identity = match (self.client_certificate, self.client_key) {
            (None, None) => None,
            (Some(chain), Some(key)) => {
                let secret = read_secret(key).with_context(|| key.display().to_string())?;
                Some(Identity::from_pem(&read_public(chain)?, secret.as_bytes())?)
            }
            _ => bail!("client_certificate and client_key go together"),
        };
        Ok((url, Outbound::new(reach, roots.as_deref(), identity.as_ref())?))
    }
}

/// A file that everybody may read.
pub fn read_public(path: &Path) -> anyhow::Result<Vec<u8>> {
    let named = || path.display().to_string();
    let size = std::fs::metadata(path).with_context(named)?.len();
    ensure!(size <= PUBLIC_FILE_SIZE_BYTES_MAX, "{}: is too large", path.display());
    std::fs::read(path).with_context(named)
}
