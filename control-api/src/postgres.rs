//! The embedded database: a private Postgres cluster of the system's binaries, on a Unix socket in the data folder.
//!
//! Whoever uses it holds a shared lock; the last one stops it. After a crash of headwater the next start finds it running
//! and goes on with it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

/// Where Debian has a folder for each version.
const ROOT: &str = "/usr/lib/postgresql";
/// Where others have their binaries.
const PLACES: [&str; 4] = [
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/opt/homebrew/bin",
];
/// Least major version.
const VERSION_MIN: u32 = 14;
/// Longest path of a socket that all systems take, with the name in it: `/.s.PGSQL.5432`.
const SOCKET_DIR_SIZE_BYTES_MAX: usize = 80;
/// How long it may take to stop, in seconds.
const STOP_TIMEOUT_S: &str = "45";
/// Name of the superuser and of the database.
const NAME: &str = "headwater";

/// Why there is no embedded database.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No binaries.
    #[error(
        "no Postgres {VERSION_MIN} or newer was found below {ROOT}: install it (apt install postgresql), or name a database \
         in DATABASE_URL"
    )]
    Missing,
    /// The cluster is of a version that is not installed.
    #[error("{0} was made by Postgres {1}, which is not installed (apt install postgresql-{1})")]
    Version(String, String),
    /// Root may not run it, and who should is not there.
    #[error("Postgres does not run as root, and there is no user \"{0}\"; name one in control.database_user")]
    User(String),
    /// A file or folder.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// One of its programs failed.
    #[error("{0} failed: {1}")]
    Program(&'static str, String),
    /// It runs and can not be talked to.
    #[error("the embedded database: {0}")]
    Connect(#[from] sqlx::Error),
}

/// Who it runs as.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

/// A running cluster that this process uses.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    folder: PathBuf,
    socket: PathBuf,
    user: Option<User>,
    /// Held shared as long as it is used.
    users: File,
    fast: bool,
}

/// How much a cluster may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged.
    Full,
    /// Everything at a crash of the machine: for tests.
    None,
}

fn file_error(path: &Path) -> impl Fn(std::io::Error) -> PostgresError + '_ {
    move |error| PostgresError::File(path.display().to_string(), error)
}

impl Cluster {
    /// Starts the cluster in `folder`, made first where there is none, or joins it where it runs. Blocks.
    pub fn start(folder: &Path, user: &str, durability: Durability) -> Result<Cluster, PostgresError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(file_error(folder))?;
        let folder = folder.canonicalize().map_err(file_error(folder))?;
        let user = unprivileged(&folder, user)?;
        let data = folder.join("data");
        let bin = binaries(&data)?;
        let socket = socket_folder(&folder);
        for made in [&folder, &socket] {
            make_folder(made, user)?;
        }
        let lock = |name: &str| {
            let path = folder.join(name);
            let opened = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path);
            opened.map_err(file_error(&path))
        };
        // One process at a time makes, starts or stops it.
        let turn = lock("turn.lock")?;
        turn.lock().map_err(file_error(&folder))?;
        let users = lock("users.lock")?;
        users.lock_shared().map_err(file_error(&folder))?;
        let cluster = Cluster {
            bin,
            folder,
            socket,
            user,
            users,
            fast: durability == Durability::None,
        };
        cluster.make(&data)?;
        cluster.run(&data)?;
        Ok(cluster)
    }

    /// How to connect to it.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket)
            .port(5432)
            .username(NAME)
            .database(NAME)
            .disable_statement_logging()
    }

    /// Where its socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes the database in it where there is none.
    pub async fn make_database(&self) -> Result<(), PostgresError> {
        use sqlx::{Connection as _, Row as _};
        let mut connection = sqlx::PgConnection::connect_with(&self.options().database("postgres")).await?;
        let known = sqlx::query("select exists (select 1 from pg_database where datname = 'headwater')")
            .fetch_one(&mut connection)
            .await?;
        if !known.try_get::<bool, _>(0)? {
            let made = sqlx::query("create database headwater encoding 'UTF8'")
                .execute(&mut connection)
                .await;
            // Two may make it at once.
            if let Err(error) = made
                && error.as_database_error().and_then(|error| error.code()).as_deref() != Some("42P04")
            {
                return Err(error.into());
            }
        }
        connection.close().await?;
        Ok(())
    }

    /// Starts it again if it is gone, as after it was killed; whether it was. Blocks.
    pub fn revive(&self) -> Result<bool, PostgresError> {
        let data = self.folder.join("data");
        let turn = OpenOptions::new()
            .write(true)
            .open(self.folder.join("turn.lock"))
            .map_err(file_error(&self.folder))?;
        turn.lock().map_err(file_error(&self.folder))?;
        if self.is_running(&data) {
            return Ok(false);
        }
        self.run(&data)?;
        Ok(true)
    }

    /// Stops it, unless others use it. Blocks until it has.
    pub fn stop(self) -> Result<(), PostgresError> {
        let turn = self.folder.join("turn.lock");
        let turn = OpenOptions::new()
            .write(true)
            .open(&turn)
            .map_err(file_error(&self.folder))?;
        turn.lock().map_err(file_error(&self.folder))?;
        self.users.unlock().map_err(file_error(&self.folder))?;
        match self.users.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!("the embedded database goes on: another process uses it");
                return Ok(());
            }
            Err(TryLockError::Error(error)) => return Err(file_error(&self.folder)(error)),
        }
        let mode = if self.fast { "immediate" } else { "fast" };
        let mut command = self.command("pg_ctl");
        command
            .args(["stop", "-w", "-t", STOP_TIMEOUT_S, "-m", mode, "-D"])
            .arg(self.folder.join("data"));
        finish("pg_ctl stop", command)
    }

    fn make(&self, data: &Path) -> Result<(), PostgresError> {
        // What initdb left unfinished has no such file.
        let done = self.folder.join("made");
        if done.exists() {
            return Ok(());
        }
        if data.exists() {
            std::fs::remove_dir_all(data).map_err(file_error(data))?;
        }
        tracing::info!(folder = %data.display(), "making the embedded database");
        let mut command = self.command("initdb");
        command.args(["-U", NAME, "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust"]);
        if self.fast {
            command.arg("--no-sync");
        }
        command.arg("-D").arg(data);
        finish("initdb", command)?;
        let mut file = File::create(&done).map_err(file_error(&done))?;
        file.write_all(b"by headwater\n").map_err(file_error(&done))?;
        file.sync_all().map_err(file_error(&done))
    }

    fn run(&self, data: &Path) -> Result<(), PostgresError> {
        if self.is_running(data) {
            return Ok(());
        }
        // Written anew each time: the folder may have moved.
        let socket = self.socket.display().to_string().replace('\'', "''");
        let mut settings = format!(
            "# Written by headwater at every start.\nlisten_addresses = ''\nport = 5432\n\
             unix_socket_directories = '{socket}'\nunix_socket_permissions = 0700\ntimezone = 'UTC'\n\
             log_timezone = 'UTC'\nmax_connections = 200\nlogging_collector = off\n"
        );
        if self.fast {
            settings += "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";
        }
        let path = data.join("headwater.conf");
        std::fs::write(&path, settings).map_err(file_error(&path))?;
        let main = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&main).map_err(file_error(&main))?;
        if !text.contains("include = 'headwater.conf'") {
            std::fs::write(&main, text + "\ninclude = 'headwater.conf'\n").map_err(file_error(&main))?;
        }
        let log = self.folder.join("run").join("postgres.log");
        let mut command = self.command("pg_ctl");
        command
            .args(["start", "-w", "-t", "120", "-D"])
            .arg(data)
            .arg("-l")
            .arg(&log);
        finish("pg_ctl start", command).map_err(|error| match (error, std::fs::read_to_string(&log)) {
            (PostgresError::Program(name, what), Ok(log)) => PostgresError::Program(name, what + &tail(&log)),
            (error, _) => error,
        })
    }

    fn is_running(&self, data: &Path) -> bool {
        let mut command = self.command("pg_ctl");
        command.args(["status", "-D"]).arg(data);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null());
        // Variables of a client would send its programs elsewhere.
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG"));
        for (name, _) in ours {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C");
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

fn finish(name: &'static str, mut command: Command) -> Result<(), PostgresError> {
    // To a file, not a pipe: the server would keep a pipe open, and we would wait for its end.
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = |error: std::io::Error| PostgresError::Program(name, error.to_string());
    if name == "pg_ctl start" {
        let status = output.stderr(Stdio::null()).status().map_err(failed)?;
        return match status.success() {
            true => Ok(()),
            false => Err(PostgresError::Program(name, status.to_string())),
        };
    }
    let output = output.output().map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(PostgresError::Program(
            name,
            tail(&String::from_utf8_lossy(&output.stderr)),
        )),
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
    format!("\n{}", last.join("\n"))
}

fn make_folder(path: &Path, user: Option<User>) -> Result<(), PostgresError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(file_error(path))?;
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid)).map_err(file_error(path))?;
    }
    Ok(())
}

/// Who it runs as: this process's user, save for root.
fn unprivileged(folder: &Path, name: &str) -> Result<Option<User>, PostgresError> {
    let own = std::fs::metadata("/proc/self").or_else(|_| std::fs::metadata(folder));
    let own = own.map_err(file_error(folder))?;
    if own.uid() != 0 {
        return Ok(None);
    }
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        list.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(name);
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (found && uid != 0).then_some(User { uid, gid })
        })
    };
    find(name).map(Some).ok_or_else(|| PostgresError::User(name.to_owned()))
}

/// The folder of the binaries: of the version that made `data`, or of the newest.
fn binaries(data: &Path) -> Result<PathBuf, PostgresError> {
    let made_by = std::fs::read_to_string(data.join("PG_VERSION"))
        .ok()
        .map(|text| text.trim().to_owned());
    let has_server = |bin: &PathBuf| bin.join("initdb").is_file() && bin.join("pg_ctl").is_file();
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(ROOT).into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().parse().ok();
        let bin = entry.path().join("bin");
        found.extend(
            version
                .filter(|version| *version >= VERSION_MIN && has_server(&bin))
                .map(|version| (version, bin)),
        );
    }
    for bin in PLACES.iter().map(PathBuf::from).filter(|bin| has_server(bin)) {
        let version = Command::new(bin.join("initdb")).arg("--version").output().ok();
        let text = version
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        let major = text
            .split_whitespace()
            .find_map(|word| word.split('.').next()?.parse::<u32>().ok());
        found.extend(
            major
                .filter(|version| *version >= VERSION_MIN)
                .map(|version| (version, bin)),
        );
    }
    match made_by {
        Some(version) => {
            let same = found.into_iter().find(|(known, _)| known.to_string() == version);
            same.map(|(_, bin)| bin)
                .ok_or_else(|| PostgresError::Version(data.display().to_string(), version))
        }
        None => found
            .into_iter()
            .max()
            .map(|(_, bin)| bin)
            .ok_or(PostgresError::Missing),
    }
}

/// A folder for the socket: in the data folder, or with a short name where that is too long for one.
fn socket_folder(folder: &Path) -> PathBuf {
    let near = folder.join("run");
    if near.as_os_str().len() <= SOCKET_DIR_SIZE_BYTES_MAX {
        return near;
    }
    let name = crate::secrets::hex(&crate::secrets::sha256(folder.as_os_str().as_encoded_bytes()));
    std::env::temp_dir().join(format!("headwater-{}", &name[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_folders_have_their_socket_elsewhere() {
        assert_eq!(
            socket_folder(Path::new("/data/postgres")),
            Path::new("/data/postgres/run")
        );
        let long = PathBuf::from(format!("/{}", "a".repeat(200)));
        let found = socket_folder(&long);
        assert!(
            found.as_os_str().len() <= SOCKET_DIR_SIZE_BYTES_MAX,
            "{}",
            found.display()
        );
        assert_ne!(found, socket_folder(&long.join("b")));
    }
}
