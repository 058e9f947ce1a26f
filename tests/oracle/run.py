"""The oracle: real files through headwater, and ffmpeg's opinion of what comes out.

    python3 run.py --headwater target/debug/headwater --media ../shared/media [--only NAME]

Leaves with 0 if every check passed, 1 if one failed, 2 if it was called wrongly.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import damaged
import ffmpeg
import isobmff
import manifest
import presentation
import schema
import served
from report import Report, print_table

ADDRESSINGS = ("timeline-number", "timeline-time", "number", "ondemand")
# Folders of the collection that hold no files for playing: what is damaged has its own check, xmltv is no media.
OTHER_FOLDERS = ("corrupt", "xmltv")
# ffmpeg's names of containers that are audio frames and nothing else.
RAW_AUDIO = ("aac", "ac3", "eac3", "flac", "mp3")
# Frames of sound that one PES packet holds at most, among the files here.
AUDIO_FRAMES_IN_PES = 8
# Files that ffmpeg reads and headwater need not, with the reason that ffmpeg does not tell.
OUT_OF_SCOPE = {
    "audio-mp4/androidx__sample_mp2_audio.mp4": "MPEG audio layer 2, which MP4 calls MPEG audio like layer 3",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--headwater", required=True, type=Path)
    parser.add_argument("--media", required=True, type=Path)
    parser.add_argument("--only", default="", help="part of the names of the files to look at")
    options = parser.parse_args()
    if not options.media.is_dir() or not options.headwater.is_file():
        parser.error("--media is a folder, --headwater a program")
    begun = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="headwater-oracle."))
    try:
        run = Run(options.headwater, options.media, scratch)
        run.all(options.only)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if run.schema.skipped:
        print(f"SKIPPED: no MPD was held against the published schema: {run.schema.skipped}")
    finish(run.report, begun)
    return 1 if run.report.failures else 0


class Run:
    """One run over the collection."""

    def __init__(self, headwater, media, scratch):
        self.report = Report()
        self.schema = schema.Schema(self.report)
        self.headwater = headwater
        self.media = media
        self.scratch = scratch
        self.rows = {}
        self.origin = None

    def all(self, only):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            files = [path for path in self.files() if only in str(path.relative_to(self.media))]
            if not only or "corrupt" in only:
                played = damaged.check(self.report, self.headwater, self.media / "corrupt", self.scratch)
                # What ffmpeg has nothing to say against must come out whole, in whatever folder it is.
                files += [path for path in played if not ffmpeg.probe(path).complaints]
            self.rows = served.listing(self.headwater, self.media, self.scratch)
            self.origin = served.Origin(self.headwater, self.media, self.scratch)
            try:
                # The longest first, so that none is left alone at the end.
                files.sort(key=lambda path: path.stat().st_size, reverse=True)
                list(pool.map(self.file, files))
                self.report.check("origin", "nothing panicked", "panicked" not in self.origin.log())
            finally:
                self.report.check("origin", "ends when told to", self.origin.stop())

    def files(self):
        folders = [path for path in self.media.iterdir() if path.is_dir() and path.name not in OTHER_FOLDERS]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    def file(self, source):
        name = str(source.relative_to(self.media))
        own = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            with self.report.step(name, "is checked to the end"):
                self.check(source, name, own)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def check(self, source, name, own):
        encrypted = isobmff.encrypted_entries(source)
        # Without keys ffmpeg decodes noise, for minutes. Clear tracks beside encrypted ones are checked without a truth.
        probe = ffmpeg.Probe([], "", "") if encrypted else ffmpeg.probe(source)
        check = presentation.Check(self.report, self.headwater, source, name, own)
        try:
            root = presentation.package(self.headwater, source, own / "timeline-number")
        except presentation.Refused as refusal:
            self.refused(name, probe, encrypted, str(refusal))
            return
        said = presentation.inspect(self.headwater, source)
        check.check_tree(root, "cmaf,ts", "timeline-number")
        self.serve(name, root, "timeline-number")
        mpds = {}
        for addressing in ADDRESSINGS:
            tree = root
            if addressing != "timeline-number":
                form = ("--form", "cmaf", "--addressing", addressing)
                tree = presentation.package(self.headwater, source, own / addressing, *form)
                check.check_tree(tree, "cmaf", addressing)
            if (tree / "manifest.mpd").exists():
                mpds[addressing] = manifest.read_mpd((tree / "manifest.mpd").read_text())
            if addressing == "ondemand":
                for file in sorted(tree.rglob("media.mp4")):
                    check.check_on_demand(file.parent, mpds[addressing])
                self.serve(name, tree, addressing)
        if mpds and name in self.rows:
            self.schema.check_served(self.origin, name, self.rows[name]["id"])
        self.tracks(check, root / f"v{said['version']}", said, self.truths(source, name, probe, said), mpds)
        check.check_shifts()

    def serve(self, name, root, addressing):
        row = self.rows.get(name)
        if not self.report.check(name, "is in the library", row is not None):
            return
        with self.report.step(name, "is served"):
            served.check_tree(self.report, self.origin, name, row["id"], root, addressing)

    def tracks(self, check, version, said, truths, mpds):
        cmaf = {}
        for folder in sorted((version / "cmaf").glob("[va]*")):
            with self.report.step(f"{check.name} cmaf {folder.name}", "is read"):
                cmaf[folder.name] = check.check_cmaf(folder, truths.get(folder.name), mpds)
                check.check_trick(folder, "cmaf", cmaf[folder.name][0])
        for folder in sorted((version / "cmaf").glob("t*")):
            with self.report.step(f"{check.name} cmaf {folder.name}", "is read"):
                check.check_text(folder, mpds)
        audio = muxed_audio(version, said)
        for folder in sorted((version / "ts").glob("[va]*")):
            with self.report.step(f"{check.name} ts {folder.name}", "is read"):
                if folder.name.startswith("v"):
                    muxed = (audio, truths.get(audio), cmaf[audio]) if audio else None
                    check.check_ts_video(folder, truths.get(folder.name), cmaf[folder.name], muxed)
                    check.check_trick(folder, "ts", cmaf[folder.name][0])
                else:
                    check.check_packed(folder, truths.get(folder.name), cmaf[folder.name])

    def refused(self, name, probe, encrypted, reason):
        """A refusal must have its cause in the file."""
        wanted = [stream for stream in probe.streams if stream.in_scope and stream.packets]
        if name in OUT_OF_SCOPE:
            right, cause = bool(reason), OUT_OF_SCOPE[name]
        elif encrypted:
            # A header of a set has no samples to be encrypted.
            right, cause = "encrypted" in reason or "no samples" in reason, "encrypted"
        elif not wanted:
            right, cause = bool(reason), "nothing in scope"
        elif probe.complaints:
            right, cause = bool(reason), "damaged"
        else:
            right, cause = False, "none"
        self.report.check(name, "is played, for ffmpeg reads it cleanly", right, reason)
        self.report.row(name, f"refused: {cause}", *[""] * 10)

    def truths(self, source, name, probe, said):
        """Track name to what ffmpeg says of the stream it is made of. Every stream that ffmpeg decodes must be a track."""
        truths = {}
        if not probe.streams:
            return truths
        for kind, prefix in (("video", "v"), ("audio", "a")):
            left = probe.of(kind)
            for track in (track for track in said["tracks"] if track["id"].startswith(prefix)):
                # Where a container has no ids, the order of streams of a kind is that of the tracks.
                stream = next((s for s in left if s.id is not None and s.id == track["source_track_id"]), None)
                if stream is None and left and all(s.id is None for s in left):
                    stream = left[0]
                if not self.report.check(name, "every track is a stream that ffmpeg sees", stream is not None, track["id"]):
                    continue
                left.remove(stream)
                truths[track["id"]] = self.truth(source, probe, stream, said["refused"])
            missing = [stream for stream in left if stream.in_scope and stream.frames]
            self.report.check(name, "every stream that ffmpeg decodes is a track", not missing,
                              lambda: f"{[(s.index, s.codec, len(s.frames)) for s in missing]}, refused {said['refused']}")
        return truths

    def truth(self, source, probe, stream, refused):
        """What ffmpeg says of a stream, less what is known to be wrong about it."""
        frames, slack = stream.frames, stream.time_base
        sums = ffmpeg.checksums(source, stream.index, frames) if frames else []
        own = [refusal["why"] for refusal in refused if f"PID {stream.id} " in refusal["what"]]
        if probe.container in RAW_AUDIO and stream.sample_rate:
            self.report.apply_rule("ffmpeg adds up rounded durations where bare audio has no times: samples are counted")
            count = 0
            for frame in frames:
                frame.time = frames[0].time + Fraction(count, stream.sample_rate)
                count += frame.sample_count
        if probe.container.startswith("matroska") and stream.kind == "audio":
            self.report.apply_rule("sound in Matroska is put end to end: its milliseconds were rounded, often twice")
            slack *= 2
        if probe.container == "mpegts" and stream.kind == "audio":
            self.report.apply_rule("ffmpeg rounds the times of frames in one PES packet down, each from the one before")
            slack *= AUDIO_FRAMES_IN_PES
        if any("bytes between frames" in why for why in own):
            self.report.apply_rule("ffmpeg decodes what is left of a frame that was cut where the recording starts or ends")
            sizes = [packet.size for packet in stream.packets]
            if sizes[0] < min(sizes[1:]):
                # Decoders go on from what they made of it: AC-3 with its noise, AAC with its overlap.
                frames, sums = frames[1:], []
            if sizes[-1] < min(sizes[:-1]):
                frames, sums = frames[:-1], sums[:-1]
        if any("chained" in refusal["why"] for refusal in refused):
            self.report.apply_rule("of files chained in one only the first is served, and the rest is said to be left out")
            count = next((at for at in range(1, len(frames)) if frames[at].time < frames[at - 1].time), len(frames))
            frames, sums = frames[:count], sums[:count]
        starts_late = any("before the first at which decoding can start" in why for why in own)
        return presentation.Truth(stream, frames, sums, slack, starts_late)


def muxed_audio(version, said):
    """The audio that travels in the video's segments: the form's only one, when it has no folder of its own."""
    left_out = {row["what"].split(" ")[0] for row in said["forms"]["ts"]["left_out"]}
    audio = [track["id"] for track in said["tracks"] if track["id"].startswith("a") and track["id"] not in left_out]
    return audio[0] if len(audio) == 1 and not (version / "ts" / audio[0]).exists() else None


def finish(report, begun):
    heads = ("file", "track", "codec", "frames", "out", "samples", "out", "first", "out", "last", "out", "segments")
    print_table(heads, sorted(report.rows, key=lambda row: row[:2]))
    print()
    for rule, count in sorted(report.rules.items()):
        print(f"rule met {count} times: {rule}")
    for subject, what, detail in sorted(report.failures):
        print(f"FAILED {subject}: {what}: {detail}")
    print(f"\n{report.passed} passed, {len(report.failures)} failed in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
