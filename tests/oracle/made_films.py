"""Films of every kind that a ladder is made of, made by ffmpeg, and what `headwater transcode` makes of them.

    python3 made_films.py --headwater target/debug/headwater [--all] [--only NAME] [--keep FOLDER]

Each film has one trait that is easily lost on the way: fields, a matrix, oblong samples, a container, HDR, channels, languages,
text. Leaves with 0 if every check passed, 1 if one failed, 2 if it was called wrongly. What this machine can not make is
skipped, and said.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from captions import with_captions
from report import Report, print_table

# Small and quick: what is looked at is what survives, not how good it looks.
LADDER = """
[transcode.ladders.tiny]
own_height = false
step = [
  { height = 144, bitrate_kbps = 300, preset = "ultrafast", quality = 28 },
  { height = 96, bitrate_kbps = 150, preset = "ultrafast", quality = 28 },
]
[transcode.ladders.both]
own_height = false
step = [
  { height = 144, bitrate_kbps = 300, preset = "ultrafast", quality = 28, codec = "hevc" },
  { height = 96, bitrate_kbps = 150, preset = "ultrafast", quality = 20, codec = "avc" },
]
[transcode.ladders.av1]
own_height = false
step = [{ height = 96, bitrate_kbps = 150, preset = "ultrafast", codec = "av1" }]
"""
PICTURES = "-f lavfi -i testsrc2=s=256x144:r=25:d=4"
SOUND = "-f lavfi -i sine=f=440:r=48000:d=4"
AVC = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
# Pictures stay as late as they are.
KEPT = "-fps_mode passthrough"
SRT = "1\n00:00:00,500 --> 00:00:01,500\nfirst <i>line</i>\n\n2\n00:00:02,000 --> 00:00:03,000\nsecond & last\nof two\n"
SHOWN = [("00:00.500", "00:01.500"), ("00:02.000", "00:03.000")]
# What differs little from another film: looked at with --all alone.
MORE = {
    *("mpeg2.mpg", "prores4444.mov", "late-sound.mkv", "late-pictures.ts", "timecode.mp4", "avc.avi", "tall.ts", "vfr.mp4", "hdr10.mkv", "mono", "7.1"),
    *("languages.mp4", "eac3.mp4", "deep.wav", "sound.m4a", "sound.ogg", "mov_text.mov", "webvtt.mkv", "chapters.mov", "fits.mkv"),
}
FILMS = {}
TIMEOUT_S = 600


class Missing(Exception):
    """This machine lacks what a film is made with."""


def film(function):
    FILMS[function.__name__] = function
    return function


class Run:
    """One film: made, transcoded, looked at."""

    def __init__(self, headwater, scratch, report, name, every):
        self.headwater = headwater
        self.every = every
        self.folder = scratch / name
        self.folder.mkdir()
        (self.folder / "headwater.toml").write_text(LADDER)
        self.report = report
        self.name = name
        self.complaint = ""

    def some(self, rows):
        """The rows whose name, which comes first, is looked at."""
        return [row for row in rows if self.every or (row[0] if isinstance(row, tuple) else row) not in MORE]

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def make(self, name, arguments, *more):
        """A file made by ffmpeg; words that hold spaces come as `more`."""
        path = self.folder / name
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments.split(), *more, path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            raise Missing(done.stderr.strip().split("\n")[0])
        return path

    def transcode(self, source, ladder="tiny", **options):
        """The folder that is made of `source` and its report; None, and the complaint, if there is none."""
        library = self.folder / f"library-{len(list(self.folder.glob('library-*')))}"
        command = [self.headwater, "transcode", source, "-o", library, "--config", self.folder / "headwater.toml"]
        command += ["--ladder", ladder, "--device", "cpu"]
        command += ["--no-thumbnails"] if not options.get("thumbnails") else []
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        self.complaint = done.stderr.strip()
        if done.returncode:
            return None, None
        made = Path(done.stdout.strip())
        return made, json.loads((made / "report.json").read_text())

    def good(self, source, **options):
        """As transcode, where it must succeed."""
        made, said = self.transcode(source, **options)
        if made is None:
            raise RuntimeError(self.complaint[-400:])
        return made, said

    def check(self, what, holds, detail=""):
        return self.report.check(self.name, what, holds, str(detail)[:400])

    def equal(self, what, found, expected):
        return self.check(what, found == expected, f"{str(found)[:190]} instead of {str(expected)[:190]}")


def probe(path, entries, *options):
    """What ffprobe says of the first stream, as one string a line."""
    command = ["ffprobe", "-v", "error", *options, "-show_entries", entries, "-of", "csv=p=0", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return [line.strip().rstrip(",") for line in done.stdout.splitlines() if line.strip()]


def size(path):
    return probe(path, "stream=width,height", "-select_streams", "v:0")[0]


def times(path):
    """When pictures are shown; AVI does not say."""
    lines = probe(path, "frame=best_effort_timestamp_time", "-select_streams", "v:0")
    return [float(line.split(",")[0]) for line in lines]


def keys(path):
    lines = probe(path, "frame=best_effort_timestamp_time", "-select_streams", "v:0", "-skip_frame", "nokey")
    return [float(line.split(",")[0]) for line in lines]


def samples_per_second(path):
    return probe(path, "stream=sample_rate,channels", "-select_streams", "a:0")[0]


def filtered(path, graph, kind="v"):
    """What a filter of ffmpeg writes to its log, of pictures (v) or of sound (a)."""
    command = ["ffmpeg", "-nostdin", "-v", "info", "-i", path, "-map", f"0:{kind}:0", "-filter", graph, "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False).stderr


def combed(path):
    """How many pictures ffmpeg takes for two fields, and how many for one picture."""
    line = [line for line in filtered(path, "idet").splitlines() if "Multi frame detection" in line][-1]
    words = line.replace(":", " ").split()
    count = {name: int(words[words.index(name) + 1]) for name in ("TFF", "BFF", "Progressive")}
    return count["TFF"] + count["BFF"], count["Progressive"]


def pixel(path, x, y, at="0"):
    """Red, green and blue at a place, shares of one."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-ss", at, "-i", path, "-frames:v", "1", "-vf"]
    command += [f"crop=4:4:iw*{x}-2:ih*{y}-2,scale=1:1:flags=area", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
    return tuple(byte / 255 for byte in done.stdout[:3])


def cue_times(path):
    lines = [line for line in path.read_text().splitlines() if " --> " in line]
    return [tuple(part.removeprefix("00:")[:9] for part in line.split(" --> ")) for line in lines]


def manifest(made):
    return json.loads((made / "presentation.json").read_text())


def texts(made):
    """Text tracks as (language, path)."""
    return [(track["language"], made / track["file"]) for track in manifest(made)["tracks"] if track["file"].endswith(".vtt")]


def check_text(run, made, language, words):
    found = texts(made)
    if run.equal("has its text", [tag for tag, _ in found], [language]):
        text = found[0][1].read_text()
        run.check("shows text when the source does", near_times(cue_times(found[0][1]), SHOWN), cue_times(found[0][1]))
        run.check("has the words", all(word in text for word in words), text)


def near_times(found, expected, tolerance=0.04):
    def seconds(text):
        minutes, rest = text.split(":")
        return int(minutes) * 60 + float(rest)

    pairs = [(seconds(a), seconds(b)) for one, other in zip(found, expected) for a, b in zip(one, other)]
    return len(found) == len(expected) and all(abs(a - b) <= tolerance for a, b in pairs)


def check_pictures(run, made, said, count, sizes=("256,144", "170,96")):
    """All rungs have the source's pictures, and key frames at the same instants."""
    files = [made / entry["file"] for entry in said["video"]]
    run.equal("has its rungs", [size(path) for path in files], list(sizes))
    shown = [times(path) for path in files]
    run.check("has the source's pictures", all(len(row) == count for row in shown), [len(row) for row in shown])
    run.check("shows the same in all rungs", all(row == shown[0] for row in shown))
    rows = [keys(path) for path in files]
    # An untouched source may have more.
    run.check("has key frames at the same instants", all(set(min(rows, key=len)) <= set(row) for row in rows), rows)
    return shown[0]


# Pictures


@film
def interlaced(run):
    for name, order in (("mpeg2.ts", "-c:v mpeg2video -b:v 3M -flags +ildct+ilme"), ("avc.mp4", f"{AVC} -x264-params tff=1")):
        source = run.make(name, f"-f lavfi -i testsrc=s=256x144:r=50:d=4,scroll=horizontal=0.02 -vf interlace=scan=tff:lowpass=0 {order}")
        fields, _ = combed(source)
        run.check("is made of fields", fields > 50, fields)
        made, said = run.good(source)
        run.check("is known to be of fields", said["source"]["video"]["interlaced"], said["source"]["video"])
        check_pictures(run, made, said, len(times(source)))
        fields, whole = combed(made / "v1.mp4")
        run.check(f"{name} is deinterlaced", fields <= 5 and whole > 50, f"{fields} of fields, {whole} whole")


@film
def rotated(run):
    upright = run.make("upright.mp4", f"-f lavfi -i color=red:s=256x144:r=25:d=2 -vf drawbox=c=blue:w=128:h=72:t=fill {AVC}")
    # Left and up is blue: clockwise by 90 degrees it is right and up.
    for degrees, blue, shape in ((90, (0.25, 0.75), "144,256"), (180, (0.75, 0.75), "256,144"), (270, (0.75, 0.25), "144,256")):
        source = turned(run, upright, degrees)
        made, said = run.good(source)
        run.equal(f"stands upright by {degrees}", size(made / "v1.mp4"), shape)
        colour = pixel(made / "v1.mp4", *blue)
        run.check(f"is turned the right way by {degrees}", colour[2] > 0.7 and colour[0] < 0.4, colour)


def turned(run, path, degrees):
    """A copy with the matrix that turns it counterclockwise, in `tkhd`."""
    bytes_ = bytearray(path.read_bytes())
    at = bytes_.index(b"tkhd") + 4 + 40
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16) & 0xFFFFFFFF).to_bytes(4, "big")
    zero, w = bytes(4), (1 << 30).to_bytes(4, "big")
    a, b, c, d = {90: (zero, minus, one, zero), 180: (minus, zero, zero, minus), 270: (zero, one, minus, zero)}[degrees]
    bytes_[at : at + 36] = a + b + zero + c + d + zero + zero + zero + w
    made = run.folder / f"{degrees}.mp4"
    made.write_bytes(bytes_)
    return made


@film
def anamorphic(run):
    for name, arguments, shapes in run.some((
        ("wide.mp4", f"-f lavfi -i testsrc2=s=180x144:r=25:d=2 -vf setsar=64/45 {AVC}", ("256,144", "170,96")),
        ("tall.ts", f"-f lavfi -i testsrc2=s=256x120:r=25:d=2 -vf setsar=5/6 {AVC}", ("256,144", "170,96")),
        ("wide.mkv", "-f lavfi -i testsrc2=s=180x144:r=25:d=2 -vf setsar=64/45 -c:v libvpx-vp9 -deadline realtime -cpu-used 8", ("256,144", "170,96")),
    )):
        made, said = run.good(run.make(name, arguments))
        check_pictures(run, made, said, 50, shapes)
        aspect = probe(made / "v1.mp4", "stream=sample_aspect_ratio", "-select_streams", "v:0")[0]
        run.check(f"{name} has square samples", aspect in ("1:1", "N/A", "0:1"), aspect)


@film
def containers(run):
    for name, arguments in run.some((
        ("mpeg4.avi", f"{PICTURES} {SOUND} -c:v mpeg4 -q:v 3 -c:a libmp3lame"),
        ("avc.avi", f"{PICTURES} {SOUND} {AVC} -bf 0 -c:a mp3"),
        ("mpeg2.ts", f"{PICTURES} {SOUND} -c:v mpeg2video -b:v 2M -bf 2 -c:a mp2"),
        ("mpeg2.mpg", f"{PICTURES} {SOUND} -c:v mpeg2video -b:v 2M -bf 2 -c:a mp2 -f vob"),
        ("prores.mov", f"{PICTURES} {SOUND} -c:v prores_ks -profile:v 2 -c:a pcm_s24le -timecode 01:00:00:00"),
        ("prores4444.mov", f"{PICTURES} {SOUND} -c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le -c:a pcm_s16be"),
        ("vp9.webm", f"{PICTURES} {SOUND} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus"),
        ("hevc.mkv", f"{PICTURES} {SOUND} -c:v libx265 -preset ultrafast -x265-params log-level=0 -c:a flac"),
        ("timecode.mp4", f"{PICTURES} {SOUND} {AVC} -c:a aac -timecode 10:00:00:00"),
    )):
        with run.report.step(run.name, f"{name} becomes a ladder"):
            try:
                source = run.make(name, arguments)
            except Missing as why:
                skip(f"{name}: {why}")
                continue
            made, said = run.good(source)
            shown = check_pictures(run, made, said, len(times(source)))
            run.check(f"{name} lasts as long", abs(shown[-1] - 3.96) < 0.05, shown[-1:])
            run.equal(f"{name} has its sound", samples_per_second(made / "a1.mp4").split(",")[0], "48000")


@film
def variable_rate(run):
    # Every third picture is missing in the first half, every second in the other.
    chosen = "select=if(lt(t\\,2)\\,mod(n\\,3)\\,mod(n\\,2))"
    for name in run.some(("vfr.mp4", "vfr.mkv")):
        source = run.make(name, f"{PICTURES} -vf {chosen} -fps_mode vfr {AVC}")
        made, said = run.good(source)
        shown, wanted = check_pictures(run, made, said, len(times(source))), times(source)
        furthest = max(abs((a - shown[0]) - (b - wanted[0])) for a, b in zip(shown, wanted))
        run.check(f"{name} shows pictures at their instants", furthest < 0.0021, furthest)


HDR10 = "hdr10=1:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400:log-level=0"


def hdr_film(run, name, transfer, more):
    colour = f"-color_primaries bt2020 -color_trc {transfer} -colorspace bt2020nc -color_range tv"
    # Grey that is the same everywhere: 58 % of PQ is 203 cd/m², SDR's white.
    luma = 64 + 876 * 58 // 100
    drawn = f"geq=lum='if(lt(X,64),{luma},if(lt(X,128),64+876*44/100,if(lt(X,192),64,940)))':cb=512:cr=512"
    arguments = f"-f lavfi -i color=black:s=256x144:r=25:d=2,format=yuv420p10le,{drawn} -c:v libx265 -preset ultrafast -pix_fmt yuv420p10le {colour} -x265-params"
    return run.make(name, arguments, f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:{more}")


@film
def hdr_kept(run):
    for name, transfer, more in run.some((("hdr10.mp4", "smpte2084", HDR10), ("hdr10.mkv", "smpte2084", HDR10), ("hlg.mp4", "arib-std-b67", "log-level=0"))):
        made, said = run.good(hdr_film(run, name, transfer, more), ladder="tiny")
        for file in ("v1.mp4", "v2.mp4"):
            found = probe(made / file, "stream=codec_name,pix_fmt,color_space,color_transfer,color_primaries", "-select_streams", "v:0")[0]
            run.equal(f"{name} is kept", found, f"hevc,yuv420p10le,bt2020nc,{transfer},bt2020")
        if "hdr10" in name:
            for file in ("v1.mp4", "v2.mp4"):
                bytes_ = (made / file).read_bytes()
                # 34000 by 16000 is red; 1000 and 400 cd/m².
                said_so = b"mdcv" in bytes_ and b"\x84\xd0\x3e\x80" in bytes_ and b"clli\x03\xe8\x01\x90" in bytes_
                run.check(f"{name} says how bright it is", said_so, file)
    made, said = run.transcode(hdr_film(run, "hdr10-av1.mp4", "smpte2084", HDR10), ladder="av1")
    if made is None:
        run.check("is refused by AV1 for want of an encoder of ten bits", "takes no 10 bits" in run.complaint, run.complaint)
        return
    found = probe(made / "v1.mp4", "stream=codec_name,pix_fmt,color_transfer", "-select_streams", "v:0")[0]
    run.equal("is kept by AV1", found, "av1,yuv420p10le,smpte2084")


@film
def hdr_mapped(run):
    """HDR as a ladder of which one rung is SDR."""
    for name, transfer, more, middle in (("hdr10.mp4", "smpte2084", HDR10, (0.80, 0.97)), ("hlg.mp4", "arib-std-b67", "log-level=0", (0.55, 0.97))):
        made, said = run.good(hdr_film(run, name, transfer, more), ladder="both")
        found = {entry["rendition"]["codec"]: made / entry["file"] for entry in said["video"]}
        if not run.equal(f"{name} has both", sorted(found), ["avc", "hevc"]):
            continue
        tags = probe(found["avc"], "stream=pix_fmt,color_space,color_transfer,color_primaries", "-select_streams", "v:0")[0]
        run.equal(f"{name} has an SDR rung", tags, "yuv420p,bt709,bt709,bt709")
        tags = probe(found["hevc"], "stream=pix_fmt,color_transfer", "-select_streams", "v:0")[0]
        run.equal(f"{name} keeps its HDR rung", tags, f"yuv420p10le,{transfer}")
        levels = [pixel(found["avc"], (at + 0.5) / 4, 0.5) for at in range(4)]
        run.check(f"{name} stays grey", all(max(level) - min(level) < 0.03 for level in levels), levels)
        white, dim, black, full = (level[1] for level in levels)
        run.check(f"{name} is as bright as it should be", black < 0.02 and dim < white < full and full > 0.97 and middle[0] < white < middle[1], levels)


# Sound


@film
def channels(run):
    for layout, count in run.some((("mono", 1), ("5.1", 6), ("7.1", 8))):
        source = run.make(f"{layout}.mkv", f"{PICTURES} -f lavfi -i sine=d=4:r=48000,aformat=channel_layouts={layout} {AVC} -c:a flac")
        made, said = run.good(source)
        expected = {1: ["48000,1"], 6: ["48000,2", "48000,6"], 8: ["48000,2", "48000,6"]}[count]
        run.equal(f"{layout} has its channels", [samples_per_second(made / entry["file"]) for entry in said["audio"]], expected)
        run.check(f"{layout} is measured", all(entry["loudness"] for entry in said["audio"]), said["audio"])


@film
def languages(run):
    tones = " ".join(f"-f lavfi -i sine=f={f}:r=48000:d=4" for f in (300, 600, 900))
    tags = "-metadata:s:a:0 language=deu -metadata:s:a:1 language=eng -metadata:s:a:2 language=fra -metadata:s:a:2 title=Commentary"
    for name in run.some(("languages.mkv", "languages.mp4", "languages.ts")):
        source = run.make(name, f"{PICTURES} {tones} -map 0 -map 1 -map 2 -map 3 {AVC} -c:a aac {tags}")
        made, said = run.good(source)
        found = [track["language"] for track in manifest(made)["tracks"] if track["file"].startswith("a")]
        run.equal(f"{name} keeps its languages", found, ["de", "en", "fr"])


@film
def dolby(run):
    """AC-3 and E-AC-3 are kept as they are beside AAC."""
    for codec, bits, names in (("ac3", "384k", ("ac3.ts",)), ("eac3", "256k", ("eac3.mp4", "eac3.mkv"))):
        for name in run.some(names):
            source = run.make(name, f"{PICTURES} -f lavfi -i sine=d=4:r=48000,aformat=channel_layouts=5.1 {AVC} -c:a {codec} -b:a {bits}")
            made, said = run.good(source)
            found = [probe(made / entry["file"], "stream=codec_name,channels")[0] for entry in said["audio"]]
            run.equal(f"{name} is kept", found, ["aac,2", "aac,6", f"{codec},6"])
            run.equal(f"{name} is bit by bit the same", hashes(made / said["audio"][-1]["file"]), hashes(source))


@film
def begin_apart(run):
    """Silence comes before late sound, and a late first picture is shown from where sound begins; a very late one is not."""
    late = "-itsoffset 1.5"
    for name, before, between, codec in run.some((
        ("late-sound.mkv", "", late, "flac"),
        ("late-sound.ts", "", late, "aac"),
        ("late-pictures.mp4", late, "", "aac"),
        ("late-pictures.ts", late, "", "eac3"),
    )):
        source = run.make(name, f"{before} {PICTURES} {between} {SOUND} {AVC} {KEPT} -bf 2 -c:a {codec}")
        made, said = run.good(source)
        picture_times, sound = times(made / "v1.mp4"), said["audio"][0]
        quiet = filtered(made / sound["file"], "silencedetect=n=-50dB:d=0.5", "a")
        heard = [float(line.split("silence_end:")[1].split()[0]) for line in quiet.splitlines() if "silence_end" in line]
        starts = (float(min(picture_times)), float(probe(made / sound["file"], "stream=start_time")[0]))
        run.check(f"{name} begins together", all(abs(start) < 0.03 for start in starts), starts)
        run.equal(f"{name} has all pictures", len(picture_times), 100)
        if between:
            run.check(f"{name} is heard when it was", len(heard) == 1 and abs(heard[0] - 1.5) < 0.03, heard)
            run.check(f"{name} says so", abs(sound["silence_before_ms"] - 1500) < 30, sound)
            run.check(f"{name} shows what it showed", abs(picture_times[1] - 0.04) < 0.003, picture_times[:3])
        else:
            run.equal(f"{name} has no silence", (heard, sound["silence_before_ms"]), ([], 0))
            run.check(f"{name} shows the second picture when it was", abs(picture_times[1] - 1.54) < 0.03, picture_times[:3])
            run.check(f"{name} says so, too", abs(said["video"][0]["first_picture_earlier_ms"] - 1500) < 30, said["video"])
    made, said = run.good(run.make("radio.mp4", f"-itsoffset 9 {PICTURES} {SOUND} {AVC} {KEPT} -c:a aac"))
    run.check("pictures that come much later do so", abs(min(times(made / "v1.mp4")) - 9) < 0.03, times(made / "v1.mp4")[:3])


@film
def sound_first(run):
    """Sound that ends before pictures begin is followed by silence, so that there is sound beside every picture."""
    sound = "-f lavfi -i sine=d=1:r=48000:f=440,aformat=channel_layouts=stereo"
    for name, codec in run.some((("sound-first.ts", "eac3"), ("sound-first.mkv", "flac"))):
        source = run.make(name, f"{sound} -itsoffset 2 {PICTURES} -map 0 -map 1 {AVC} -c:a {codec}")
        made, said = run.good(source)
        run.equal(f"{name} is coded, not taken over", [entry["passed_through"] for entry in said["audio"]], [False])
        sound_end, pictures_end = (float(made_end(made / f"{track}1.mp4")) for track in "av")
        run.check(f"{name} has sound to the end", abs(sound_end - pictures_end) < 0.03, (sound_end, pictures_end))
        quiet = filtered(made / "a1.mp4", "silencedetect=n=-50dB:d=0.5", "a")
        starts = [float(line.split("silence_start:")[1]) for line in quiet.splitlines() if "silence_start" in line]
        run.check(f"{name} is silent after its sound", len(starts) == 1 and abs(starts[0] - 1) < 0.05, starts)


def made_end(path):
    """When the last packet ends, in seconds."""
    packets = [row.split(",") for row in probe(path, "packet=pts_time,duration_time")]
    return max(float(row[0]) + float(row[1]) for row in packets)


def hashes(path):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:a:0", "-c", "copy", "-f", "framehash", "-hash", "md5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    # What stands beside a packet differs by container.
    return [line.split(",")[5].strip() for line in done.stdout.splitlines() if line and not line.startswith("#")]


@film
def one_kind(run):
    """Sound alone, pictures alone."""
    for name, arguments in run.some((
        ("sound.wav", "-c:a pcm_s16le"),
        ("deep.wav", "-c:a pcm_s24le -ar 96000"),
        ("sound.flac", "-c:a flac"),
        ("sound.mp3", "-c:a libmp3lame"),
        ("sound.m4a", "-c:a aac"),
        ("sound.ogg", "-c:a libopus"),
    )):
        made, said = run.good(run.make(name, f"{SOUND} {arguments}"))
        run.equal(f"{name} is sound alone", (said["video"], len(said["audio"])), ([], 1))
        lasts = float(probe(made / "a1.mp4", "stream=duration")[0])
        run.check(f"{name} lasts as long", abs(lasts - 4) < 0.06, lasts)
    made, said = run.good(run.make("silent.mkv", f"{PICTURES} {AVC}"))
    run.equal("is pictures alone", (len(said["video"]), said["audio"]), (2, []))


# Text


@film
def subtitles(run):
    run.write("text.srt", SRT)
    text = f"{PICTURES} {SOUND} -i {run.folder}/text.srt -map 0 -map 1 -map 2 {AVC} -c:a aac -metadata:s:s:0 language=swe"
    for name, coding in run.some((("srt.mkv", "srt"), ("ass.mkv", "ass"), ("mov_text.mp4", "mov_text"), ("mov_text.mov", "mov_text"), ("webvtt.mkv", "webvtt"))):
        with run.report.step(run.name, f"{name} becomes a ladder"):
            made, _ = run.good(run.make(name, f"{text} -c:s {coding}"))
            # ffmpeg writes no language of text into a QuickTime file.
            check_text(run, made, "und" if name.endswith(".mov") else "sv", ["first", "line", "second &", "last", "of two"])


@film
def closed_captions(run):
    """CEA-608 in the pictures' own messages, and pop-on, roll-up and paint-on captions of it."""
    plain = run.make("plain.264", f"{PICTURES} {AVC} -bf 0 -f h264")
    for name in ("captions.mp4", "captions.ts"):
        stream = run.folder / f"{name}.264"
        stream.write_bytes(with_captions(plain.read_bytes(), 25))
        source = run.make(name, f"-framerate 25 -f h264 -i {stream} {SOUND} -map 0 -map 1 -c:v copy -c:a aac")
        made, _ = run.good(source)
        found = [(track["label"], made / track["file"]) for track in manifest(made)["tracks"] if track["file"].endswith(".vtt")]
        if run.equal(f"{name} has its captions", [label for label, _ in found], ["CC1"]):
            text = found[0][1].read_text()
            run.check(f"{name} has the words", all(word in text for word in ("HELLO THERE", "¿QUÉ?", "ROLLED UP")), text)
            run.check(f"{name} shows them in time", near_times(cue_times(found[0][1])[:1], [("00:01.000", "00:02.000")], 0.3), cue_times(found[0][1]))


@film
def chapters(run):
    run.write("chapters.txt", ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2000\ntitle=One\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=2000\nEND=4000\ntitle=Two\n")
    for name in run.some(("chapters.mkv", "chapters.mp4", "chapters.mov")):
        source = run.make(name, f"{PICTURES} {SOUND} -i {run.folder}/chapters.txt -map 0 -map 1 -map_metadata 2 -map_chapters 2 {AVC} -c:a aac")
        made, said = run.good(source)
        check_pictures(run, made, said, 100)
        run.equal(f"{name} has no text that is none", texts(made), [])


# What is taken over as it is


@film
def passed_through(run):
    keyed = "-force_key_frames expr:gte(t,n_forced*2) -x264-params scenecut=0:open-gop=0 -bf 2"
    quiet = "-f lavfi -i testsrc=s=256x144:r=25:d=6"
    for name, arguments, why in run.some((
        ("fits.mp4", f"{quiet} {AVC} {keyed} -b:v 120k -maxrate 200k -bufsize 200k", None),
        ("fits.mkv", f"{quiet} {AVC} {keyed} -b:v 120k -maxrate 200k -bufsize 200k", None),
        ("fits.ts", f"{quiet} {AVC} {keyed} -b:v 120k -maxrate 200k -bufsize 200k", None),
        ("heavy.mp4", f"{PICTURES} {AVC} {keyed} -b:v 3M", "bit"),
        ("keys.mp4", f"{quiet} {AVC} -g 37 -b:v 120k -maxrate 200k -bufsize 200k", "key frame"),
        ("hevc.mp4", f"{quiet} -c:v libx265 -preset ultrafast -x265-params log-level=0:keyint=50:min-keyint=50:scenecut=0 -b:v 120k", "HEVC"),
    )):
        source = run.make(name, arguments)
        made, said = run.good(source)
        count = len(times(source))
        check_pictures(run, made, said, count)
        first = said["video"][0]
        if why is None:
            run.check(f"{name} is taken over", first["passed_through"], first)
            run.equal(f"{name} is bit by bit the same", picture_hashes(made / "v1.mp4"), picture_hashes(source))
        else:
            run.check(f"{name} is not taken over, and why", not first["passed_through"] and why in first["passed_through_why"], first)


def picture_hashes(path):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:v:0", "-f", "framehash", "-hash", "md5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return [line.split(",")[-1].strip() for line in done.stdout.splitlines() if line and not line.startswith("#")]


def skip(what):
    print(f"made_films: SKIPPED {what}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--headwater", required=True, type=Path)
    parser.add_argument("--only", default="", help="part of the names of the films to make")
    parser.add_argument("--all", action="store_true", help="look at those too that differ little from others")
    parser.add_argument("--keep", type=Path, help="a folder for what is made")
    options = parser.parse_args()
    if not options.headwater.is_file():
        parser.error("--headwater is a program")
    if not shutil.which("ffmpeg"):
        skip("all: there is no ffmpeg")
        return 0
    begun = time.monotonic()
    scratch = options.keep or Path(tempfile.mkdtemp(prefix="headwater-films."))
    scratch.mkdir(exist_ok=True)
    report = Report()

    def one(name):
        begun = time.monotonic()
        with report.step(name, "is checked to the end"):
            try:
                FILMS[name](Run(options.headwater.resolve(), scratch, report, name, options.all))
            except Missing as why:
                skip(f"{name}: {why}")
        report.row(name, f"{time.monotonic() - begun:.1f} s")

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, [name for name in FILMS if options.only in name]))
    finally:
        if not options.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    print_table(("film", "took"), sorted(report.rows))
    for subject, what, detail in report.failures:
        print(f"FAILED {subject}: {what}: {detail}")
    print(f"{report.passed} checks passed, {len(report.failures)} failed, in {time.monotonic() - begun:.0f} s")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
