//! `headwater inspect`: explains what a file is, how it would be served, and what would be left out.

use std::io::Write;
use std::process::ExitCode;

use origin::asset::Asset;
use packager::form::Form;
use packager::presentation::{Content, Representation};
use packager::segment::sync_times;
use packager::time::MediaTime;
use packager::track::{MediaDescription, Track};
use serde_json::{Map, Value, json};

use crate::cli::InspectArguments;
use crate::print;
use crate::sources::{self, Named};

/// Reports on each file; the exit code is 1 when one can not be played.
pub fn run(arguments: InspectArguments) -> anyhow::Result<ExitCode> {
    let mut out = print::out();
    let mut code = ExitCode::SUCCESS;
    let keyring = sources::source_keys(&arguments.keys)?;
    for path in &arguments.files {
        let opened = Named::find(path, 4000).map(|named| named.open(&keyring));
        let report = match opened {
            Ok(Ok(asset)) => {
                let report = report(&path.to_string_lossy(), &asset);
                if report["playable"] == false {
                    code = ExitCode::FAILURE;
                }
                report
            }
            Ok(Err(error)) => {
                code = ExitCode::FAILURE;
                refusal(&path.to_string_lossy(), &error.to_string())
            }
            Err(error) => {
                code = ExitCode::FAILURE;
                refusal(&path.to_string_lossy(), &format!("{error:#}"))
            }
        };
        match arguments.format.json {
            true => writeln!(out, "{report}")?,
            false => write_text(&mut out, &report, 0)?,
        }
    }
    Ok(code)
}

fn refusal(path: &str, why: &str) -> Value {
    json!({ "path": path, "playable": false, "refused": [{ "what": "file", "why": why }] })
}

fn report(path: &str, asset: &Asset) -> Value {
    let presentation = &asset.presentation;
    let refusals = |list: &[packager::source::Refusal]| -> Vec<Value> {
        list.iter()
            .map(|refusal| json!({ "what": refusal.what, "why": refusal.why }))
            .collect()
    };
    let forms: Map<String, Value> = Form::CLEAR
        .into_iter()
        .map(|form| {
            let report = json!({
                "playable": presentation.playable_in(form),
                "left_out": refusals(&presentation.left_out(form)),
            });
            (form.name().to_owned(), report)
        })
        .collect();
    json!({
        "path": path,
        "playable": Form::CLEAR.into_iter().any(|form| presentation.playable_in(form)),
        "title": presentation.title,
        "version": presentation.version,
        "duration_s": seconds(presentation.duration),
        "tracks": presentation.representations.iter().map(track).collect::<Vec<_>>(),
        "forms": forms,
        "refused": refusals(&presentation.refused),
    })
}

/// Seconds for people and scripts; exact ticks stand beside them.
fn seconds(time: MediaTime) -> Value {
    let text = time.display_seconds(6).to_string();
    text.parse::<serde_json::Number>()
        .map_or(Value::String(text), Value::Number)
}

fn track(representation: &Representation) -> Value {
    let segments = &representation.segments;
    let mut report = json!({
        "id": representation.id,
        "codec": representation.codec().name(),
        "rfc6381": representation.rfc6381(),
        "language": representation.language,
        "label": representation.label,
        "roles": representation.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "segments": segments.segments().len(),
        "segment_duration_max_s": seconds(MediaTime::new(segments.duration_max() as i64, segments.timescale())),
    });
    let more = match &representation.content {
        Content::Cues(text) => json!({ "cues": text.cues().len() }),
        Content::Samples(track) => samples(representation, track),
    };
    if let (Value::Object(report), Value::Object(more)) = (&mut report, more) {
        report.extend(more);
    }
    report
}

fn samples(representation: &Representation, track: &Track) -> Value {
    let (description, index) = (&track.description, &track.index);
    let bandwidth = representation.bandwidth(Form::Cmaf);
    let mut report = json!({
        "source_track_id": description.source_track_id,
        "timescale": index.timescale().get(),
        "samples": index.sample_count(),
        "bytes": index.size_bytes(0..u32::MAX),
        "duration_ticks": index.duration().ticks,
        "first_decode_time_ticks": index.first_decode_time(),
        "edit_media_time_ticks": index.media_time(),
        "sync_samples": index.sync_samples().count(),
        "index_bytes": index.memory_bytes(),
        "bandwidth_average_bps": bandwidth.average_bps,
        "bandwidth_peak_bps": bandwidth.peak_bps,
    });
    let more = match &description.media {
        MediaDescription::Video(video) => {
            let times: Vec<i64> = sync_times(index).into_iter().map(|(_, time)| time).collect();
            let gops = times.windows(2).map(|pair| pair[1] - pair[0]);
            let time = |ticks| seconds(MediaTime::new(ticks, index.timescale()));
            json!({
                "width": video.width,
                "height": video.height,
                "sample_aspect_ratio": format!("{}:{}", video.sample_aspect_ratio.0, video.sample_aspect_ratio.1),
                "rotated": video.matrix.is_some(),
                "frame_rate": representation.frame_rate().map(|(n, d)| format!("{n}/{d}")),
                "video_range": format!("{:?}", video.video_range).to_uppercase(),
                "color": video.color.map(|c| json!({
                    "primaries": c.primaries, "transfer": c.transfer, "matrix": c.matrix, "full_range": c.full_range,
                })),
                "supplemental_codecs": video.supplemental_codecs.as_ref().map(|s| format!("{}/{}", s.rfc6381, s.brand)),
                "gop_min_s": gops.clone().min().map(time),
                "gop_max_s": gops.max().map(time),
            })
        }
        MediaDescription::Audio(audio) => json!({
            "sample_rate": audio.sample_rate,
            "channels": audio.channel_count,
            "joc_objects": audio.joc_complexity,
        }),
        MediaDescription::Text(_) => json!({}),
    };
    if let (Value::Object(report), Value::Object(more)) = (&mut report, more) {
        report.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
    report
}

/// An indented outline of a report: names, values, nested things below.
fn write_text(out: &mut impl Write, value: &Value, depth: usize) -> std::io::Result<()> {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Array(items) if items.iter().all(Value::is_string) => {
                        let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                        writeln!(out, "{indent}{name}: {}", items.join(", "))?;
                    }
                    Value::Object(_) | Value::Array(_) => {
                        writeln!(out, "{indent}{name}:")?;
                        write_text(out, field, depth + 1)?;
                    }
                    Value::String(text) => writeln!(out, "{indent}{name}: {text}")?,
                    other => writeln!(out, "{indent}{name}: {other}")?,
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            for item in items {
                write_text(out, item, depth)?;
                writeln!(out)?;
            }
            Ok(())
        }
        other => writeln!(out, "{indent}{other}"),
    }
}
