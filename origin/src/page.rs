//! Pages for people: the player, its embeddable form, and what the library holds.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use packager::form::Form;
use sha2::{Digest, Sha256};

use crate::asset::Asset;
use crate::error::ServeError;
use crate::library::Entry;

const PAGE: &str = include_str!("../player/page.html");
const EMBED: &str = include_str!("../player/embed.html");
/// Largest player file that is served.
const FILE_SIZE_BYTES_MAX: u64 = 16 << 20;

/// Everything comes from this host; `data:` in media-src is for the browser's native text track.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     media-src 'self' blob: data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'";

/// A page and who may put it into a frame.
pub struct Page {
    /// HTML.
    pub body: Bytes,
    /// `Content-Security-Policy`.
    pub security_policy: String,
}

impl Page {
    /// A page for its own window.
    fn own_window(body: Bytes) -> Page {
        Page {
            body,
            security_policy: format!("{CONTENT_SECURITY_POLICY}; frame-ancestors 'self'"),
        }
    }

    /// A page for anybody's iframe.
    fn anywhere(body: Bytes) -> Page {
        Page {
            body,
            security_policy: format!("{CONTENT_SECURITY_POLICY}; frame-ancestors *"),
        }
    }
}

/// The player page of `asset`.
pub fn player(asset: &Asset, library: &PlayerLibrary, way: &Way) -> Page {
    Page::own_window(fill(PAGE, asset, library, way))
}

/// What a page has to know of who looks at it.
#[derive(Debug, Default)]
pub struct Way {
    /// The grant in links, with its slash; empty without one.
    pub grant: String,
    /// Media is encrypted, and Clear Key licences are to be had.
    pub clear_key: bool,
}

/// The player alone, for an iframe.
pub fn embed(asset: &Asset, library: &PlayerLibrary, way: &Way) -> Page {
    Page::anywhere(fill(EMBED, asset, library, way))
}

fn fill(template: &str, asset: &Asset, library: &PlayerLibrary, way: &Way) -> Bytes {
    let presentation = &asset.presentation;
    let id = &asset.media_id;
    let url = |form: Form, path: &str| match presentation.playable_in(form) {
        true => format!("/vod/{id}/{}{path}", way.grant),
        false => String::new(),
    };
    // The library of the page takes a key by its URL in HLS, and by licence in DASH.
    let (hls, license) = match way.clear_key {
        true => (
            "master.m3u8?clear_key=identity",
            format!("/vod/{id}/{}license/clearkey", way.grant),
        ),
        false => ("master.m3u8", String::new()),
    };
    let poster = match presentation.images().and_then(|images| images.poster.as_ref()) {
        // Named by its hash, so that a browser never shows a former one.
        Some(poster) => format!(
            " poster=\"/vod/{id}/poster.jpg?{}\"",
            poster.file.sha256.get(..16).unwrap_or_default()
        ),
        None => String::new(),
    };
    let values = [
        ("{{title}}", escape(&presentation.title)),
        ("{{id}}", escape(id)),
        ("{{hls}}", url(Form::Cmaf, hls)),
        ("{{license}}", license),
        ("{{ts}}", url(Form::Ts, "ts/master.m3u8")),
        ("{{dash}}", url(Form::Cmaf, "manifest.mpd")),
        ("{{poster}}", poster),
        ("{{asset_base}}", format!("/player/{}", library.version)),
    ];
    // One pass, so that a value can never be taken for a placeholder.
    let mut out = String::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match values.iter().find(|(name, _)| from.starts_with(name)) {
            Some((name, value)) => {
                out.push_str(value);
                rest = &from[name.len()..];
            }
            None => {
                out.push_str("{{");
                rest = &from[2..];
            }
        }
    }
    out.push_str(rest);
    out.into()
}

/// Text as it may stand in HTML text and quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '{' => out.push_str("&#123;"),
            control if control.is_control() => out.push(' '),
            _ => out.push(character),
        }
    }
    out
}

/// The files that the pages need, read once at start: a player library is a few hundred kilobytes.
#[derive(Debug)]
pub struct PlayerLibrary {
    /// Hash over all files, part of their URLs.
    pub version: String,
    files: BTreeMap<String, (Bytes, &'static str)>,
}

impl PlayerLibrary {
    /// Reads the files in `folder` that a page may ask for.
    pub fn read(folder: &Path) -> std::io::Result<PlayerLibrary> {
        let mut files = BTreeMap::new();
        for item in std::fs::read_dir(folder)? {
            let item = item?;
            let name = item.file_name().to_string_lossy().into_owned();
            let content_type = match Path::new(&name).extension().and_then(|extension| extension.to_str()) {
                Some("js") => "text/javascript; charset=utf-8",
                Some("css") => "text/css; charset=utf-8",
                Some("svg") => "image/svg+xml",
                _ => continue,
            };
            let size = item.metadata()?.len();
            if size > FILE_SIZE_BYTES_MAX {
                let what = format!(
                    "{}: {size} bytes, at most {FILE_SIZE_BYTES_MAX} are served",
                    item.path().display()
                );
                return Err(std::io::Error::other(what));
            }
            files.insert(name, (Bytes::from(std::fs::read(item.path())?), content_type));
        }
        let mut hash = Sha256::new();
        for (name, (bytes, _)) in &files {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        let version = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(PlayerLibrary { version, files })
    }

    /// A file and its type.
    pub fn file(&self, version: &str, name: &str) -> Result<(Bytes, &'static str), ServeError> {
        let found = self.files.get(name).filter(|_| version == self.version);
        found.cloned().ok_or(ServeError::NotFound)
    }
}

/// The library as a page of links.
pub fn index<'a>(entries: impl Iterator<Item = (&'a String, &'a Entry)>, library: Option<&PlayerLibrary>) -> Page {
    let mut out = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"dark\">\
         <title>headwater</title>",
    );
    if let Some(library) = library {
        let _ = write!(
            out,
            "<link rel=\"stylesheet\" href=\"/player/{}/player.css\">",
            library.version
        );
    }
    out.push_str("</head><body class=\"page\"><main class=\"watch\"><h1 class=\"title\">headwater</h1><ul>");
    let mut any = false;
    for (id, entry) in entries {
        any = true;
        let path = escape(&entry.path().to_string_lossy());
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "<li><a href=\"/v/{id}\">{}</a> <small>{path}</small></li>",
            escape(&entry.title())
        );
    }
    out.push_str(if any {
        "</ul>"
    } else {
        "</ul><p>The library is empty.</p>"
    });
    out.push_str("</main></body></html>");
    Page::own_window(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_can_not_leave_their_place() {
        let escaped = escape("\"><script>alert('x')</script>{{id}}\n");
        assert!(!escaped.contains(['<', '>', '"', '\'', '\n', '{']), "{escaped}");
    }
}
