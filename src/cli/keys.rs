//! Arguments of `headwater keys`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::ReportFormat;

/// `headwater keys`
#[derive(Debug, Args)]
pub struct KeysArguments {
    /// What to do with them.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What `headwater keys` can do.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a vault, and its key encryption key unless that is there already.
    Init(VaultArguments),
    /// Draw keys for titles. Those that are there stay, so it can be run again.
    Create(CreateArguments),
    /// List keys by their public names.
    List(ListArguments),
    /// Take in keys that were made elsewhere.
    Import(ImportKeysArguments),
    /// Draw other keys for titles from some instant on (key periods). Players learn of all of them at the start.
    Rotate(RotateKeysArguments),
    /// Put the vault under another key encryption key. Content keys stay as they are.
    RotateKek(RotateArguments),
    /// End the time in which `rotate-kek --keep-old` lets both key encryption keys open the vault.
    FinishRotation(VaultArguments),
    /// Encrypt nothing more under a key; players still get it.
    Retire(StateArguments),
    /// Give a key to nobody any more.
    Revoke(StateArguments),
    /// Wipe a key. What is encrypted under it is lost.
    Destroy(StateArguments),
    /// Bring titles that an earlier version wrote into the present format, in which nobody but a holder of the key
    /// encryption key can change the states of keys. Prints how many keys are in which: see that they are right.
    Upgrade(VaultArguments),
    /// Hand keys to encryptors over HTTP: SPEKE, CPIX, Widevine's key API.
    #[cfg(feature = "control")]
    Serve(ServeKeysArguments),
    /// Fetch a title's keys from a key server: SPEKE, Widevine's key API.
    #[cfg(feature = "control")]
    Fetch(FetchKeysArguments),
    /// Write a title's keys as a CPIX document that its recipient alone can read.
    #[cfg(feature = "control")]
    Export(ExportKeysArguments),
    /// Take in the keys of a CPIX document.
    #[cfg(feature = "control")]
    ImportCpix(ImportCpixArguments),
}

/// Which vault, and what opens it.
#[derive(Debug, Args)]
pub struct VaultArguments {
    /// Folder of the vault.
    #[arg(value_name = "VAULT")]
    pub vault: PathBuf,
    /// File of the key encryption key, mode 0600: 64 hexadecimal digits, an age identity, or where a key service has it
    /// (TOML: service = "transit", url, mount, key, token) [default: VAULT.kek, beside the folder].
    #[arg(long, value_name = "FILE")]
    pub kek: Option<PathBuf>,
}

/// `headwater keys create`
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// Titles, as `headwater library` names them.
    #[arg(required_unless_present = "all", value_name = "MEDIA_ID")]
    pub media_ids: Vec<String>,
    /// Folder whose titles `--all` means.
    #[arg(long, requires = "all", value_name = "DIR")]
    pub library: Option<PathBuf>,
    /// Every title of the library.
    #[arg(long, requires = "library", conflicts_with = "media_ids")]
    pub all: bool,
    /// What the keys encrypt for: cbcs, cenc, cens, cbc1, aes128, sampleaes. Each gets keys of its own.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "cbcs,cenc,aes128,sampleaes"
    )]
    pub scheme: Vec<String>,
    /// Key period, from 0; a later one has its own keys from --starts on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub period: u64,
    /// Where the period begins, in seconds of presentation time.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub starts: u64,
    /// Whose titles they are; a new name gets a key of its own.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub tenant: String,
    /// How the report is written.
    #[command(flatten)]
    pub format: ReportFormat,
}

/// `headwater keys rotate`
#[derive(Debug, Args)]
pub struct RotateKeysArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// Titles that have keys, as `headwater library` names them.
    #[arg(required = true, value_name = "MEDIA_ID")]
    pub media_ids: Vec<String>,
    /// When other keys are to hold, in seconds of presentation time; they do from the next segment on.
    #[arg(
        long,
        value_name = "SECONDS",
        value_delimiter = ',',
        required_unless_present = "every"
    )]
    pub at: Vec<u64>,
    /// Other keys each time so many seconds have passed.
    #[arg(long, value_name = "SECONDS")]
    pub every: Option<u64>,
    /// Where that ends, in seconds.
    #[arg(long, value_name = "SECONDS", requires = "every")]
    pub until: Option<u64>,
    /// Library that says how long titles are: that ends where they do.
    #[arg(long, value_name = "DIR", requires = "every", conflicts_with = "until")]
    pub library: Option<PathBuf>,
    /// What the keys encrypt for: cbcs, cenc, cens, cbc1, aes128, sampleaes [default: what the first period's are for].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub scheme: Vec<String>,
    /// How the report is written.
    #[command(flatten)]
    pub format: ReportFormat,
}

/// `headwater keys list`
#[derive(Debug, Args)]
pub struct ListArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// The only title to list.
    #[arg(value_name = "MEDIA_ID")]
    pub media_id: Option<String>,
    /// Print the keys themselves too.
    #[arg(long)]
    pub show_secrets: bool,
    /// How the list is written.
    #[command(flatten)]
    pub format: ReportFormat,
}

/// `headwater keys import`
#[derive(Debug, Args)]
pub struct ImportKeysArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// The title, as `headwater library` names it.
    #[arg(value_name = "MEDIA_ID")]
    pub media_id: String,
    /// A key: key id and key in hexadecimal, scheme, and AUDIO, SD, HD, UHD1 or UHD2. Scheme `source` is for a key that
    /// opens the title's encrypted source, which is then served encrypted anew; `source-clear` lets it be served clear.
    /// Others on this machine can see arguments: --key-file is better.
    #[arg(long, required_unless_present = "key_file", value_name = "KID:KEY:SCHEME:TRACK")]
    pub key: Vec<SecretText>,
    /// File with a key a line, written like --key.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Whose title it is; a new name gets a key of its own.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub tenant: String,
}

/// `headwater keys serve`
#[cfg(feature = "control")]
#[derive(Debug, Args)]
pub struct ServeKeysArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// Address and port to listen on. Keys may go out in the clear: let nobody but a TLS proxy reach it.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8090")]
    pub listen: String,
    /// File (TOML, mode 0600) that says who may have keys: [[client]] and [[signer]].
    #[arg(long, value_name = "FILE")]
    pub credentials: PathBuf,
}

/// `headwater keys fetch`
#[cfg(feature = "control")]
#[derive(Debug, Args)]
pub struct FetchKeysArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// The title, as `headwater library` names it.
    #[arg(value_name = "MEDIA_ID")]
    pub media_id: String,
    /// File (TOML, mode 0600) that says which server: protocol (speke-1, speke-2.0, speke-2.1 or getcontentkey), url and
    /// credentials.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// What the server calls the title [default: MEDIA_ID].
    #[arg(long, value_name = "NAME")]
    pub content_id: Option<String>,
    /// What the keys encrypt for: cbcs, cenc, cens, cbc1; by speke-1 also aes128, sampleaes.
    #[arg(long, value_name = "NAME", default_value = "cbcs")]
    pub scheme: String,
    /// Which tracks.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "AUDIO,SD,HD,UHD1,UHD2"
    )]
    pub track: Vec<String>,
    /// Key period, from 0; a later one has its own keys from --starts on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub period: u64,
    /// Where the period begins, in seconds of presentation time.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub starts: u64,
    /// Whose title it is; a new name gets a key of its own.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub tenant: String,
}

/// `headwater keys export`
#[cfg(feature = "control")]
#[derive(Debug, Args)]
pub struct ExportKeysArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// The title, as `headwater library` names it.
    #[arg(value_name = "MEDIA_ID")]
    pub media_id: String,
    /// Certificate (PEM) of whoever may read the keys.
    #[arg(long, value_name = "CERT.pem", required_unless_present = "plain")]
    pub recipient: Vec<PathBuf>,
    /// Write the keys in the clear.
    #[arg(long, requires = "show_secrets", conflicts_with = "recipient")]
    pub plain: bool,
    /// Say that the keys in the clear are really meant.
    #[arg(long)]
    pub show_secrets: bool,
    /// File to make, for its owner alone [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Edition of CPIX.
    #[arg(long, value_name = "EDITION", value_parser = ["2.3", "2.4"], default_value = "2.4")]
    pub cpix: String,
}

/// `headwater keys import-cpix`
#[cfg(feature = "control")]
#[derive(Debug, Args)]
pub struct ImportCpixArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// The title, as `headwater library` names it, whatever the document calls it.
    #[arg(value_name = "MEDIA_ID")]
    pub media_id: String,
    /// The document.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Private key (PKCS #8 in PEM, mode 0600) that the document is encrypted to.
    #[arg(long, value_name = "KEY.pem")]
    pub private_key: Option<PathBuf>,
    /// Whose title it is; a new name gets a key of its own.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub tenant: String,
}

/// `headwater keys rotate-kek`
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// File with the new key encryption key; made when it is not there.
    #[arg(long, value_name = "FILE")]
    pub new_kek: PathBuf,
    /// Let the old one open the vault too, until `finish-rotation`.
    #[arg(long)]
    pub keep_old: bool,
}

/// `headwater keys retire`, `revoke`, `destroy`
#[derive(Debug, Args)]
pub struct StateArguments {
    /// The vault.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// The key, as `headwater keys list` names it.
    #[arg(value_name = "KID")]
    pub key_id: String,
}

/// An argument that holds a secret. It can not be printed and is wiped when dropped.
#[derive(Clone)]
pub struct SecretText(pub Zeroizing<String>);

impl FromStr for SecretText {
    type Err = Infallible;

    // What is wrong with it is found out later: the parser's own complaints repeat what they are about.
    fn from_str(text: &str) -> Result<SecretText, Infallible> {
        Ok(SecretText(Zeroizing::new(text.to_owned())))
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText")
    }
}
