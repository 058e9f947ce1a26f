//! Sound and text of assets, as viewers and libraries are told of them.

use serde_json::{Value, json};

use crate::schema::{Schema, date_time, integer, object, required, text, uri, uuid};

/// An audio track.
pub fn audio() -> Schema {
    object([
        required("id", uuid()),
        required("language", text(0, 35).or_null()),
        required("label", text(0, 255).or_null()),
        required("codec", text(0, 50).or_null()),
        required("channels", integer(0, 255).or_null()),
        required("kind", Schema::Enum(&["main", "commentary", "description"])),
        required("is_default", Schema::Bool),
    ])
    .named("AudioTrack")
}

/// A subtitle track.
pub fn subtitle() -> Schema {
    object([
        required("id", uuid()),
        required("language", text(0, 35).or_null()),
        required("label", text(0, 255).or_null()),
        required("format", text(1, 20)),
        required("kind", Schema::Enum(&["subtitles", "captions", "forced"])),
        required("is_default", Schema::Bool),
    ])
    .named("SubtitleTrack")
}

/// A trailer.
pub fn trailer() -> Schema {
    let seconds = Schema::Number { min: 0.0, max: 1e9 };
    object([
        required("id", uuid()),
        required("title", text(0, 255)),
        required("language", text(0, 35).or_null()),
        required("duration_seconds", seconds.or_null()),
        required("thumbnail_url", uri().or_null()),
        required("hls_url", uri()),
        required("dash_url", uri()),
        required("expires_at", date_time()),
    ])
    .named("Trailer")
}

/// Those of `rows` that are of this kind.
pub fn shown(rows: &[Value], kind: &str) -> Vec<Value> {
    let of_kind = rows.iter().filter(|row| row["kind"] == kind);
    let shown = of_kind.map(|row| match kind {
        "audio" => json!({
            "id": row["id"], "language": row["language"], "label": row["label"], "codec": row["codec"],
            "channels": row["channels"], "kind": row["use"].as_str().unwrap_or("main"), "is_default": row["is_default"],
        }),
        _ => json!({
            "id": row["id"], "language": row["language"], "label": row["label"], "format": "vtt",
            "kind": row["use"].as_str().unwrap_or("subtitles"), "is_default": row["is_default"],
        }),
    });
    shown.collect()
}
