//! The multivariant playlist: variants, audio groups, subtitles, I-frame streams of one form.

use super::{
    VERSION, VERSION_WITH_DEFINE, VERSION_WITH_QUERY_PARAMETER, images, muxed_audio, push_number, push_quoted,
};
use crate::codec::MediaKind;
use crate::codec::{Codec, VideoRange};
use crate::crypto::signal::KeyTagName;
use crate::form::{Form, SegmentFormat};
use crate::presentation::{Define, HlsDescription, Presentation, Representation, Role};
use crate::protection::Protection;

/// An AUDIO group: renditions of one codec and channel layout.
struct AudioGroup<'a> {
    id: String,
    members: Vec<&'a Representation>,
}

impl AudioGroup<'_> {
    fn peak_bps(&self, form: Form) -> u64 {
        self.members
            .iter()
            .map(|member| member.bandwidth(form).peak_bps)
            .max()
            .unwrap_or(0)
    }

    fn average_bps(&self, form: Form) -> u64 {
        self.members
            .iter()
            .map(|member| member.bandwidth(form).average_bps)
            .max()
            .unwrap_or(0)
    }

    fn rfc6381(&self) -> &str {
        self.members.first().map_or("", |member| member.rfc6381())
    }
}

/// The multivariant playlist of `presentation` in `form`. `base` is what leads from this playlist to the folder of the
/// form's representations, with a trailing slash: `v0123456789abcdef/cmaf/`.
pub fn render(presentation: &Presentation, form: Form, base: &str) -> Vec<u8> {
    write(presentation, form, base, None)
}

/// The same of a protected presentation, in the form of `protection`, with EXT-X-SESSION-KEY tags.
pub fn render_protected(presentation: &Presentation, protection: &Protection, base: &str) -> Vec<u8> {
    write(presentation, protection.form(), base, Some(protection))
}

fn write(presentation: &Presentation, form: Form, base: &str, protection: Option<&Protection>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    let hls = &presentation.hls;
    push_head(&mut out, presentation, form, hls);
    for tag in protection.map(Protection::session_tags).unwrap_or_default() {
        tag.write(&mut out, KeyTagName::SessionKey);
    }
    let muxed = muxed_audio(presentation, form);
    let videos: Vec<&Representation> = presentation.video_sets(form).into_iter().flatten().collect();
    let groups = audio_groups(presentation, form, muxed);
    for group in &groups {
        for member in &group.members {
            push_audio_rendition(&mut out, member, &group.id, base);
        }
    }
    let mut has_text = false;
    for text in presentation.texts() {
        push_subtitle_rendition(&mut out, text, base);
        has_text = true;
    }
    let playlist = Playlist {
        form,
        base,
        has_text,
        protection,
    };
    if videos.is_empty() {
        for group in &groups {
            playlist.push_audio_variant(&mut out, group);
        }
        return out;
    }
    let sounds: Vec<Sound<'_>> = match (groups.is_empty(), muxed) {
        (false, _) => groups.iter().map(Sound::Group).collect(),
        (true, Some(audio)) => vec![Sound::Muxed(audio)],
        (true, None) => vec![Sound::Silent],
    };
    let mut ranked = videos.clone();
    ranked.sort_by_key(|video| rank(video));
    for video in &videos {
        let score = ranked.iter().position(|other| other.id == video.id).unwrap_or(0) + 1;
        for sound in &sounds {
            playlist.push_video_variant(&mut out, video, *sound, score);
        }
    }
    for video in &videos {
        playlist.push_trick_stream(&mut out, video);
    }
    if let Some(track) = presentation.images() {
        images::push_stream(&mut out, track, base);
    }
    out
}

fn push_head(out: &mut Vec<u8>, presentation: &Presentation, form: Form, hls: &HlsDescription) {
    out.extend_from_slice(b"#EXTM3U\n#EXT-X-VERSION:");
    let needed = hls.define.iter().map(|define| match define {
        Define::Value { .. } => VERSION_WITH_DEFINE,
        Define::QueryParameter { .. } => VERSION_WITH_QUERY_PARAMETER,
    });
    push_number(out, needed.max().unwrap_or(VERSION).into());
    out.push(b'\n');
    for define in &hls.define {
        out.extend_from_slice(b"#EXT-X-DEFINE:");
        match define {
            Define::Value { name, value } => {
                out.extend_from_slice(b"NAME=");
                push_quoted(out, name);
                out.extend_from_slice(b",VALUE=");
                push_quoted(out, value);
            }
            Define::QueryParameter { query_parameter } => {
                out.extend_from_slice(b"QUERYPARAM=");
                push_quoted(out, query_parameter);
            }
        }
        out.push(b'\n');
    }
    let mut carried = presentation.carried(form, MediaKind::Video);
    if carried.all(Representation::has_independent_segments) {
        out.extend_from_slice(b"#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    if let Some(start) = &hls.start {
        out.extend_from_slice(b"#EXT-X-START:TIME-OFFSET=");
        if start.offset_ms < 0 {
            out.push(b'-');
        }
        super::push_seconds(out, start.offset_ms.unsigned_abs().saturating_mul(1_000));
        out.extend_from_slice(if start.precise {
            b",PRECISE=YES\n"
        } else {
            b",PRECISE=NO\n"
        });
    }
    out.extend_from_slice(b"#EXT-X-SESSION-DATA:DATA-ID=\"com.apple.hls.title\",VALUE=");
    push_quoted(out, &presentation.title);
    out.push(b'\n');
    for data in &hls.session_data {
        out.extend_from_slice(b"#EXT-X-SESSION-DATA:DATA-ID=");
        push_quoted(out, &data.id);
        out.extend_from_slice(b",VALUE=");
        push_quoted(out, &data.value);
        if let Some(language) = &data.language {
            out.extend_from_slice(b",LANGUAGE=");
            push_quoted(out, language);
        }
        out.push(b'\n');
    }
}

fn audio_groups<'a>(presentation: &'a Presentation, form: Form, muxed: Option<&Representation>) -> Vec<AudioGroup<'a>> {
    if muxed.is_some() {
        return Vec::new();
    }
    let groups = presentation.audio_groups(form).into_iter().filter_map(|members| {
        let first = members.first()?;
        let codec = match first.codec() {
            Codec::Aac => "aac",
            Codec::Mp3 => "mp3",
            Codec::Ac3 => "ac3",
            Codec::Eac3 => "eac3",
            Codec::Ac4 => "ac4",
            Codec::Opus => "opus",
            Codec::Flac => "flac",
            _ => "audio",
        };
        let channels = first.track()?.description.audio()?.channel_count;
        Some(AudioGroup {
            id: format!("{codec}-{channels}"),
            members,
        })
    });
    groups.collect()
}

/// Orders variants for SCORE: picture size first, then dynamic range, then the more efficient codec.
fn rank(video: &Representation) -> (u64, VideoRange, u8, u64) {
    let (size, range) = video.video().map_or((0, VideoRange::Sdr), |v| {
        (u64::from(v.width) * u64::from(v.height), v.video_range)
    });
    let codec = match video.codec() {
        Codec::Av1 => 3,
        Codec::Hevc => 2,
        Codec::Vp9 => 1,
        _ => 0,
    };
    (size, range, codec, video.bandwidth(Form::Cmaf).average_bps)
}

fn push_uri(out: &mut Vec<u8>, base: &str, id: &str, file: &str) {
    out.extend_from_slice(base.as_bytes());
    out.extend_from_slice(id.as_bytes());
    out.push(b'/');
    out.extend_from_slice(file.as_bytes());
}

fn push_yes_no(out: &mut Vec<u8>, attribute: &[u8], yes: bool) {
    out.extend_from_slice(attribute);
    out.extend_from_slice(if yes { b"YES" } else { b"NO" });
}

fn push_rendition_names(out: &mut Vec<u8>, representation: &Representation) {
    out.extend_from_slice(b",NAME=");
    push_quoted(out, &representation.label);
    if representation.language != "und" {
        out.extend_from_slice(b",LANGUAGE=");
        push_quoted(out, &representation.language);
    }
    push_yes_no(out, b",DEFAULT=", representation.default);
}

fn push_characteristics(out: &mut Vec<u8>, representation: &Representation) {
    let values: Vec<&str> = representation
        .roles
        .iter()
        .flat_map(|role| role.hls_characteristics().iter().copied())
        .collect();
    if !values.is_empty() {
        out.extend_from_slice(b",CHARACTERISTICS=");
        push_quoted(out, &values.join(","));
    }
}

fn push_audio_rendition(out: &mut Vec<u8>, audio: &Representation, group: &str, base: &str) {
    out.extend_from_slice(b"#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=");
    push_quoted(out, group);
    push_rendition_names(out, audio);
    // A commentary plays only when asked for.
    let automatic = audio.default || !audio.roles.contains(&Role::Commentary);
    push_yes_no(out, b",AUTOSELECT=", automatic);
    push_characteristics(out, audio);
    if let Some(description) = audio.track().and_then(|track| track.description.audio()) {
        out.extend_from_slice(b",CHANNELS=\"");
        match description.joc_complexity {
            Some(objects) => {
                push_number(out, objects.into());
                out.extend_from_slice(b"/JOC\"");
            }
            None => {
                push_number(out, description.channel_count.into());
                out.push(b'"');
            }
        }
        out.extend_from_slice(b",SAMPLE-RATE=");
        push_number(out, description.sample_rate.into());
    }
    push_rendition_tail(out, audio, base);
}

fn push_subtitle_rendition(out: &mut Vec<u8>, text: &Representation, base: &str) {
    out.extend_from_slice(b"#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subtitles\"");
    push_rendition_names(out, text);
    push_yes_no(out, b",AUTOSELECT=", true);
    push_yes_no(out, b",FORCED=", text.roles.contains(&Role::ForcedSubtitle));
    push_characteristics(out, text);
    push_rendition_tail(out, text, base);
}

fn push_rendition_tail(out: &mut Vec<u8>, representation: &Representation, base: &str) {
    out.extend_from_slice(b",STABLE-RENDITION-ID=");
    push_quoted(out, &representation.id);
    out.extend_from_slice(b",URI=\"");
    push_uri(out, base, &representation.id, "index.m3u8");
    out.extend_from_slice(b"\"\n");
}

fn push_bandwidth(out: &mut Vec<u8>, peak_bps: u64, average_bps: u64) {
    out.extend_from_slice(b"BANDWIDTH=");
    push_number(out, peak_bps);
    out.extend_from_slice(b",AVERAGE-BANDWIDTH=");
    push_number(out, average_bps);
}

/// What is heard with a video variant.
#[derive(Clone, Copy)]
enum Sound<'a> {
    /// Nothing.
    Silent,
    /// What travels in the video's own segments.
    Muxed(&'a Representation),
    /// One of a group's renditions.
    Group(&'a AudioGroup<'a>),
}

impl Sound<'_> {
    /// Peak and average bit rate, and `CODECS` value.
    fn facts(&self, form: Form) -> (u64, u64, &str) {
        match self {
            Sound::Silent => (0, 0, ""),
            Sound::Muxed(audio) => {
                let bandwidth = audio.muxed_bandwidth(form);
                (bandwidth.peak_bps, bandwidth.average_bps, audio.rfc6381())
            }
            Sound::Group(group) => (group.peak_bps(form), group.average_bps(form), group.rfc6381()),
        }
    }
}

/// What all variants of a playlist have in common.
#[derive(Clone, Copy)]
struct Playlist<'a> {
    form: Form,
    base: &'a str,
    has_text: bool,
    protection: Option<&'a Protection>,
}

impl Playlist<'_> {
    /// What a device has to guarantee (RFC 8216bis 4.4.6.2): HDCP-LEVEL, ALLOWED-CPC.
    fn push_output(&self, out: &mut Vec<u8>, representation: &Representation) {
        let rule = self.protection.and_then(|protection| protection.output(representation));
        let Some(rule) = rule else { return };
        if let Some(level) = rule.hdcp_level {
            out.extend_from_slice(b",HDCP-LEVEL=");
            out.extend_from_slice(level.name().as_bytes());
        }
        // It speaks of key systems; MPEG-TS has none.
        if !rule.allowed_cpc.is_empty() && self.form.format() == SegmentFormat::Cmaf {
            let entries: Vec<&str> = rule.allowed_cpc.iter().map(|entry| entry.as_str()).collect();
            out.extend_from_slice(b",ALLOWED-CPC=");
            push_quoted(out, &entries.join(","));
        }
    }

    fn push_variant_tail(&self, out: &mut Vec<u8>, id: &str) {
        if self.has_text {
            out.extend_from_slice(b",SUBTITLES=\"subtitles\"");
        }
        out.push(b'\n');
        push_uri(out, self.base, id, "index.m3u8");
        out.push(b'\n');
    }

    fn push_audio_variant(&self, out: &mut Vec<u8>, group: &AudioGroup<'_>) {
        let chosen = group
            .members
            .iter()
            .find(|member| member.default)
            .or(group.members.first());
        let Some(chosen) = chosen else { return };
        out.extend_from_slice(b"#EXT-X-STREAM-INF:");
        push_bandwidth(out, group.peak_bps(self.form), group.average_bps(self.form));
        out.extend_from_slice(b",CODECS=");
        push_quoted(out, group.rfc6381());
        self.push_output(out, chosen);
        out.extend_from_slice(b",AUDIO=");
        push_quoted(out, &group.id);
        self.push_variant_tail(out, &chosen.id);
    }

    fn push_video_variant(&self, out: &mut Vec<u8>, video: &Representation, sound: Sound<'_>, score: usize) {
        let own = video.bandwidth(self.form);
        let (peak, average, audio_codec) = sound.facts(self.form);
        out.extend_from_slice(b"#EXT-X-STREAM-INF:");
        // A damaged file's bit rates may be anything.
        push_bandwidth(
            out,
            own.peak_bps.saturating_add(peak),
            own.average_bps.saturating_add(average),
        );
        out.extend_from_slice(b",SCORE=");
        push_number(out, score as u64);
        out.extend_from_slice(b",CODECS=\"");
        out.extend_from_slice(video.rfc6381().as_bytes());
        if !audio_codec.is_empty() {
            out.push(b',');
            out.extend_from_slice(audio_codec.as_bytes());
        }
        out.push(b'"');
        push_video_attributes(out, video, self.form);
        if let Some((numerator, denominator)) = video.frame_rate() {
            out.extend_from_slice(b",FRAME-RATE=");
            let millihertz = (u64::from(numerator) * 2_000 / u64::from(denominator.max(1))).div_ceil(2);
            push_number(out, millihertz / 1_000);
            out.extend_from_slice(format!(".{:03}", millihertz % 1_000).as_bytes());
        }
        self.push_output(out, video);
        out.extend_from_slice(b",STABLE-VARIANT-ID=");
        match sound {
            Sound::Group(group) => {
                push_quoted(out, &format!("{}-{}", video.id, group.id));
                out.extend_from_slice(b",AUDIO=");
                push_quoted(out, &group.id);
            }
            Sound::Silent | Sound::Muxed(_) => push_quoted(out, &video.id),
        }
        self.push_variant_tail(out, &video.id);
    }

    fn push_trick_stream(&self, out: &mut Vec<u8>, video: &Representation) {
        let Some(bandwidth) = video.trick_bandwidth(self.form) else {
            return;
        };
        out.extend_from_slice(b"#EXT-X-I-FRAME-STREAM-INF:");
        push_bandwidth(out, bandwidth.peak_bps, bandwidth.average_bps);
        out.extend_from_slice(b",CODECS=");
        push_quoted(out, video.rfc6381());
        push_video_attributes(out, video, self.form);
        self.push_output(out, video);
        out.extend_from_slice(b",STABLE-VARIANT-ID=");
        push_quoted(out, &format!("{}-iframes", video.id));
        out.extend_from_slice(b",URI=\"");
        push_uri(out, self.base, &video.id, "iframes.m3u8");
        out.extend_from_slice(b"\"\n");
    }
}

/// Attributes that a variant and its I-frame stream share.
fn push_video_attributes(out: &mut Vec<u8>, video: &Representation, form: Form) {
    let Some(description) = video.video() else { return };
    // SUPPLEMENTAL-CODECS is a reading of CMAF samples; a transport stream carries the base layer alone.
    if let Some(supplemental) = description
        .supplemental_codecs
        .as_ref()
        .filter(|_| form.format() == SegmentFormat::Cmaf)
    {
        out.extend_from_slice(b",SUPPLEMENTAL-CODECS=");
        push_quoted(out, &format!("{}/{}", supplemental.rfc6381, supplemental.brand));
    }
    let (width, height) = description.display_size();
    out.extend_from_slice(b",RESOLUTION=");
    push_number(out, width.into());
    out.push(b'x');
    push_number(out, height.into());
    out.extend_from_slice(b",VIDEO-RANGE=");
    out.extend_from_slice(match description.video_range {
        VideoRange::Sdr => b"SDR",
        VideoRange::Hlg => b"HLG",
        VideoRange::Pq => b"PQ",
    });
}
