"""What ffmpeg makes of a file: its streams, packets and decoded frames."""

import json
import re
import subprocess
from array import array
from dataclasses import dataclass, field
from fractions import Fraction

# Codings headwater is there for, as ffmpeg names them. It does not decode AC-4 and xHE-AAC.
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
    key: bool = False


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
    area: int = 0
    packets: list = field(default_factory=list)
    frames: list = field(default_factory=list)

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


STREAMS = (
    "format=format_name:"
    "stream=index,codec_type,codec_name,codec_tag_string,profile,id,time_base,sample_rate,channels,width,height:"
    "stream_disposition=attached_pic:stream_tags="
)
PACKETS = ":packet=stream_index,pts,dts,size,flags"
FRAMES = ":frame=stream_index,media_type,pts,best_effort_timestamp,nb_samples,key_frame"
# What an edit or a codec calls padding stays.
UNTRIMMED = ("-flags2", "+skip_manual")


def shown(path):
    """Streams with the frames that a viewer sees and hears."""
    return probe(path, FRAMES, ())


def probe(path, wanted=PACKETS + FRAMES, options=UNTRIMMED):
    """Streams, and all packets and decoded frames if `wanted`.

    Audio is not trimmed by what an edit or a codec calls padding, for a segment can not say so; other `options` may."""
    report, complaints = run(path, wanted, options)
    if report is None and not complaints:
        # ffprobe ends without a word where it has no decoder, even if only packets are asked for.
        report = copied(path)
    if report is None:
        return Probe([], "", complaints)
    streams = {entry["index"]: read_stream(entry) for entry in report.get("streams", [])}
    rows = report.get("packets_and_frames", [])
    packets = [*report.get("packets", []), *(row for row in rows if row["type"] == "packet")]
    frames = [*report.get("frames", []), *(row for row in rows if row["type"] == "frame")]
    for row in packets:
        if row["stream_index"] in streams:
            stream = streams[row["stream_index"]]
            stream.packets.append(read_packet(row, stream))
    for row in frames:
        if row.get("stream_index") in streams:
            stream = streams[row["stream_index"]]
            ticks = row.get("pts", row.get("best_effort_timestamp"))
            time = None if ticks is None else ticks * stream.time_base
            stream.frames.append(Frame(time, row.get("nb_samples", 0), row.get("key_frame") == 1))
    return Probe(list(streams.values()), report.get("format", {}).get("format_name", ""), complaints)


def run(path, wanted, options=UNTRIMMED):
    """(what ffprobe reports or None, what it complains of)."""
    command = ["ffprobe", "-v", "error", "-of", "json", *options]
    command += ["-show_entries", STREAMS + wanted, path]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    complaints = done.stderr.decode("utf-8", "replace").strip()
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return None, complaints
    return (report if report.get("streams") or done.returncode == 0 else None), complaints


def copied(path):
    """What ffprobe would report of streams and packets, by ffmpeg, which needs no decoder for this."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-copyts", "-i", path, "-map", "0", "-c", "copy", "-f", "framecrc", "-"]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    lines = done.stdout.decode().splitlines()
    names = {"media_type": "codec_type", "codec_id": "codec_name", "tb": "time_base", "sample_rate": "sample_rate"}
    streams = {}
    for line in lines:
        fields = re.fullmatch(r"#(\w+) (\d+): (.*)", line)
        if fields and fields[1] in names:
            streams.setdefault(int(fields[2]), {"index": int(fields[2])})[names[fields[1]]] = fields[3]
    rows = [line.split(",") for line in lines if line and not line.startswith("#")]
    packets = [{"stream_index": int(r[0]), "dts": int(r[1]), "pts": int(r[2]), "size": r[4]} for r in rows]
    return {"streams": list(streams.values()), "packets": packets}


def read_stream(entry):
    identifier = entry.get("id")
    return Stream(
        entry["index"],
        entry.get("codec_type", ""),
        # ffmpeg 5.1 has no name for AC-4.
        entry.get("codec_name") or entry.get("codec_tag_string", "").replace("-", ""),
        entry.get("codec_tag_string", ""),
        entry.get("profile", ""),
        int(identifier, 16) if identifier else None,
        ratio(entry["time_base"]),
        int(entry.get("sample_rate", 0)),
        int(entry.get("channels", 0)),
        bool(entry.get("disposition", {}).get("attached_pic")),
        entry.get("width", 0) * entry.get("height", 0),
    )


def ratio(text):
    """`1/90000`; zero where ffmpeg knows of none and writes `0/0`."""
    numerator, denominator = text.split("/")
    return Fraction(int(numerator), int(denominator) or 1)


def read_packet(row, stream):
    def time(name):
        return None if row.get(name) is None else row[name] * stream.time_base

    return Packet(time("pts"), time("dts"), int(row["size"]), "D" in row.get("flags", ""))


def stored_picture_count(path, index):
    """Pictures of stream `index`, those that edits hide too."""
    command = ["ffprobe", "-v", "quiet", "-ignore_editlist", "1", "-count_packets", "-select_streams", str(index)]
    command += ["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", path]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    return int(done.stdout.decode().strip(",\n") or 0)


def envelope(path, index):
    """How loud stream `index` is, millisecond by millisecond, from its first frame on; half a minute at most."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", path, "-map", f"0:{index}", "-t", "30"]
    command += ["-ac", "1", "-ar", "8000", "-f", "s16le", "-"]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    samples = array("h", done.stdout[: len(done.stdout) // 16 * 16])
    return [sum(map(abs, samples[at : at + 8])) for at in range(0, len(samples), 8)]


def checksums(path, index, frames):
    """A checksum of the content of each of `frames`, which stream `index` decodes to."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-copyts", "-noautorotate", "-flags2", "+skip_manual", "-i", path]
    command += ["-map", f"0:{index}", "-fps_mode", "passthrough", "-f", "framecrc", "-"]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    rows, time_base = [], Fraction(1)
    for line in done.stdout.decode().splitlines():
        if line.startswith("#tb "):
            time_base = ratio(line.split(": ")[1])
        elif line and not line.startswith("#"):
            fields = [field.strip() for field in line.split(",")]
            rows.append((int(fields[2]) * time_base, (fields[4], fields[5])))
    if len(rows) > len(frames):
        # ffmpeg puts out what it thinks is damaged, ffprobe does not. Their frames have times in common.
        rows = [min(rows, key=lambda row: abs(row[0] - (frame.time or 0))) for frame in frames]
    return [checksum for _, checksum in rows]
