//! Every file that the entry points of a presentation lead to: what packaging ahead of time writes.

use packager::codec::MediaKind;
use packager::form::{Form, SegmentFormat};
use packager::hls::{muxed_audio, segment_extension};
use packager::images::REPRESENTATION_ID;
use packager::presentation::Representation;
use packager::presentation::choice::{Choice, Selection};

use crate::asset::Asset;
use crate::route::{Addressing, Extension, RepresentationFile, TextCoding, VodResource};

/// A file below `/vod/{id}/` and the resource behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Path relative to `/vod/{id}/`.
    pub path: String,
    /// What answers it.
    pub resource: VodResource,
}

/// Entry points and everything below them, in `forms`, with the MPD in `addressing`.
pub fn list(asset: &Asset, forms: &[Form], addressing: Addressing) -> Vec<Listed> {
    list_chosen(asset, forms, addressing, &Choice::default(), &Selection::default())
}

/// The same of an asset that `choice` was made of, with the tracks of `selection`.
pub fn list_chosen(
    asset: &Asset,
    forms: &[Form],
    addressing: Addressing,
    choice: &Choice,
    selection: &Selection,
) -> Vec<Listed> {
    let mut listed = Vec::new();
    for form in forms
        .iter()
        .copied()
        .filter(|form| asset.presentation.playable_in(*form))
    {
        let path = match form.format() {
            SegmentFormat::Cmaf => "master.m3u8",
            SegmentFormat::Ts => "ts/master.m3u8",
        };
        listed.push(Listed {
            path: path.into(),
            resource: VodResource::Multivariant {
                form,
                choice: choice.clone(),
                clear_key: None,
            },
        });
        if form.format() == SegmentFormat::Cmaf {
            let resource = VodResource::Mpd {
                form,
                addressing,
                text: TextCoding::Wvtt,
                choice: choice.clone(),
            };
            listed.push(Listed {
                path: "manifest.mpd".into(),
                resource,
            });
        }
        let muxed = muxed_audio(&asset.presentation, form).map(|audio| audio.id.as_str());
        for kind in [MediaKind::Video, MediaKind::Audio, MediaKind::Text] {
            for representation in asset.presentation.carried(form, kind) {
                let separate = muxed != Some(representation.id.as_str());
                if separate && selection.keeps(&representation.id) {
                    list_representation(asset, form, addressing, representation, &mut listed);
                }
            }
        }
        list_images(asset, form, &mut listed);
    }
    listed
}

/// Thumbnails in `form`; what belongs to no form goes with the first.
fn list_images(asset: &Asset, form: Form, listed: &mut Vec<Listed>) {
    let Some(track) = asset.presentation.images() else {
        return;
    };
    let version = &asset.presentation.version;
    let mut add = |path: String, resource: VodResource| listed.push(Listed { path, resource });
    let file = |file: RepresentationFile| VodResource::File {
        version: version.clone(),
        form,
        representation: REPRESENTATION_ID.into(),
        file,
    };
    let folder = format!("v{version}/{}/{REPRESENTATION_ID}", form.name());
    add(format!("{folder}/index.m3u8"), file(RepresentationFile::MediaPlaylist));
    for (_, number) in track.sheets.iter().zip(1u32..) {
        add(
            format!("{folder}/{number}.jpg"),
            file(RepresentationFile::Image { number }),
        );
    }
    if form == Form::Cmaf {
        add("thumbs.vtt".into(), VodResource::Thumbs);
        if track.poster.is_some() {
            add("poster.jpg".into(), VodResource::Poster);
        }
    }
}

fn list_representation(
    asset: &Asset,
    form: Form,
    addressing: Addressing,
    representation: &Representation,
    listed: &mut Vec<Listed>,
) {
    let (version, id) = (&asset.presentation.version, &representation.id);
    let mut add = |name: String, file: RepresentationFile| {
        listed.push(Listed {
            path: format!("v{version}/{}/{id}/{name}", form.name()),
            resource: VodResource::File {
                version: version.clone(),
                form,
                representation: id.clone(),
                file,
            },
        });
    };
    let kind = representation.kind();
    // Text has no media extension of its own: its segments are named below.
    let extension = Extension::from_name(segment_extension(representation, form)).unwrap_or(Extension::M4s);
    add("index.m3u8".into(), RepresentationFile::MediaPlaylist);
    if form.format() == SegmentFormat::Cmaf {
        add("init.mp4".into(), RepresentationFile::Init);
        let protection = asset.protected.as_ref().map(|protected| &protected.protection);
        for header in protection.iter().flat_map(|it| it.headers(representation)).skip(1) {
            let period = u32::try_from(header + 1).unwrap_or(u32::MAX);
            add(format!("init-{period}.mp4"), RepresentationFile::PeriodInit { period });
        }
    }
    for (segment, number) in representation.segments.segments().iter().zip(1u32..) {
        match kind {
            MediaKind::Text => add(format!("{number}.vtt"), RepresentationFile::TextSegment { number }),
            _ => add(
                format!("{number}.{}", extension.name()),
                RepresentationFile::Segment { number, extension },
            ),
        }
        if form.format() == SegmentFormat::Cmaf && kind == MediaKind::Text {
            add(
                format!("{number}.m4s"),
                RepresentationFile::Segment { number, extension },
            );
        }
        if form.format() == SegmentFormat::Cmaf && addressing == Addressing::TimelineTime {
            add(
                format!("t{}.m4s", segment.start),
                RepresentationFile::SegmentAt { time: segment.start },
            );
        }
    }
    if form == Form::Cmaf && addressing == Addressing::OnDemand {
        add("media.mp4".into(), RepresentationFile::OnDemand);
    }
    if kind == MediaKind::Text {
        add("text.vtt".into(), RepresentationFile::WholeText);
    }
    if !representation.trick_frames.is_empty() {
        add("iframes.m3u8".into(), RepresentationFile::TrickPlaylist);
        for (_, number) in representation.trick_frames.iter().zip(1u32..) {
            add(
                format!("iframe-{number}.{}", extension.name()),
                RepresentationFile::TrickFrame { number, extension },
            );
        }
    }
}
