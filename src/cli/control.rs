//! Arguments of the control plane.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Where the control plane's configuration and data are.
#[derive(Clone, Debug, Args)]
pub struct ControlPlace {
    /// Configuration file (TOML) with a [control] section. Arguments win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for the embedded database and keys [default: headwater-data]. DATABASE_URL names another database.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `headwater control`
#[derive(Debug, Args)]
pub struct ControlArguments {
    /// Where it is.
    #[command(flatten)]
    pub place: ControlPlace,
    /// Address and port to listen on [default: 127.0.0.1:8090].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Answer plain HTTP too, for work on one's own machine.
    #[arg(long)]
    pub allow_http: bool,
}

/// `headwater dev`
#[derive(Debug, Args)]
pub struct DevArguments {
    /// Folder for everything: database, keys, library.
    #[arg(long, value_name = "DIR", default_value = "headwater-data")]
    pub data: PathBuf,
    /// Folder whose playable files are served [default: library in the data folder].
    #[arg(long, value_name = "DIR")]
    pub library: Option<PathBuf>,
    /// Address and port of the API.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8090")]
    pub listen: String,
    /// Address and port of the origin.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub origin_listen: String,
}

/// `headwater admin`
#[derive(Debug, Args)]
pub struct AdminArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// What `headwater admin` does.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make an account with the role admin, the first one above all.
    Create(CreateAdminArguments),
    /// Make a new key that tokens are signed with; the one before verifies until its last token has ended.
    RotateKeys(ControlPlace),
    /// Load genres and country rules from a file; those that are there already are changed.
    Load(LoadArguments),
}

/// `headwater admin load`
#[derive(Debug, Args)]
pub struct LoadArguments {
    /// Where the control plane is.
    #[command(flatten)]
    pub place: ControlPlace,
    /// TOML with [[genre]] (slug, name, content_types, parent; parents first) and [[geo_rule]] (name, description, policy =
    /// "allow_list" or "block_list", territories, applies_to).
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `headwater admin create`
#[derive(Debug, Args)]
pub struct CreateAdminArguments {
    /// Where the control plane is.
    #[command(flatten)]
    pub place: ControlPlace,
    /// E-mail to sign in with.
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
    /// Name that is shown.
    #[arg(long, value_name = "NAME", default_value = "Administrator")]
    pub name: String,
    /// File whose first line is the password; without it one is made and printed.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}
