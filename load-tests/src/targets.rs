//! What to ask for: every URL that a title's playlists lead to, by kind.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};

use crate::client::Client;

/// URLs of one or more titles.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Media segments, with their sizes in bytes.
    pub segments: Vec<(String, u64)>,
    /// CMAF headers.
    pub inits: Vec<String>,
    /// Entry points and media playlists.
    pub manifests: Vec<String>,
}

impl Targets {
    /// Follows the playlists of `media` (ids), in CMAF and MPEG-TS.
    pub async fn find(address: SocketAddr, media: &[String]) -> anyhow::Result<Targets> {
        let mut client = Client::new(address);
        let mut found = Targets::default();
        let mut refused = Vec::new();
        for id in media {
            for entry in ["master.m3u8", "ts/master.m3u8", "manifest.mpd"] {
                let entry = format!("/vod/{id}/{entry}");
                let asked = client.read(&entry).await;
                let (answer, body) = asked.with_context(|| format!("asking {address} for {entry}"))?;
                // A form that the title does not have.
                if answer.status != 200 {
                    refused.push(format!("{entry} is answered {}", answer.status));
                    continue;
                }
                found.manifests.push(entry.clone());
                if entry.ends_with(".m3u8") {
                    found.follow(&mut client, &entry, &String::from_utf8(body)?).await?;
                }
            }
        }
        found.inits.sort();
        found.inits.dedup();
        if found.segments.is_empty() {
            bail!("no segments in the playlists of {media:?}: {}", refused.join(", "));
        }
        let mut sized = Vec::new();
        for (path, _) in std::mem::take(&mut found.segments) {
            let answer = client.get(&path).await?;
            if answer.status != 200 {
                bail!("{path} is answered {}", answer.status);
            }
            sized.push((path, answer.size));
        }
        found.segments = sized;
        Ok(found)
    }

    /// The paths in a file, one a line, as segments of unknown size.
    pub fn read(paths: &Path) -> anyhow::Result<Targets> {
        let named = || paths.display().to_string();
        let text = std::fs::read_to_string(paths).with_context(named)?;
        let segments: Vec<_> = text.lines().map(|line| (line.to_owned(), 0)).collect();
        if segments.is_empty() {
            bail!("{}: no paths", named());
        }
        Ok(Targets {
            segments,
            ..Targets::default()
        })
    }

    async fn follow(&mut self, client: &mut Client, entry: &str, text: &str) -> anyhow::Result<()> {
        for playlist in links(entry, text) {
            if !playlist.ends_with(".m3u8") {
                continue;
            }
            let (answer, body) = client.read(&playlist).await?;
            if answer.status != 200 {
                bail!("{playlist} is answered {}", answer.status);
            }
            for url in links(&playlist, &String::from_utf8(body)?) {
                let name = url.rsplit('/').next().unwrap_or_default();
                if name.starts_with("init") {
                    self.inits.push(url);
                } else if !name.ends_with(".jpg") {
                    self.segments.push((url, 0));
                }
            }
            self.manifests.push(playlist);
        }
        Ok(())
    }

    /// The largest segment.
    pub fn largest(&self) -> anyhow::Result<&str> {
        let largest = self.segments.iter().max_by_key(|(_, size)| *size);
        largest.map(|(path, _)| path.as_str()).context("no segments")
    }
}

/// What a playlist links to, as absolute paths.
fn links(playlist: &str, text: &str) -> Vec<String> {
    let quoted = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| line.split("URI=\"").nth(1)?.split('"').next());
    let plain = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut found: Vec<String> = quoted.chain(plain).map(|link| resolve(playlist, link)).collect();
    found.sort();
    found.dedup();
    found
}

/// RFC 3986 5.2, as far as playlists need it.
fn resolve(base: &str, link: &str) -> String {
    if link.starts_with('/') {
        return link.to_owned();
    }
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_resolved() {
        let text = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:4,\n1.m4s\n#EXTINF:4,\n../v2/1.m4s\n/x/y.m4s\n";
        let want = ["/vod/a/v1/init.mp4", "/vod/a/v1/1.m4s", "/vod/a/v2/1.m4s", "/x/y.m4s"];
        let mut want: Vec<String> = want.map(str::to_owned).into();
        want.sort();
        assert_eq!(links("/vod/a/v1/index.m3u8", text), want);
    }
}
