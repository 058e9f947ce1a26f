"""What ffmpeg makes of a file: its streams, packets and decoded frames."""

import json
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction

# Codings headwater is there for, as ffmpeg names them, and whether ffmpeg 5.1 decodes them.
VIDEO_IN_SCOPE = {"h264", "hevc", "av1", "vp9"}
AUDIO_IN_SCOPE = {"aac", "aac_latm", "mp3", "ac3", "eac3", "ac4", "opus", "flac"}
IN_SCOPE = VIDEO_IN_SCOPE | AUDIO_IN_SCOPE

TIMEOUT_S = 120


@dataclass
class Packet:
    time: Fraction | None
    decode_time: Fraction | None
    size: int
    discarded: bool


@dataclass
class Frame:
    time: Fraction | None
    sample_count: int  # audio only, 0 for pictures


@dataclass
class Stream:
    index: int
    kind: str
    codec: str
    tag: str
    profile: str
    id: int | None
    time_base: Fraction
    sample_rate: int
    channels: int
    attached_picture: bool
    packets: list = field(default_factory=list)
    frames: list = field(default_factory=list)

    @property
    def is_encrypted(self):
        return self.tag in ("encv", "enca")

    @property
    def in_scope(self):
        return self.codec in IN_SCOPE and not self.attached_picture


@dataclass
class Probe:
    streams: list
    container: str
    complaints: str  # what ffmpeg wrote on standard error; empty for a clean file

    def of(self, kind):
        return [stream for stream in self.streams if stream.kind == kind]


ENTRIES = (
    "format=format_name:"
    "stream=index,codec_type,codec_name,codec_tag_string,profile,id,time_base,sample_rate,channels:"
    "stream_disposition=attached_pic:stream_tags=:"
    "packet=stream_index,pts,dts,size,flags:"
    "frame=stream_index,media_type,pts,best_effort_timestamp,nb_samples"
)


def probe(path):
    """Everything decoded. Audio is not trimmed by what an edit or a codec calls padding: a segment can not say so."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-flags2", "+skip_manual", "-show_entries", ENTRIES, path]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    complaints = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode != 0 and not complaints:
        complaints = f"ffprobe ended with {done.returncode}"
    try:
        report = json.loads(done.stdout or b"{}")
    except json.JSONDecodeError as error:
        return Probe([], "", f"ffprobe wrote no JSON: {error}; {complaints}")
    streams = {}
    for entry in report.get("streams", []):
        stream = read_stream(entry)
        streams[stream.index] = stream
    rows = report.get("packets_and_frames")
    if rows is None:
        rows = [dict(row, type="packet") for row in report.get("packets", [])]
        rows += [dict(row, type="frame") for row in report.get("frames", [])]
    for row in rows:
        stream = streams.get(row.get("stream_index"))
        if stream is None:
            continue
        if row["type"] == "packet":
            stream.packets.append(read_packet(row, stream))
        elif row["type"] == "frame":
            ticks = row.get("pts", row.get("best_effort_timestamp"))
            time = None if ticks is None else ticks * stream.time_base
            stream.frames.append(Frame(time, row.get("nb_samples", 0)))
    return Probe(list(streams.values()), report.get("format", {}).get("format_name", ""), complaints)


def read_stream(entry):
    identifier = entry.get("id")
    return Stream(
        entry["index"],
        entry.get("codec_type", ""),
        entry.get("codec_name", ""),
        entry.get("codec_tag_string", ""),
        entry.get("profile", ""),
        int(identifier, 16) if identifier else None,
        Fraction(entry["time_base"]),
        int(entry.get("sample_rate", 0)),
        int(entry.get("channels", 0)),
        bool(entry.get("disposition", {}).get("attached_pic")),
    )


def read_packet(row, stream):
    def time(name):
        return None if row.get(name) is None else row[name] * stream.time_base

    return Packet(time("pts"), time("dts"), int(row["size"]), "D" in row.get("flags", ""))


def checksums(path, index):
    """A checksum of each decoded frame of stream `index`, in the order of output."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-copyts", "-noautorotate", "-flags2", "+skip_manual", "-i", path]
    command += ["-map", f"0:{index}", "-fps_mode", "passthrough", "-f", "framecrc", "-"]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    rows = [line for line in done.stdout.decode().splitlines() if line and not line.startswith("#")]
    return [tuple(field.strip() for field in row.split(",")[4:6]) for row in rows]
