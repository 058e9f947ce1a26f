//! Transfer: a film on its way up, part by part, going on where it was broken off; then until it can be watched.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use control_api::outbound::{Ask, OutboundError, Repeat};
use control_api::secrets::new_token;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::account::Begun;
use super::{Client, answer, api_url, refusal, text};
use crate::cli::UploadArguments;
use crate::print;

/// Bytes of the first part; they double while parts are fast.
const PART_SIZE_BYTES_MIN: u64 = 256 << 10;
/// Bytes of the largest part.
const PART_SIZE_BYTES_MAX: u64 = 16 << 20;
/// Parts that take longer get smaller: an attempt has ten seconds.
const PART_DURATION: Duration = Duration::from_secs(2);
/// How often in a row a part is tried without a byte more being there.
const ATTEMPT_COUNT_MAX: u32 = 8;
/// Pause before the second attempt; each later one is as much longer.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
/// How often is asked how encoding goes.
const PAUSE: Duration = Duration::from_secs(1);

/// A file to upload.
struct Film {
    file: File,
    name: String,
    size_bytes: u64,
    /// Tells this upload of this file from others.
    what: String,
}

impl Film {
    fn open(arguments: &UploadArguments) -> anyhow::Result<Film> {
        let path = arguments.file.as_path();
        let named = || path.display().to_string();
        let file = File::open(path).with_context(named)?;
        let metadata = file.metadata().with_context(named)?;
        ensure!(metadata.is_file(), "{}: not a file", named());
        ensure!(metadata.len() > 0, "{}: is empty", named());
        let whole = path.canonicalize().with_context(named)?;
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        // For another title or movie it is another upload.
        let (movie, new_movie) = (&arguments.movie, &arguments.new_movie);
        let wanted = json!([
            whole.display().to_string(),
            metadata.len(),
            changed.0,
            changed.1,
            arguments.title,
            movie,
            new_movie
        ]);
        Ok(Film {
            file,
            name: name_of(path),
            size_bytes: metadata.len(),
            what: wanted.to_string(),
        })
    }

    fn part(&self, offset: u64, size: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(size)?]);
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.with_context(|| format!("{}: can not be read at byte {offset}; has it changed?", self.name))?;
        Ok(bytes)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Uploads a film.
pub async fn upload(client: &mut Client, arguments: &UploadArguments) -> anyhow::Result<()> {
    let film = Film::open(arguments)?;
    let upload = match begun(client, &film.what).await? {
        Some(upload) => upload,
        None => announce(client, arguments, &film).await?,
    };
    let id = text(&upload, "id")?;
    send(client, &film, &upload).await?;
    let upload = client.post_again(&format!("/uploads/{id}/complete")).await?;
    // Before it is waited for: whoever breaks off here knows what it became.
    writeln!(print::out(), "{:<9} {}", "asset", text(&upload, "asset_id")?)?;
    match arguments.no_wait {
        true => Ok(()),
        false => wait(client, &film.what, upload).await,
    }
}

/// The upload of this that was broken off, if it is still there. One that failed begins anew.
async fn begun(client: &mut Client, what: &str) -> anyhow::Result<Option<Value>> {
    let Some(id) = client.session.begun(what).and_then(|begun| begun.upload.clone()) else {
        return Ok(None);
    };
    match client.get(&format!("/uploads/{id}")).await {
        Ok(upload) => {
            let has_ended = matches!(upload["status"].as_str(), Some("failed" | "canceled") | None);
            Ok(Some(upload).filter(|_| !has_ended))
        }
        Err(error) if refusal(&error).is_some_and(|refusal| [404, 410].contains(&refusal.status)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn announce(client: &mut Client, arguments: &UploadArguments, film: &Film) -> anyhow::Result<Value> {
    let mut begun = Begun {
        upload: None,
        ..client.session.begun(&film.what).cloned().unwrap_or_default()
    };
    if let (Some(title), None) = (&arguments.new_movie, &begun.movie) {
        let key = named(client, &film.what, &mut begun)?;
        begun.movie = Some(new_movie(client, title, &key, arguments).await?);
        begun.key = None;
    }
    let mut announced = json!({
        "asset_type": "video_master", "filename": film.name, "content_type": content_type(&film.name),
        "size_bytes": film.size_bytes, "transport": "tus", "title": arguments.title.as_ref().unwrap_or(&film.name),
    });
    if let Some(movie) = begun.movie.as_ref().or(arguments.movie.as_ref()) {
        announced["target"] = json!({ "content_type": "movie", "content_id": movie });
    }
    let key = named(client, &film.what, &mut begun)?;
    let upload = client.make("/uploads", &key, &announced).await?;
    (begun.upload, begun.key) = (Some(text(&upload, "id")?), None);
    client.session.keep(&film.what, begun)?;
    Ok(upload)
}

/// What is asked for next goes by this name, in this process or the one after it.
fn named(client: &mut Client, what: &str, begun: &mut Begun) -> anyhow::Result<String> {
    let key = match &begun.key {
        Some(key) => key.clone(),
        None => new_token("")?.to_string(),
    };
    begun.key = Some(key.clone());
    client.session.keep(what, begun.clone())?;
    Ok(key)
}

async fn new_movie(client: &mut Client, title: &str, key: &str, arguments: &UploadArguments) -> anyhow::Result<String> {
    let mut movie = json!({ "title": title, "status": "draft", "drm_required": false });
    if let Some(minutes) = arguments.runtime {
        movie["runtime_minutes"] = json!(minutes);
    }
    if let Some(rating) = &arguments.rating {
        movie["content_rating"] = json!(rating);
    }
    let made = text(&client.make("/admin/movies", key, &movie).await?, "id")?;
    writeln!(print::out(), "{:<9} {made}", "movie")?;
    Ok(made)
}

fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "mkv" => "video/x-matroska",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        "ts" | "m2ts" | "mts" => "video/mp2t",
        _ => "video/mp4",
    }
}

/// Sends what is missing, part by part (tus 1.0).
async fn send(client: &mut Client, film: &Film, upload: &Value) -> anyhow::Result<()> {
    let (id, size) = (text(upload, "id")?, film.size_bytes);
    let first = offset_of(upload)?;
    ensure!(first <= size, "{}: more than the whole file is there", film.name);
    let (mut offset, mut part_size, mut attempts) = (first, PART_SIZE_BYTES_MIN, 0);
    let (mut bar, begun) = (Bar::new("sending"), Instant::now());
    while offset < size {
        let at = Instant::now();
        let bytes = film.part(offset, part_size.min(size - offset))?;
        let next = match part(client, &id, offset, bytes).await {
            Ok(next) => {
                part_size = match at.elapsed() < PART_DURATION {
                    true => part_size.saturating_mul(2).min(PART_SIZE_BYTES_MAX),
                    false => (part_size / 2).max(PART_SIZE_BYTES_MIN),
                };
                next
            }
            Err(error) if attempts < ATTEMPT_COUNT_MAX && is_passing(&error) => {
                tracing::debug!(%error, offset, "a part was broken off");
                part_size = PART_SIZE_BYTES_MIN;
                tokio::time::sleep(ATTEMPT_PAUSE * (attempts + 1)).await;
                // Some of it may be there.
                match client.get(&format!("/uploads/{id}")).await {
                    Ok(upload) => offset_of(&upload)?,
                    Err(error) if is_passing(&error) => offset,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error.context("the upload was broken off; ask again and it goes on")),
        };
        ensure!(next <= size, "{}: the answer's offset is beyond its end", film.name);
        attempts = if next > offset { 0 } else { attempts + 1 };
        offset = next;
        let rate = offset.saturating_sub(first) as f64 / begun.elapsed().as_secs_f64().max(0.001) / 1e6;
        bar.show(100.0 * offset as f64 / size as f64, &format!("{rate:.1} MB/s"));
    }
    bar.end();
    Ok(())
}

fn offset_of(upload: &Value) -> anyhow::Result<u64> {
    upload["offset_bytes"]
        .as_u64()
        .context("the answer has no offset_bytes")
}

/// Whether it may go better at the next attempt: the wire broke, another part of the same is still being written, or the
/// API is busy. Everything else was refused for good.
fn is_passing(error: &anyhow::Error) -> bool {
    match refusal(error) {
        Some(refusal) => matches!(refusal.status, 409 | 423 | 429 | 500..),
        None => error.is::<OutboundError>(),
    }
}

/// Sends one part; where the next one begins.
async fn part(client: &mut Client, id: &str, offset: u64, bytes: Zeroizing<Vec<u8>>) -> anyhow::Result<u64> {
    let url = api_url(&client.session.url, &format!("/uploads/tus/{id}"))?;
    let mut ask = Ask::patch(url, bytes, Repeat::Never);
    ask.header("tus-resumable", "1.0.0");
    ask.header("content-type", "application/offset+octet-stream");
    ask.secret_header("upload-offset", &offset.to_string())
        .context("no offset")?;
    let reply = client.send(&mut ask).await?;
    answer(&reply)?;
    let next = reply.header("upload-offset").and_then(|text| text.parse().ok());
    next.context("the answer has no Upload-Offset")
}

/// Waits until a film can be watched.
async fn wait(client: &mut Client, what: &str, mut upload: Value) -> anyhow::Result<()> {
    let path = format!("/uploads/{}", text(&upload, "id")?);
    let mut bar = Bar::new("encoding");
    loop {
        match upload["status"].as_str() {
            Some("completed") => break,
            Some("failed" | "canceled") => {
                client.session.forget(what)?;
                let why = upload["error_message"].as_str();
                bail!("{}", why.unwrap_or("the film can not be encoded"));
            }
            Some(_) => bar.show(upload["progress_percent"].as_f64().unwrap_or(0.0), ""),
            None => return Err(anyhow!("the answer has no status")),
        }
        tokio::time::sleep(PAUSE).await;
        let asked = client.get(&path).await;
        upload = asked.context("it is encoded without us; ask again to wait for it")?;
    }
    bar.end();
    client.session.forget(what)
}

/// A bar on standard error, where people see it; nothing elsewhere.
struct Bar {
    what: &'static str,
    is_seen: bool,
    shown: bool,
}

impl Bar {
    fn new(what: &'static str) -> Bar {
        Bar {
            what,
            is_seen: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    fn show(&mut self, percent: f64, beside: &str) {
        if !self.is_seen {
            return;
        }
        let done = "#".repeat((percent.clamp(0.0, 100.0) / 2.5) as usize);
        // Whoever no longer reads it does not miss it.
        let _ = write!(
            std::io::stderr(),
            "\r{:<9} [{done:-<40}] {percent:5.1} % {beside}   ",
            self.what
        );
        self.shown = true;
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            print::remark(format_args!(""));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Refusal;

    #[test]
    fn what_passes_is_tried_again() {
        let check = |error: anyhow::Error, expected: bool| {
            assert_eq!(is_passing(&error), expected, "{error}");
            assert_eq!(is_passing(&error.context("somewhere")), expected);
        };
        for status in [409, 423, 429, 500, 503] {
            check(Refusal::of(status).into(), true);
        }
        for status in [400, 401, 403, 404, 410, 413, 460] {
            check(Refusal::of(status).into(), false);
        }
        check(OutboundError::Timeout.into(), true);
        check(anyhow!("the disk is broken"), false);
    }

    #[test]
    fn names_say_what_is_in_them() {
        let check = |name: &str, expected: &str| assert_eq!(content_type(name), expected, "{name}");
        check("film.MKV", "video/x-matroska");
        check("a.b.mov", "video/quicktime");
        check("film.m2ts", "video/mp2t");
        check("film", "video/mp4");
    }
}
