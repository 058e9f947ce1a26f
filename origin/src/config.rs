//! The `[origin]` section of `headwater.toml`, checked into values that need no further checks.

use std::net::SocketAddr;
use std::path::PathBuf;

use packager::crypto::ProtectionScheme;
use packager::crypto::output::OutputRules;
use packager::crypto::signal::DrmSystems;
use packager::form::Form;
use packager::isobmff::protection::KeyNaming;
use packager::segment::SegmentTarget;

use crate::access::AccessConfig;
use crate::keys::FileKek;
use crate::limits::{Limits, LimitsSection};
use crate::paging::{Fill, Probe};
use crate::protect::{ProtectConfig, Titles};
use crate::tls::{TlsConfig, TlsSection};

/// `[origin]` as written by people. Every key has a default but `library`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Folder whose playable files are served.
    pub library: Option<PathBuf>,
    /// Address and port to listen on.
    pub listen: String,
    /// Folder with the player library's files; without it the player pages answer 503.
    pub player: Option<PathBuf>,
    /// Folder for presentations made of sources that can not be indexed in place (MPEG-TS, Ogg), and for indexes of long files
    /// that can.
    pub cache: Option<PathBuf>,
    /// Most bytes kept in `cache`; the longest unused go first.
    pub cache_size_bytes_max: u64,
    /// Wanted segment duration, 1,000 to 20,000 ms.
    pub segment_duration_ms: u32,
    /// Threads that serve; 0 is one a core.
    pub threads: usize,
    /// Each serving thread stays on a core of its own.
    pub pin_cores: bool,
    /// File ranges are sent by the kernel without passing through the process.
    pub sendfile: bool,
    /// File ranges below this are read and sent from memory instead.
    pub sendfile_size_bytes_min: u64,
    /// How the page cache is asked what it holds: `cachestat`, `nowait` or `never`.
    pub residency: Probe,
    /// How cold file ranges are read: `uring` or `pool`.
    pub fill: Fill,
    /// Cold file ranges read at once.
    pub cold_read_count_max: usize,
    /// Connections served at once; more wait in the listen queue.
    pub connection_count_max: usize,
    /// Memory for opened presentations (indexes), in bytes.
    pub index_memory_bytes_max: u64,
    /// Memory for rendered playlists, MPDs and headers, in bytes.
    pub rendered_memory_bytes_max: u64,
    /// Memory for built segments that many want, in bytes.
    pub hot_memory_bytes_max: u64,
    /// So many must have asked for a built segment before it is kept.
    pub hot_viewer_count_min: u32,
    /// A connection that has not sent its request head after this many seconds is closed.
    pub header_timeout_s: u64,
    /// After a stop signal, running answers have this many seconds.
    pub drain_timeout_s: u64,
    /// What clients may cost.
    pub limits: LimitsSection,
    /// TLS; without it only plain HTTP is spoken.
    pub tls: Option<TlsSection>,
    /// Encryption and keys; without it every title is served clear.
    pub protection: Option<ProtectionSection>,
    /// Grants; without them everybody may have everything.
    pub access: Option<AccessSection>,
}

/// Where a playlist's key is, seen from the playlist.
const KEY_URL: &str = "../../key/{kid}";

/// Longest clear lead: what is longer is no beginning.
const CLEAR_LEAD_S_MAX: u32 = 600;

/// `[origin.protection]` as written by people.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectionSection {
    /// Folder of the key vault (`headwater keys init`).
    pub vault: PathBuf,
    /// File of the key-encryption key.
    pub kek: PathBuf,
    /// `all`: a title without keys is not served. `keyed`: it is served clear.
    #[serde(default)]
    pub titles: Titles,
    /// `cbcs` or `cenc`: what CMAF entry points lead to unless `?scheme=` asks otherwise.
    #[serde(default)]
    pub scheme: Option<String>,
    /// `aes128` or `sampleaes`: the same for MPEG-TS.
    #[serde(default)]
    pub ts: Option<String>,
    /// Seconds of every title's beginning that are left clear, so that it starts without waiting for keys.
    #[serde(default)]
    pub clear_lead_s: u32,
    /// Every fragment of CMAF names its key in a sample group too.
    #[serde(default)]
    pub sample_groups: bool,
    /// What devices have to guarantee, a table for each class of tracks.
    #[serde(default)]
    pub output: OutputRules,
    /// DRM systems that are on, each a table of its own.
    #[serde(default)]
    pub systems: DrmSystems,
}

/// `[origin.access]` as written by people.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSection {
    /// File with one or two keys that grants are verified with (`headwater grant new-key`).
    pub grant_keys: PathBuf,
    /// File with the ids of ended sessions, one a line.
    pub revoked: Option<PathBuf>,
}

impl ProtectionSection {
    /// The settings, checked; else the key that is wrong and why.
    pub fn check(self) -> Result<ProtectConfig, (&'static str, String)> {
        let scheme = match self.scheme.as_deref() {
            None | Some("cbcs") => ProtectionScheme::Cbcs,
            Some("cenc") => ProtectionScheme::Cenc,
            Some(other) => return Err(("protection.scheme", format!("\"{other}\" is neither cbcs nor cenc"))),
        };
        let ts = match self.ts.as_deref() {
            None | Some("aes128") => Form::TsAes128,
            Some("sampleaes") => Form::TsSampleAes,
            Some(other) => return Err(("protection.ts", format!("\"{other}\" is neither aes128 nor sampleaes"))),
        };
        if self.clear_lead_s > CLEAR_LEAD_S_MAX {
            let reason = format!("{} is more than {CLEAR_LEAD_S_MAX}", self.clear_lead_s);
            return Err(("protection.clear_lead_s", reason));
        }
        self.output
            .check()
            .map_err(|reason| ("protection.output", reason.to_owned()))?;
        let mut systems = self.systems;
        if let Some(clear_key) = &mut systems.clear_key {
            // Behind the same grant as the playlist.
            clear_key.key_url.get_or_insert_with(|| KEY_URL.into());
        }
        systems
            .check()
            .map_err(|error| ("protection.systems", error.to_string()))?;
        Ok(ProtectConfig {
            vault: self.vault,
            kek: self.kek,
            open_kek: |path| Box::new(FileKek::new(path)),
            titles: self.titles,
            scheme,
            ts,
            systems,
            clear_lead_ms: u64::from(self.clear_lead_s) * 1_000,
            naming: match self.sample_groups {
                true => KeyNaming::Fragments,
                false => KeyNaming::Header,
            },
            outputs: self.output,
        })
    }
}

impl Default for Section {
    fn default() -> Section {
        Section {
            library: None,
            listen: "127.0.0.1:8080".into(),
            player: None,
            cache: None,
            cache_size_bytes_max: 20 << 30,
            segment_duration_ms: SegmentTarget::DEFAULT.millis(),
            threads: 0,
            pin_cores: false,
            sendfile: true,
            sendfile_size_bytes_min: 64 << 10,
            residency: Probe::Cachestat,
            fill: Fill::Uring,
            cold_read_count_max: 32,
            connection_count_max: 10_000,
            index_memory_bytes_max: 1 << 30,
            rendered_memory_bytes_max: 128 << 20,
            hot_memory_bytes_max: 256 << 20,
            hot_viewer_count_min: 6,
            header_timeout_s: 10,
            drain_timeout_s: 30,
            limits: LimitsSection::default(),
            tls: None,
            protection: None,
            access: None,
        }
    }
}

/// The origin's settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder whose playable files are served; exists.
    pub library: PathBuf,
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Folder with the player library's files; exists.
    pub player: Option<PathBuf>,
    /// Folder for presentations made of sources that can not be indexed in place.
    pub cache: PathBuf,
    /// Most bytes kept in `cache`.
    pub cache_size_bytes_max: u64,
    /// Wanted segment duration.
    pub target: SegmentTarget,
    /// Threads that serve, at least 1.
    pub threads: usize,
    /// Each serving thread stays on a core of its own.
    pub pin_cores: bool,
    /// File ranges of at least this size go by `sendfile`; `None` for none.
    pub sendfile_size_bytes_min: Option<u64>,
    /// How the page cache is asked.
    pub residency: Probe,
    /// How cold file ranges are read.
    pub fill: Fill,
    /// Cold file ranges read at once, at least 1.
    pub cold_read_count_max: usize,
    /// Connections served at once.
    pub connection_count_max: usize,
    /// Memory for opened presentations.
    pub index_memory_bytes_max: u64,
    /// Memory for rendered text and headers.
    pub rendered_memory_bytes_max: u64,
    /// Memory for built segments that many want.
    pub hot_memory_bytes_max: u64,
    /// So many must have asked for one before it is kept.
    pub hot_viewer_count_min: u32,
    /// Patience with request heads.
    pub header_timeout: std::time::Duration,
    /// Patience with running answers at the end.
    pub drain_timeout: std::time::Duration,
    /// What clients may cost.
    pub limits: Limits,
    /// TLS.
    pub tls: Option<TlsConfig>,
    /// Encryption and keys.
    pub protection: Option<ProtectConfig>,
    /// Grants.
    pub access: Option<AccessConfig>,
}

/// A setting that can not be used.
#[derive(Debug, thiserror::Error)]
#[error("[origin] {key}: {reason}")]
pub struct ConfigError {
    /// The key.
    pub key: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}

impl Section {
    /// Checks every setting and the relations between them.
    pub fn check(self) -> Result<Config, ConfigError> {
        let wrong = |key, reason: String| Err(ConfigError { key, reason });
        let Some(library) = self.library else {
            return wrong("library", "is not set: name the folder to serve".into());
        };
        let library = match library.canonicalize() {
            Ok(path) if path.is_dir() => path,
            Ok(path) => return wrong("library", format!("{} is not a folder", path.display())),
            Err(error) => return wrong("library", format!("{}: {error}", library.display())),
        };
        let listen = match self.listen.parse() {
            Ok(listen) => listen,
            Err(_) => {
                return wrong(
                    "listen",
                    format!("\"{}\" is not an address like 127.0.0.1:8080", self.listen),
                );
            }
        };
        if let Some(player) = self.player.as_ref().filter(|player| !player.is_dir()) {
            return wrong("player", format!("{} is not a folder", player.display()));
        }
        let Some(target) = SegmentTarget::from_millis(self.segment_duration_ms) else {
            return wrong(
                "segment_duration_ms",
                format!("{} is outside 1000 to 20000", self.segment_duration_ms),
            );
        };
        if !(1..=1024).contains(&self.cold_read_count_max) {
            return wrong(
                "cold_read_count_max",
                format!("{} is outside 1 to 1024", self.cold_read_count_max),
            );
        }
        if self.index_memory_bytes_max < 16 << 20 {
            return wrong(
                "index_memory_bytes_max",
                "below 16 MiB not even one long film fits".into(),
            );
        }
        if !(1..=120).contains(&self.header_timeout_s) {
            return wrong(
                "header_timeout_s",
                format!("{} is outside 1 to 120", self.header_timeout_s),
            );
        }
        let cache = self.cache.unwrap_or_else(|| library.join(".headwater-cache"));
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads if threads <= 1024 => threads,
            threads => return wrong("threads", format!("{threads} is more than 1024")),
        };
        // Each listening socket of each thread holds a place for whoever comes next.
        let doors = threads * (1 + usize::from(self.tls.is_some()));
        if self.connection_count_max < doors {
            return wrong(
                "connection_count_max",
                format!(
                    "{} for {doors} listening sockets would keep clients waiting for ever",
                    self.connection_count_max
                ),
            );
        }
        let limits = match self.limits.check() {
            Ok(limits) => limits,
            Err((key, reason)) => return wrong(key, reason),
        };
        let tls = match self.tls.map(TlsSection::check).transpose() {
            Ok(tls) => tls,
            Err((key, reason)) => return wrong(key, reason),
        };
        let protection = match self.protection.map(ProtectionSection::check).transpose() {
            Ok(protection) => protection,
            Err((key, reason)) => return wrong(key, reason),
        };
        if protection.is_some() && self.access.is_none() {
            let reason = "is not set and [origin.protection] is: whoever asks would be given keys; add [origin.access]";
            return wrong("access", reason.into());
        }
        let access = self.access.map(|access| AccessConfig {
            grant_keys: access.grant_keys,
            revoked: access.revoked,
        });
        Ok(Config {
            limits,
            tls,
            protection,
            access,
            library,
            listen,
            player: self.player,
            cache,
            cache_size_bytes_max: self.cache_size_bytes_max,
            target,
            threads,
            pin_cores: self.pin_cores,
            // An empty range has no piece, so 1 already means every range.
            sendfile_size_bytes_min: self.sendfile.then_some(self.sendfile_size_bytes_min.max(1)),
            residency: self.residency,
            fill: self.fill,
            cold_read_count_max: self.cold_read_count_max,
            connection_count_max: self.connection_count_max,
            index_memory_bytes_max: self.index_memory_bytes_max,
            rendered_memory_bytes_max: self.rendered_memory_bytes_max,
            hot_memory_bytes_max: self.hot_memory_bytes_max,
            hot_viewer_count_min: self.hot_viewer_count_min,
            header_timeout: std::time::Duration::from_secs(self.header_timeout_s),
            drain_timeout: std::time::Duration::from_secs(self.drain_timeout_s),
        })
    }
}
