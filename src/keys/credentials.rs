//! Credentials file: which encryptors may have keys, and what proves them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use control_api::key_exchange::content_key_api::{Signer, SigningKey};
use control_api::key_exchange::delivery::{DeliveryKey, Recipient};
use control_api::key_exchange::speke::DeliveryPolicy;
use control_api::key_exchange::{Client, ClientSecret, Credentials, Signals};
use packager::crypto::vault::{parse_content_key, parse_kek};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::check_tenant;

/// Longest file that is read.
const SIZE_BYTES_MAX: u64 = 1 << 20;
/// Shorter secrets can be guessed: what is kept of them is a fast hash.
const SECRET_SIZE_BYTES_MIN: usize = 16;

/// A value that is wiped when dropped and can not be printed.
#[derive(Deserialize)]
#[serde(from = "String")]
pub struct Secret(pub Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileSection {
    /// Private key that documents brought to us are encrypted to.
    private_key: Option<PathBuf>,
    client: Vec<ClientSection>,
    signer: Vec<SignerSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientSection {
    name: String,
    tenant: String,
    api_key: Option<Secret>,
    user: Option<String>,
    password: Option<Secret>,
    /// Keys may be sent in the clear, or to any certificate in a request.
    #[serde(default)]
    clear_keys: bool,
    /// Certificates (PEM) that keys may be encrypted to.
    #[serde(default)]
    recipients: Vec<PathBuf>,
    /// It may bring keys.
    #[serde(default)]
    may_import: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignerSection {
    name: String,
    tenant: String,
    aes_key: Secret,
    aes_iv: Secret,
    #[serde(default)]
    policies: Vec<String>,
}

/// Reads the credentials file. Files it names are looked for beside it.
pub fn read(path: &Path) -> anyhow::Result<Credentials> {
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&read_secret(path)?, folder)
}

fn parse(text: &str, folder: &Path) -> anyhow::Result<Credentials> {
    let file: FileSection = toml::from_str(text).map_err(|error| without_secrets(text, &error))?;
    ensure!(
        !file.client.is_empty() || !file.signer.is_empty(),
        "has neither a [[client]] nor a [[signer]]"
    );
    let mut known = BTreeSet::new();
    let mut credentials = Credentials::default();
    for section in &file.client {
        let named = || format!("client {}", section.name);
        let client = client_of(section, folder).with_context(named)?;
        let secret = section.api_key.as_ref().or(section.password.as_ref());
        let secret = (&section.user, secret.map(|secret| secret.0.as_str()));
        ensure!(
            known.insert(secret),
            "client {}: has another client's secret",
            section.name
        );
        credentials.clients.push(client);
    }
    let mut names = BTreeSet::new();
    for section in &file.signer {
        ensure!(names.insert(&section.name), "signer {}: is there twice", section.name);
        let signer = signer_of(section).with_context(|| format!("signer {}", section.name))?;
        credentials.signers.push(signer);
    }
    if let Some(path) = &file.private_key {
        credentials.delivery_key = Some(read_delivery_key(&folder.join(path))?);
    }
    Ok(credentials)
}

fn client_of(section: &ClientSection, folder: &Path) -> anyhow::Result<Client> {
    ensure!(!section.name.is_empty(), "has no name");
    check_tenant(&section.tenant)?;
    let secret = match (&section.api_key, &section.user, &section.password) {
        (Some(Secret(key)), None, None) => {
            check_secret("api_key", key)?;
            ClientSecret::api_key(key)
        }
        (None, Some(user), Some(Secret(password))) => {
            check_secret("password", password)?;
            ensure!(!user.is_empty() && !user.contains(':'), "user is empty or has a colon");
            ClientSecret::basic(user, password)
        }
        _ => bail!("has either api_key or user and password"),
    };
    let recipients = section.recipients.iter().map(|path| read_recipient(&folder.join(path)));
    Ok(Client {
        name: section.name.clone(),
        tenant: section.tenant.clone(),
        secret,
        delivery: DeliveryPolicy {
            clear_keys: section.clear_keys,
            recipients: recipients.collect::<anyhow::Result<_>>()?,
        },
        signals: Signals::all(),
        may_import: section.may_import,
    })
}

fn check_secret(what: &str, secret: &str) -> anyhow::Result<()> {
    ensure!(
        secret.len() >= SECRET_SIZE_BYTES_MIN,
        "{what} is shorter than {SECRET_SIZE_BYTES_MIN} bytes"
    );
    Ok(())
}

fn signer_of(section: &SignerSection) -> anyhow::Result<Signer> {
    ensure!(!section.name.is_empty(), "has no name");
    check_tenant(&section.tenant)?;
    Ok(Signer {
        name: section.name.clone(),
        tenant: section.tenant.clone(),
        key: signing_key(&section.aes_key, &section.aes_iv)?,
        policies: section.policies.clone(),
    })
}

/// A key that requests of Widevine's services are signed with.
pub fn signing_key(key: &Secret, iv: &Secret) -> anyhow::Result<SigningKey> {
    let key = parse_kek(&key.0).ok();
    let key = key.context("aes_key is not 64 hexadecimal digits")?;
    let iv = parse_content_key(&iv.0).context("aes_iv is not 32 hexadecimal digits")?;
    Ok(SigningKey::aes(*key.expose(), *iv.expose()))
}

/// What is wrong and where: the parser's own report would show the line, and its messages what stands there.
pub fn without_secrets(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.as_bytes().get(..start).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let message = error.message();
    let names_alone = message.starts_with("unknown field") || message.starts_with("missing field");
    match names_alone {
        true => anyhow::anyhow!("line {line}: {message}"),
        false => anyhow::anyhow!("line {line}: is not the TOML it should be"),
    }
}

/// Reads a file with secrets, which its owner alone has access to.
pub fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    // Asked of the open file, so that it is the one that is read.
    let metadata = file.metadata()?;
    let mode = metadata.mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "mode {mode:03o} lets group or others at the secrets; chmod 600 it"
    );
    ensure!(metadata.len() <= SIZE_BYTES_MAX, "is too large");
    let mut text = Zeroizing::new(String::with_capacity(metadata.len() as usize + 1));
    file.take(SIZE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A private key in PEM.
pub fn read_delivery_key(path: &Path) -> anyhow::Result<DeliveryKey> {
    let named = || path.display().to_string();
    let text = read_secret(path).with_context(named)?;
    DeliveryKey::from_pem(&text).with_context(named)
}

/// A certificate in PEM.
pub fn read_recipient(path: &Path) -> anyhow::Result<Recipient> {
    let named = || path.display().to_string();
    let mut text = String::new();
    let file = File::open(path).with_context(named)?;
    file.take(SIZE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(named)?;
    Recipient::from_pem(&text).with_context(named)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CLIENT: &str = "[[client]]\nname = \"a\"\ntenant = \"acme\"\n";
    const SIGNER: &str = "[[signer]]\nname = \"s\"\ntenant = \"acme\"\n";

    #[test]
    fn secrets_are_long_and_never_repeated() {
        let secret = "correct-horse-battery";
        let aes = format!("aes_key = \"{}\"\naes_iv = \"{}\"\n", "0f".repeat(32), "0f".repeat(16));
        let check = |text: String, expected: Option<&str>| {
            let error = parse(&text, Path::new("")).err().map(|error| format!("{error:#}"));
            match (error, expected) {
                (None, None) => {}
                (Some(error), Some(expected)) => {
                    assert!(error.contains(expected), "{error}");
                    assert!(!error.contains("horse") && !error.contains("0f0f"), "{error}");
                }
                (error, _) => panic!("{text}: {error:?}"),
            }
        };
        let key = format!("api_key = \"{secret}\"\n");
        let basic = format!("user = \"u\"\npassword = \"{secret}\"\n");
        check(format!("{CLIENT}{key}"), None);
        check(format!("{CLIENT}{basic}clear_keys = true\n"), None);
        check(format!("{SIGNER}{aes}"), None);
        check(String::new(), Some("neither a [[client]] nor a [[signer]]"));
        check(
            CLIENT.to_owned(),
            Some("client a: has either api_key or user and password"),
        );
        check(format!("{CLIENT}{key}{basic}"), Some("either api_key or"));
        check(format!("{CLIENT}api_key = \"horse\"\n"), Some("shorter than 16 bytes"));
        check(
            format!("{CLIENT}{key}{CLIENT}{key}"),
            Some("has another client's secret"),
        );
        check(
            format!("{CLIENT}{key}").replace("acme", "a|b"),
            Some("a|b: a tenant is named"),
        );
        check(
            format!("{CLIENT}{key}wrong = 1\n"),
            Some("line 5: unknown field `wrong`"),
        );
        check(
            format!("{CLIENT}api_key = {secret}\n"),
            Some("line 4: is not the TOML it should be"),
        );
        check(
            format!("{CLIENT}{key}clear_keys = \"{secret}\"\n"),
            Some("line 5: is not"),
        );
        check(
            format!("{CLIENT}{key}recipients = [\"none.pem\"]\n"),
            Some("none.pem: No such file"),
        );
        check(
            format!("{SIGNER}{aes}").replacen("0f", "0", 1),
            Some("aes_key is not 64"),
        );
        check(format!("{SIGNER}{aes}{SIGNER}{aes}"), Some("signer s: is there twice"));
        check(SIGNER.to_owned(), Some("line 1: missing field `aes_key`"));
    }
}
