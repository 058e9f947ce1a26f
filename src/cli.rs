//! Commands and their arguments.

#[cfg(feature = "control")]
mod client;
#[cfg(feature = "control")]
mod control;
mod keys;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use packager::form::Form;

#[cfg(feature = "control")]
pub use self::client::{ClientArguments, ClientCommand, LoginArguments, UploadArguments};
#[cfg(feature = "control")]
pub use self::control::{
    AdminArguments, AdminCommand, ControlArguments, ControlPlace, CreateAdminArguments, DevArguments, LoadArguments,
};
pub use self::keys::{
    CreateArguments, ImportKeysArguments, KeysArguments, KeysCommand, ListArguments, RotateArguments,
    RotateKeysArguments, StateArguments, VaultArguments,
};
#[cfg(feature = "control")]
pub use self::keys::{ExportKeysArguments, FetchKeysArguments, ImportCpixArguments, ServeKeysArguments};

/// Streaming origin and just-in-time packager: stored files out as HLS and DASH, cut and wrapped when asked for.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, arg_required_else_help = true)]
pub struct Cli {
    /// How log lines are written to standard error. HEADWATER_LOG sets what is logged, e.g. `debug`.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What headwater can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a library over HTTP.
    Origin(OriginArguments),
    /// Answer the control API: accounts, catalogue, entitlements, playback sessions.
    #[cfg(feature = "control")]
    Control(ControlArguments),
    /// Ask a control API: sign in, upload, publish, watch.
    #[cfg(feature = "control")]
    Api(ClientArguments),
    /// Do to the control plane what nobody may yet do through its API.
    #[cfg(feature = "control")]
    Admin(AdminArguments),
    /// Run all roles in one process, for work on one's own machine.
    #[cfg(feature = "control")]
    Dev(DevArguments),
    /// Explain files: tracks, codecs, GOPs, edits, what would be left out and why.
    Inspect(InspectArguments),
    /// Write what the origin would serve for files, byte for byte, into a folder.
    Package(PackageArguments),
    /// Publish files in the stored form (one track a file, index beside it), without re-encoding.
    Import(ImportArguments),
    /// Make a ladder of renditions of a file and publish it in the stored form.
    #[cfg(feature = "transcode")]
    Transcode(TranscodeArguments),
    /// Say which encoders this machine offers, which would be taken and why, and try each for a second.
    #[cfg(feature = "transcode")]
    Encoders(EncodersArguments),
    /// List a library: every file with its media id, entry URLs and what was left out.
    Library(LibraryArguments),
    /// Make the token that lets a viewer have a title, and the keys for it.
    Grant(GrantArguments),
    /// Keep the keys that titles are encrypted under.
    Keys(KeysArguments),
    /// Get licences for players from the services that issue them, for holders of a grant.
    #[cfg(feature = "control")]
    Licences(LicencesArguments),
    /// Check a configuration file and the files it names, as a start would, and print what is in force. Databases and other
    /// servers are not asked.
    CheckConfig(CheckConfigArguments),
    /// One job in a process of its own, started by other commands.
    #[command(hide = true)]
    Worker(WorkerArguments),
}

/// `headwater origin`
#[derive(Debug, Args)]
pub struct OriginArguments {
    /// Configuration file (TOML). Arguments win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder whose playable files and ladder folders are served.
    #[arg(long, value_name = "DIR")]
    pub library: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Folder with the player library's files.
    #[arg(long, value_name = "DIR")]
    pub player: Option<PathBuf>,
    /// Folder for what is made of sources that can not be served in place, and for indexes of long ones [default: .headwater-cache in the library].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Args)]
pub struct ReportFormat {
    /// One JSON object a line instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Keys of encrypted sources on the command line.
#[derive(Debug, Args)]
pub struct SourceKeyArguments {
    /// File (mode 0600) with the keys of encrypted sources, a line of KID:KEY in hexadecimal for each; `-` reads them from
    /// standard input. What they open is taken for clear.
    #[arg(long, value_name = "FILE")]
    pub source_keys: Option<PathBuf>,
}

/// `headwater inspect`
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// Media files, text files or ladder folders. Subtitle files beside a film are taken with it: film.de.srt beside film.mp4.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Keys of encrypted sources.
    #[command(flatten)]
    pub keys: SourceKeyArguments,
    /// How the report is written.
    #[command(flatten)]
    pub format: ReportFormat,
}

/// `headwater package`
#[derive(Debug, Args)]
pub struct PackageArguments {
    /// Media files or ladder folders. Subtitle files beside a film are taken with it: film.de.srt beside film.mp4.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder to write to; each presentation gets a folder named by its media id.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// The library that the files lie in, at any depth. A media id, and so the keys of protected forms, comes of the path
    /// below the library [default: [origin] library of --config for files in it, else the folder a file lies in].
    #[arg(long, value_name = "DIR")]
    pub library: Option<PathBuf>,
    /// Forms to write, one of CMAF (cmaf, cmaf-cbcs, cmaf-cenc, cmaf-cens, cmaf-cbc1) and one of MPEG-TS (ts, ts-aes128,
    /// ts-sampleaes).
    #[arg(long, value_name = "NAMES", value_parser = form, value_delimiter = ',', default_value = "cmaf,ts")]
    pub form: Vec<Form>,
    /// Configuration file whose [origin.protection] says where the keys of protected forms are, and of encrypted sources, and
    /// whose [origin] library the files may lie in.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keys of encrypted sources.
    #[command(flatten)]
    pub keys: SourceKeyArguments,
    /// Seconds of the beginning that protected forms leave clear, 0 to 600 [default: what the configuration says].
    #[arg(long, value_name = "SECONDS", requires = "config")]
    pub clear_lead: Option<u32>,
    /// How manifest.mpd names segments.
    #[arg(long, value_enum, default_value = "timeline-number")]
    pub addressing: AddressingName,
    /// Wanted segment duration in milliseconds, 1000 to 20000.
    #[arg(long, value_name = "MS", default_value_t = 4000)]
    pub segment_duration_ms: u32,
    /// What to choose of each file, as in the query of an entry URL.
    #[command(flatten)]
    pub choice: ChoiceArguments,
}

/// The parameters of entry URLs on the command line.
#[derive(Debug, Args)]
pub struct ChoiceArguments {
    /// First instant shown, in seconds with at most 3 decimals.
    #[arg(long, value_name = "SECONDS")]
    pub start: Option<String>,
    /// First instant no longer shown, in seconds with at most 3 decimals.
    #[arg(long, value_name = "SECONDS")]
    pub end: Option<String>,
    /// Segment length, as in entry URLs: 2, 4, 6, 8 or 10. Its place in the URLs differs from --segment-duration-ms.
    #[arg(long, value_name = "SECONDS")]
    pub segment: Option<String>,
    /// Tracks to keep: v1,a1.
    #[arg(long, value_name = "IDS")]
    pub tracks: Option<String>,
    /// Languages of sound and text to keep: de,en.
    #[arg(long, value_name = "TAGS")]
    pub languages: Option<String>,
    /// Greatest picture height to keep.
    #[arg(long, value_name = "LINES")]
    pub max_height: Option<String>,
}

fn form(name: &str) -> Result<Form, String> {
    let names = || Form::ALL.map(Form::name).join(", ");
    Form::from_name(name).ok_or_else(|| format!("there are {}", names()))
}

/// DASH addressing on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AddressingName {
    /// SegmentTimeline with $Number$.
    TimelineNumber,
    /// SegmentTimeline with $Time$.
    TimelineTime,
    /// $Number$ with @duration.
    Number,
    /// SegmentBase over one file a representation.
    Ondemand,
}

/// `headwater import`
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// Media files or ladder folders. Subtitle files beside a film are taken with it: film.de.srt beside film.mp4.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Library to publish to; each presentation gets a folder there.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Wanted segment duration in milliseconds, 1000 to 20000.
    #[arg(long, value_name = "MS", default_value_t = 4000)]
    pub segment_duration_ms: u32,
    /// Make no thumbnails and no poster.
    #[arg(long)]
    pub no_thumbnails: bool,
    /// Keys of encrypted sources.
    #[command(flatten)]
    pub keys: SourceKeyArguments,
}

/// `headwater transcode`
#[cfg(feature = "transcode")]
#[derive(Debug, Args)]
pub struct TranscodeArguments {
    /// Media files. Subtitle files beside a film are taken with it: film.de.srt beside film.mp4.
    #[arg(required_unless_present = "worker", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Take jobs of the control plane instead, one after the other, until told to stop. Several workers share a queue.
    #[arg(long, conflicts_with = "files")]
    pub worker: bool,
    /// The control plane's folder for --worker [default: headwater-data]. DATABASE_URL names another database.
    #[arg(long, value_name = "DIR", requires = "worker")]
    pub data: Option<PathBuf>,
    /// Library to publish to; each film gets a folder there.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Which ladder: `default`, or one of [transcode.ladders] of the configuration.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub ladder: String,
    /// Configuration file (TOML) with [transcode].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Coding of all renditions [default: as the ladder says; AVC, and HEVC for HDR].
    #[arg(long, value_enum, value_name = "NAME")]
    pub codec: Option<CodecName>,
    /// Which devices may encode.
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceName,
    /// Pieces encoded at once, 1 to 64 [default: one for four cores, at least 2].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: Option<u16>,
    /// Length of the pieces in seconds [default: 60].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub chunk: Option<u64>,
    /// Wanted segment duration in milliseconds, 1000 to 20000.
    #[arg(long, value_name = "MS", default_value_t = 4000)]
    pub segment_duration_ms: u32,
    /// Make no thumbnails and no poster.
    #[arg(long)]
    pub no_thumbnails: bool,
}

/// Codings on the command line.
#[cfg(feature = "transcode")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CodecName {
    /// ITU-T H.264.
    Avc,
    /// ITU-T H.265.
    Hevc,
    /// AOMedia AV1.
    Av1,
}

/// Devices on the command line.
#[cfg(feature = "transcode")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// The fastest that opens.
    Auto,
    /// The processor alone.
    Cpu,
}

/// `headwater encoders`
#[cfg(feature = "transcode")]
#[derive(Debug, Args)]
pub struct EncodersArguments {
    /// Do not try them.
    #[arg(long)]
    pub no_test: bool,
}

/// `headwater worker`
#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// What to do; the order itself comes on standard input.
    #[arg(value_enum)]
    pub job: Job,
}

/// Jobs that run in a process of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Job {
    /// Thumbnails and poster of a video file.
    Thumbnails,
    /// Part of a transcoding job.
    Transcode,
}

/// `headwater library`
#[derive(Debug, Args)]
pub struct LibraryArguments {
    /// The library.
    #[arg(value_name = "DIR")]
    pub library: PathBuf,
    /// Folder for what is made of sources that can not be served in place, and for indexes of long ones [default: .headwater-cache in the library].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// How the list is written.
    #[command(flatten)]
    pub format: ReportFormat,
}

/// `headwater grant`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true
)]
pub struct GrantArguments {
    /// What is granted.
    #[command(flatten)]
    pub terms: GrantTerms,
    /// Something else than a grant.
    #[command(subcommand)]
    pub command: Option<GrantCommand>,
}

/// What a grant says. The parser demands what is required of it, unless a subcommand is given.
#[derive(Debug, Args)]
pub struct GrantTerms {
    /// The title, as `headwater library` names it.
    #[arg(required = true, value_name = "MEDIA_ID")]
    pub media_id: Option<String>,
    /// Key file: 64 hexadecimal digits, or up to two lines of `name:digits`, the current key first. Mode 0600.
    #[arg(long, required = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// How long it holds: 90s, 15m, 1h, 7d.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = crate::grant::parse_duration)]
    pub expires: u64,
    /// How long from now it begins to hold.
    #[arg(long, value_name = "DURATION", value_parser = crate::grant::parse_duration)]
    pub not_before: Option<u64>,
    /// Highest picture, in pixels.
    #[arg(long, value_name = "PIXELS")]
    pub height_max: Option<u32>,
    /// Protections it opens: clear, cenc, cens, cbc1, cbcs, aes-128, sample-aes [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub scheme: Vec<String>,
    /// Who grants.
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
    /// The session that it ends with.
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Whose title it is.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Watermark pattern in hexadecimal digits: a bit for each segment, over and over; 0 is variant a, 1 is variant b.
    #[arg(long, value_name = "HEX")]
    pub watermark: Option<String>,
    /// How it is written.
    #[command(flatten)]
    pub format: ReportFormat,
}

/// What else `headwater grant` does.
#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// Make a file with a new key and print the key's public name.
    NewKey {
        /// The file, which must not be there yet.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// `headwater licences`
#[cfg(feature = "control")]
#[derive(Debug, Args)]
pub struct LicencesArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: LicencesCommand,
}

/// What `headwater licences` can do.
#[cfg(feature = "control")]
#[derive(Debug, Subcommand)]
pub enum LicencesCommand {
    /// Answer players' licence requests over HTTP.
    Serve {
        /// Configuration file (TOML) with [control.licences].
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Address and port to listen on [default: 127.0.0.1:8091]. Licences cross it in the clear: let nobody but a TLS
        /// proxy reach it.
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<String>,
    },
}

/// `headwater check-config`
#[derive(Debug, Args)]
pub struct CheckConfigArguments {
    /// Configuration file (TOML).
    #[arg(value_name = "FILE", default_value = "headwater.toml")]
    pub config: PathBuf,
}
