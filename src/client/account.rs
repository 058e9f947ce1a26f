//! Account: who is signed in where, kept in a file that its owner alone reads.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use control_api::outbound::Outbound;
use control_api::outbound::Repeat;
use control_api::secrets::{hex, new_token, sha256};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Client, answer, outbound, post, refusal, text};
use crate::cli::LoginArguments;
use crate::keys::credentials::read_secret;
use crate::print;

/// A sign-in, and what was begun with it. Several processes may have it: who changes it holds its lock and reads it first.
#[derive(Serialize, Deserialize)]
pub struct Session {
    /// Where.
    pub url: String,
    /// For an hour.
    access_token: String,
    /// Used once: whoever uses it twice is taken for a thief, and the sign-in ends.
    refresh_token: String,
    /// What this machine is called among the account's devices.
    fingerprint: String,
    /// Uploads that have not ended, by what they are uploads of.
    #[serde(default)]
    uploads: BTreeMap<String, Begun>,
    #[serde(skip)]
    path: PathBuf,
}

/// How far an upload came.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Begun {
    /// The movie that was made for it.
    pub movie: Option<String>,
    /// Its id.
    pub upload: Option<String>,
    /// What was asked for and not answered yet is asked for under this name again.
    #[serde(default)]
    pub key: Option<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.access_token.zeroize();
        self.refresh_token.zeroize();
    }
}

/// Where sign-ins are kept.
pub fn session_path(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = || {
        let configured = std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty());
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
        configured.map(PathBuf::from).or_else(home)
    };
    let found = named.or_else(|| folder().map(|folder| folder.join("headwater/api.json")));
    found.context("there is no HOME; name a file with --session")
}

/// Whoever has it may change the sign-in.
fn lock(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let path = path.with_extension("lock");
    let named = || path.display().to_string();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).with_context(named)?;
    file.lock().with_context(named)?;
    Ok(file)
}

impl Session {
    /// The one that is kept at `path`.
    pub fn read(path: &Path) -> anyhow::Result<Session> {
        let hint = || format!("{}: sign in first (headwater api login)", path.display());
        let text = read_secret(path).with_context(hint)?;
        let read = serde_json::from_str::<Session>(&text);
        // The parser's own words may hold a token.
        let read = read.map_err(|error| anyhow::anyhow!("line {}: is no sign-in", error.line()));
        let mut session = read.with_context(hint)?;
        session.path = path.to_owned();
        Ok(session)
    }

    /// For an hour.
    pub fn access_token(&self) -> &str {
        &self.access_token
    }

    /// How far the upload of `what` came.
    pub fn begun(&self, what: &str) -> Option<&Begun> {
        self.uploads.get(what)
    }

    /// Keeps how far an upload came.
    pub fn keep(&mut self, what: &str, begun: Begun) -> anyhow::Result<()> {
        self.change(|session| drop(session.uploads.insert(what.to_owned(), begun)))
    }

    /// An upload has ended.
    pub fn forget(&mut self, what: &str) -> anyhow::Result<()> {
        self.change(|session| drop(session.uploads.remove(what)))
    }

    fn change(&mut self, change: impl FnOnce(&mut Session)) -> anyhow::Result<()> {
        let _lock = lock(&self.path)?;
        *self = Session::read(&self.path)?;
        change(self);
        self.write()
    }

    /// Renamed into place, so that a break leaves the old one or the new one.
    fn write(&self) -> anyhow::Result<()> {
        let named = || self.path.display().to_string();
        let new = self.path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .with_context(named)?;
        file.write_all(&Zeroizing::new(serde_json::to_vec(self)?))
            .with_context(named)?;
        file.sync_all().with_context(named)?;
        std::fs::rename(&new, &self.path).with_context(named)
    }

    /// Gets new tokens for the old ones, unless another process has done so.
    pub async fn refresh(&mut self, outbound: &Outbound) -> anyhow::Result<()> {
        let _lock = lock(&self.path)?;
        let kept = Session::read(&self.path)?;
        let is_new = kept.access_token != self.access_token;
        *self = kept;
        if is_new {
            return Ok(());
        }
        let token = json!({ "refresh_token": self.refresh_token });
        let asked = ask(outbound, &self.url, "/auth/refresh", &token).await;
        self.take(&asked.context("the sign-in has ended; sign in anew (headwater api login)")?)?;
        self.write()
    }

    fn take(&mut self, body: &Value) -> anyhow::Result<()> {
        self.access_token = text(body, "access_token")?;
        self.refresh_token = text(body, "refresh_token")?;
        Ok(())
    }
}

/// The first line of a file, or of standard input, where it is asked for without being shown.
fn password(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let text = match file {
        Some(path) => Zeroizing::new(std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
        None => typed().context("password")?,
    };
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "the password is empty");
    Ok(Zeroizing::new(line.to_owned()))
}

fn typed() -> anyhow::Result<Zeroizing<String>> {
    let stdin = std::io::stdin();
    let shown = stdin.is_terminal().then(|| tcgetattr(&stdin)).transpose()?;
    if let Some(shown) = &shown {
        // On a terminal that takes nothing, what is typed is all the same.
        let _ = write!(std::io::stderr(), "Password: ");
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    }
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        tcsetattr(&stdin, OptionalActions::Now, shown)?;
        print::remark(format_args!(""));
    }
    read?;
    Ok(line)
}

async fn ask(outbound: &Outbound, url: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let ask = post(url, path, Some(body), Repeat::WhenUnsent)?;
    answer(&outbound.send(&ask).await.with_context(|| url.to_owned())?)
}

/// Names this machine and user alike at every sign-in, so that they are one of the account's devices.
fn fingerprint() -> anyhow::Result<String> {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let machine = match machine.trim() {
        "" => new_token("")?,
        machine => Zeroizing::new(machine.to_owned()),
    };
    let user = rustix::process::getuid().as_raw();
    let named = Zeroizing::new(format!("headwater api {} {user}", *machine));
    Ok(hex(&sha256(named.as_bytes())))
}

/// Signs in, and keeps that.
pub async fn login(path: &Path, arguments: &LoginArguments) -> anyhow::Result<()> {
    let url = arguments.url.as_str();
    // Before the password is asked for.
    super::api_url(url, "")?;
    let password = password(arguments.password_file.as_deref())?;
    let signing = json!({ "email": arguments.email, "password": *password });
    let body = ask(&outbound()?, url, "/auth/login", &signing).await?;
    let _lock = lock(path)?;
    // What was begun there can go on.
    let before = Session::read(path).ok().filter(|before| before.url == url);
    let mut session = Session {
        url: url.to_owned(),
        access_token: String::new(),
        refresh_token: String::new(),
        fingerprint: fingerprint()?,
        uploads: before.map(|before| before.uploads.clone()).unwrap_or_default(),
        path: path.to_owned(),
    };
    session.take(&body)?;
    session.write()?;
    let text = |name: &str| body["user"][name].as_str().unwrap_or_default();
    writeln!(print::out(), "signed in as {} ({})", text("email"), text("role"))?;
    Ok(())
}

/// Ends the sign-in there, and forgets it here. One that had ended there is forgotten, too.
pub async fn logout(mut client: Client) -> anyhow::Result<()> {
    match client.post("/auth/logout", None).await {
        Err(error) if refusal(&error).is_none_or(|refusal| refusal.status != 401) => return Err(error),
        _ => {}
    }
    let path = &client.session.path;
    let _lock = lock(path)?;
    std::fs::remove_file(path).with_context(|| path.display().to_string())
}

/// This machine among the account's devices; asked again, the same one.
pub async fn device(client: &mut Client) -> anyhow::Result<String> {
    let wanted = json!({
        "name": "headwater api", "device_type": "other", "fingerprint": client.session.fingerprint,
    });
    text(&client.post("/devices", Some(&wanted)).await?, "id")
}
