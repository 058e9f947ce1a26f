//! Arguments of the API's client.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `headwater api`
#[derive(Debug, Args)]
pub struct ClientArguments {
    /// File that the sign-in is kept in (mode 0600) [default: headwater/api.json in the user's configuration folder].
    #[arg(long, value_name = "FILE", global = true)]
    pub session: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: ClientCommand,
}

/// What `headwater api` does.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Sign in. The password is asked for, or the first line of standard input.
    Login(LoginArguments),
    /// Upload a film, and wait until it can be watched. Asked again after a break, it goes on where it was.
    Upload(UploadArguments),
    /// Publish a movie.
    Publish {
        /// The movie's id.
        #[arg(value_name = "MOVIE", value_parser = id)]
        movie: String,
    },
    /// Print addresses that a player opens: of a movie, or of a film of one's library.
    Watch {
        /// The id of a movie or of an asset.
        #[arg(value_name = "ID", value_parser = id)]
        id: String,
    },
    /// Forget the sign-in, here and there.
    Logout,
}

/// `headwater api login`
#[derive(Debug, Args)]
pub struct LoginArguments {
    /// Where the control API is: https://api.example, or http://127.0.0.1:8090.
    #[arg(value_name = "URL")]
    pub url: String,
    /// E-mail of the account.
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
    /// File whose first line is the password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `headwater api upload`
#[derive(Debug, Args)]
pub struct UploadArguments {
    /// The film.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Title in the library [default: the file's name].
    #[arg(long, value_name = "TITLE")]
    pub title: Option<String>,
    /// Movie that it becomes the video of.
    #[arg(long, value_name = "ID", conflicts_with = "new_movie", value_parser = id)]
    pub movie: Option<String>,
    /// Make a movie of this title for it. Needs --runtime and --rating before it can be published.
    #[arg(long, value_name = "TITLE")]
    pub new_movie: Option<String>,
    /// The new movie's length in minutes.
    #[arg(long, value_name = "MINUTES", requires = "new_movie")]
    pub runtime: Option<u32>,
    /// The new movie's rating: PG-13, TV-14, …
    #[arg(long, value_name = "RATING", requires = "new_movie")]
    pub rating: Option<String>,
    /// Leave when all bytes are there. The same again without this waits.
    #[arg(long)]
    pub no_wait: bool,
}

/// An id as the API writes it: it goes into a path.
fn id(text: &str) -> Result<String, String> {
    let is_digit = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    match text.len() == 36 && text.bytes().enumerate().all(is_digit) {
        true => Ok(text.to_owned()),
        false => Err("is no id (8-4-4-4-12 hexadecimal digits)".to_owned()),
    }
}
