//! `headwater library`: what a library holds.

use std::io::Write;
use std::process::ExitCode;

use origin::asset::Asset;
use origin::config::Section;
use origin::store::Store;
use packager::form::Form;
use serde_json::{Value, json};

use crate::cli::LibraryArguments;
use crate::print;

/// Lists every entry with its media id, entry URLs and what was left out.
pub fn run(arguments: LibraryArguments) -> anyhow::Result<ExitCode> {
    let section = Section {
        library: Some(arguments.library),
        cache: arguments.cache,
        ..Section::default()
    };
    let store = Store::new(section.check()?);
    let entries = store.scan()?;
    let mut out = print::out();
    for (id, entry) in entries.iter() {
        let row = match store.open(id) {
            Ok(asset) => playable(&entry.path().to_string_lossy(), &asset),
            Err(error) => json!({
                "path": entry.path().to_string_lossy(), "id": id, "playable": false, "entries": {},
                "refused": [{ "what": "file", "why": error.to_string() }],
            }),
        };
        match arguments.format.json {
            true => writeln!(out, "{row}")?,
            false => write_text(&mut out, &row)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn playable(path: &str, asset: &Asset) -> Value {
    let id = &asset.media_id;
    let presentation = &asset.presentation;
    let mut entries = serde_json::Map::new();
    let mut refused: Vec<Value> = presentation
        .refused
        .iter()
        .map(|refusal| json!({ "what": refusal.what, "why": refusal.why }))
        .collect();
    for form in Form::CLEAR {
        let left_out = presentation.left_out(form);
        refused.extend(
            left_out
                .iter()
                .map(|refusal| json!({ "what": refusal.what, "why": refusal.why })),
        );
    }
    if presentation.playable_in(Form::Cmaf) {
        entries.insert("hls".into(), format!("/vod/{id}/master.m3u8").into());
        entries.insert("dash".into(), format!("/vod/{id}/manifest.mpd").into());
    }
    if presentation.playable_in(Form::Ts) {
        entries.insert("hls_ts".into(), format!("/vod/{id}/ts/master.m3u8").into());
    }
    let playable = !entries.is_empty();
    if playable {
        entries.insert("page".into(), format!("/v/{id}").into());
    }
    json!({ "path": path, "id": id, "playable": playable, "entries": entries, "refused": refused })
}

fn write_text(out: &mut impl Write, row: &Value) -> std::io::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    writeln!(out, "{}\n  id       {}", text(&row["path"]), text(&row["id"]))?;
    for (name, url) in row["entries"].as_object().into_iter().flatten() {
        writeln!(out, "  {name:8} {}", text(url))?;
    }
    for refusal in row["refused"].as_array().into_iter().flatten() {
        writeln!(out, "  left out {}: {}", text(&refusal["what"]), text(&refusal["why"]))?;
    }
    Ok(())
}
