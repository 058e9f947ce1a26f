"""Real files through `headwater transcode`, and ffmpeg's opinion of what comes out: the same pictures at the same instants.

    python3 transcoded.py --headwater target/debug/headwater --media ../shared/media [--only NAME]

Leaves with 0 if every check passed, 1 if one failed, 2 if it was called wrongly.
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
from fractions import Fraction
from pathlib import Path

import ffmpeg
from report import Report, print_table

# Small and quick: what is looked at is what is shown, and when.
LADDER = """
[transcode.ladders.tiny]
step = [
  { height = 120, bitrate_kbps = 200, preset = "ultrafast", quality = 35 },
  { height = 72, bitrate_kbps = 100, preset = "ultrafast", quality = 35 },
]
"""
# Folders of the collection that hold no whole films.
OTHER_FOLDERS = ("corrupt", "xmltv", "subs", "sets")
# What once went wrong: late pictures without an edit, edits into pictures, late sound, late pictures, one picture a second,
# milliseconds, MPEG-TS, Opus.
SAMPLE = (
    "avc/gecko__bipbop-no-edts.mp4",
    "avc/androidx__iibbibb_editlist_videoonly.mp4",
    "avc/gecko__bipbop-lateaudio.mp4",
    "avc/androidx__sample_rotate_and_reflect.mp4",
    "avc-fragmented/androidx__sample_partially_fragmented.mp4",
    "hevc/gecko__gizmo_hevc_8bit_420.mp4",
    "mkv-webm/androidx__sample.mkv",
    "ts/shaka__360p30_h264_48k_160_aac_ts-0000000024.ts",
    "audio-mp4/gecko__flac-sample.mp4",
)
# What ffmpeg decodes and GStreamer does not, with the reason that it gives.
REFUSED = {
    "audio-mp4/androidx__sample_dts_express.mp4": "dcaparse",  # DTS Express has no core to be parsed
    "audio-mp4/gecko__opus-mapping2.mp4": "not-negotiated",  # ambisonics
    "hdr/mp4parse__video_colr_nclx_hdr10.mp4": "pictures of 2x2 can not be coded",
}
# What ffmpeg makes something else of than all others.
UNLIKE = {
    "audio-mp4/androidx__sample_eac3.mp4": "of six blocks in a frame ffmpeg gives out one",
    "audio-mp4/gecko__opus-sample.mp4": "ffmpeg drops a pre-skip of 0.8 s that no edit asks for",
    "audio-raw/gecko__variable-channel.opus": "a chained stream, of which the first link is taken and the rest refused by name",
}
# Instants are rounded to milliseconds in some containers, and to ticks of a constant rate here.
TOLERANCE = Fraction(2, 1000)
# Seconds from one key frame to the next.
GOP_S = 2
# Seconds of a segment.
SEGMENT_S = 4
# Samples of a frame of AAC.
AUDIO_FRAME = 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--headwater", required=True, type=Path)
    parser.add_argument("--media", required=True, type=Path)
    parser.add_argument("--only", default="", help="part of the names of the files to look at")
    parser.add_argument("--sample", action="store_true", help="look at a few files of every kind alone")
    parser.add_argument("--keep", type=Path, help="a folder for what is made")
    options = parser.parse_args()
    if not options.media.is_dir() or not options.headwater.is_file():
        parser.error("--media is a folder, --headwater a program")
    begun = time.monotonic()
    scratch = options.keep or Path(tempfile.mkdtemp(prefix="headwater-transcoded."))
    try:
        run = Run(options.headwater, options.media, scratch)
        run.all(options.only, options.sample)
    finally:
        if not options.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    run.finish(begun)
    return 1 if run.report.failures else 0


class Run:
    """One run over the collection."""

    def __init__(self, headwater, media, scratch):
        self.report = Report()
        self.headwater = headwater
        self.media = media
        self.scratch = scratch
        scratch.mkdir(exist_ok=True)
        (scratch / "headwater.toml").write_text(LADDER)

    def all(self, only, sample):
        files = [path for path in self.media.glob("*/*") if path.parent.name not in OTHER_FOLDERS]
        files = sorted(path for path in files if only in str(path.relative_to(self.media)))
        if sample:
            files = [path for path in files if str(path.relative_to(self.media)) in SAMPLE]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.file, files))

    def file(self, source):
        name = str(source.relative_to(self.media))
        with self.report.step(name, "is checked to the end"):
            self.check(source, name)

    def check(self, source, name):
        begun = time.monotonic()
        library = self.scratch / name.replace("/", "__")
        command = [self.headwater, "transcode", source, "-o", library, "--config", self.scratch / "headwater.toml"]
        command += ["--ladder", "tiny", "--device", "cpu", "--no-thumbnails"]
        done = subprocess.run(command, capture_output=True, timeout=ffmpeg.TIMEOUT_S, check=False)
        complaint = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
        shown = ffmpeg.shown(source)
        video, audio = pictures(shown), [stream for stream in shown.of("audio") if stream.frames]
        if shown.complaints and not done.returncode:
            # Decoders differ in what they make of damage.
            self.report.apply_rule("ffmpeg complains of the source")
            self.report.row(name, "damaged")
            return
        if done.returncode:
            debris = list(library.rglob("*")) if library.exists() else []
            self.report.check(name, "leaves nothing when it fails", not debris, str(debris))
            right = not video and not audio or REFUSED.get(name, "\n") in complaint
            self.report.check(name, "is transcoded, or refused with reason", right, complaint)
            self.report.row(name, "refused", complaint[:100])
            return
        folder = Path(done.stdout.decode().strip())
        said = json.loads((folder / "report.json").read_text())
        made = [ffmpeg.shown(folder / entry["file"]).of("video")[0] for entry in said["video"]]
        # The source's own samples are there beside what was coded anew, or instead of it.
        coded = [entry for entry in said["audio"] if not entry["passed_through"]]
        kept = [entry for entry in said["audio"] if entry["passed_through"]]
        more_keys = any(entry["passed_through"] for entry in said["video"])
        sounds = [(entry, ffmpeg.shown(folder / entry["file"]).of("audio")[0]) for entry in coded]
        earlier = [Fraction(entry["first_picture_earlier_ms"], 1000) for entry in said["video"]]
        zero = self.shift(video, made, audio, sounds, earlier)
        self.pictures(name, source, video, made, zero, more_keys, earlier)
        self.together(name, made, sounds)
        if name in UNLIKE:
            self.report.apply_rule(UNLIKE[name])
        else:
            self.sounds(name, source, folder, audio, sounds, zero, said)
            self.kept(name, folder, audio, kept, zero)
        seconds = time.monotonic() - begun
        counts = f"{len(video.frames) if video else 0}={'/'.join(str(len(stream.frames)) for stream in made)}"
        self.report.row(name, counts, f"{len(audio)} as {len(sounds)}", f"{seconds:.1f} s", said_rate(said))

    def shift(self, video, made, audio, sounds, earlier):
        """What is taken from the source's times: where a container begins at any time, its earliest is zero here."""
        if video and made:
            return first_time(video) - first_time(made[0]) - earlier[0]
        if audio and sounds:
            return first_time(audio[0]) - first_time(sounds[0][1])
        return Fraction(0)

    def kept(self, name, folder, audio, entries, zero):
        """Sound that is taken over as it is has all of the source's frames."""
        for entry in entries:
            stream = ffmpeg.shown(folder / entry["file"]).of("audio")[0]
            same = [source for source in audio if source.codec == stream.codec and len(source.frames) == len(stream.frames)]
            if self.report.check(name, "keeps all of the sound", same, f"{entry['file']}: {len(stream.frames)} frames of {stream.codec}"):
                off = min(abs(source.frames[0].time - zero - stream.frames[0].time) for source in same)
                self.report.check(name, "is heard when the source is", off <= TOLERANCE, f"{entry['file']}: {float(off):.4f} s off")

    def together(self, name, made, sounds):
        """Sound and pictures begin at one instant, unless they are a segment apart."""
        # ffmpeg does not say of a frame how much of it is priming.
        firsts = [first_time(stream) for stream in made] + [max(first_time(stream), Fraction(0)) for _, stream in sounds]
        apart = max(firsts) - min(firsts) if firsts else 0
        self.report.check(name, "begins together", apart <= Fraction(AUDIO_FRAME, 44100) or apart >= SEGMENT_S, f"{float(apart):.4f} s apart")

    def pictures(self, name, path, source, made, zero, more_keys, earlier):
        if not self.report.check(name, "has pictures where the source has them", bool(source) == bool(made)):
            return
        if not made:
            return
        wanted = sorted(frame.time - zero for frame in source.frames if frame.time is not None)
        for number, stream in enumerate(made):
            times = [frame.time for frame in stream.frames]
            if earlier[number]:
                self.report.apply_rule("the first picture is shown from where sound begins")
                times = [times[0] + earlier[number], *times[1:]]
            rung = f"rung {number + 1}"
            more = len(times) - len(source.frames)
            if more in (1, 2) and len(times) <= ffmpeg.stored_picture_count(path, source.index):
                # Ends of edits are rounded to the movie's ticks, and ffmpeg lets go of pictures that they fall into.
                self.report.apply_rule("an edit ends within the last picture")
                times = times[:-more]
            if not self.report.check(
                name, "has as many pictures as the source", len(times) == len(source.frames), f"{rung}: {len(source.frames)} became {len(times)}; {spot(wanted, times)}"
            ):
                continue
            furthest = max((abs(a - b) for a, b in zip(wanted, times)), default=Fraction(0))
            allowed = TOLERANCE
            if len(times) > 1 and times[1] - times[0] < wanted[1] - wanted[0] - TOLERANCE:
                # ffmpeg shows all of it, and everything else so much later.
                self.report.apply_rule("an edit begins within the first picture")
                allowed = wanted[1] - wanted[0]
            self.report.check(
                name, "shows every picture at its instant", furthest <= allowed, f"{rung}: up to {float(furthest):.4f} s off; {spot(wanted, times)}"
            )
        keys = [[frame.time for frame in stream.frames if frame.key] for stream in made]
        fewest = min(keys, key=len)
        alike = all(set(fewest) <= set(row) if more_keys else row == fewest for row in keys)
        self.report.check(name, "has key frames at the same instants", alike, str(keys))
        times = [frame.time for frame in made[0].frames]
        self.report.check(name, "begins with a key frame", keys[0][:1] == times[:1], f"{keys[0][:1]}, {times[:1]}")
        # The first picture of every two seconds.
        wanted = [b for a, b in zip([None, *times], times) if a is None or (a + TOLERANCE) // GOP_S != (b + TOLERANCE) // GOP_S]
        missing = [float(time) for time in wanted if time not in keys[0]]
        self.report.check(name, "has a key frame every two seconds", not missing or zero, f"none at {missing}")

    def sounds(self, name, path, folder, audio, made, zero, said):
        sources = {}
        left = list(audio)
        for stream_id, entries in by_stream(said, made):
            number = stream_id
            sources[number] = entries
        if not self.report.check(name, "has every sound", len(sources) == len(audio), f"{len(audio)} became {len(sources)}"):
            return
        for entries, source in zip(sources.values(), left):
            wanted_start = source.frames[0].time - zero
            wanted_end = end_time(source) - zero
            for entry, stream in entries:
                frame = Fraction(AUDIO_FRAME, stream.sample_rate)
                start = stream.frames[0].time
                lag_ms = lag(ffmpeg.envelope(path, source.index), ffmpeg.envelope(folder / entry["file"], stream.index), start - wanted_start)
                self.report.check(name, "is heard when the source is", lag_ms is None or abs(lag_ms) <= frame * 1000, f"{entry['file']}: {lag_ms} ms late")
                end = end_time(stream)
                # Decoders differ in whether they give out the first frame, which has no other before it.
                self.report.check(
                    name,
                    "is heard to the same instant",
                    abs(end - wanted_end) <= 2 * frame,
                    f"{entry['file']}: {float(wanted_start):.4f} to {float(wanted_end):.4f} became {float(start):.4f} to {float(end):.4f}",
                )

    def finish(self, begun):
        print_table(("file", "pictures", "sound", "took", "rate"), [(*row, *[""] * (5 - len(row))) for row in sorted(self.report.rows)])
        for rule, count in sorted(self.report.rules.items()):
            print(f"rule: {rule}: {count} times")
        for subject, what, detail in self.report.failures:
            print(f"FAILED {subject}: {what}: {detail}")
        seconds = time.monotonic() - begun
        print(f"{self.report.passed} checks passed, {len(self.report.failures)} failed, in {seconds:.0f} s")


def pictures(shown):
    """The stream that a ladder is made of: the largest moving picture."""
    streams = [stream for stream in shown.of("video") if stream.frames and not stream.attached_picture]
    return max(streams, key=lambda stream: stream.area, default=None)


def first_time(stream):
    return min(frame.time for frame in stream.frames if frame.time is not None)


def end_time(stream):
    last = max((frame for frame in stream.frames if frame.time is not None), key=lambda frame: frame.time)
    return last.time + Fraction(last.sample_count, stream.sample_rate)


def lag(source, made, later):
    """By how many milliseconds one envelope comes later than the other, which begins `later` seconds after it; `None` for
    what is silent, or the same throughout."""
    mean = sum(source) / max(len(source), 1)
    steady = sum(abs(value - mean) for value in source) < 0.1 * mean * len(source)
    if mean < 8 * 20 or steady:
        return None
    offset = round(later * 1000)
    mean_made = sum(made) / max(len(made), 1)
    source, made = [value - mean for value in source], [value - mean_made for value in made]

    def likeness(shift):
        first = max(0, offset - shift)
        return sum(a * b for a, b in zip(source[first:], made[max(0, shift - offset) :]))

    return max(range(-100, 101), key=lambda shift: (likeness(shift), -abs(shift)))


def by_stream(said, made):
    """Renditions of one source's stream together; there are two of those with six channels."""
    made = list(made)
    for stream in said["source"]["audio"]:
        count = 2 if stream["channels"] >= 6 else 1
        yield stream["stream_id"] + str(len(made)), made[:count]
        made = made[count:]


def said_rate(said):
    return "constant" if all(entry["constant_rate"] for entry in said["video"]) else "variable"


def spot(wanted, times):
    """Where two lists of instants part."""
    rows = [f"{float(t):.4f}" for t in wanted[:3]], [f"{float(t):.4f}" for t in times[:3]]
    ends = [f"{float(t):.4f}" for t in wanted[-2:]], [f"{float(t):.4f}" for t in times[-2:]]
    return f"{rows[0]}…{ends[0]} became {rows[1]}…{ends[1]}"


if __name__ == "__main__":
    sys.exit(main())
