"""One packaged presentation held against its source: frames, samples, times, manifests."""

import json
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import ffmpeg
import isobmff
import manifest
import mpegts

# Presentation time zero on the clock of MPEG-TS and packed audio.
TS_BASE_90K = 900_000
MICRO = Fraction(1, 1_000_000)
TIMEOUT_S = 120


class Refused(Exception):
    """headwater does not play the file, and says why."""


def package(headwater, source, folder, *arguments):
    """The presentation's folder; raises `Refused` when nothing of the source can be served."""
    command = [headwater, "package", source, "--output", folder, *arguments]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    errors = done.stderr.decode("utf-8", "replace").strip()
    if "panicked" in errors:
        raise AssertionError(f"panic: {errors}")
    if done.returncode != 0:
        raise Refused(errors)
    return Path(done.stdout.decode().splitlines()[-1])


def inspect(headwater, source):
    """What headwater says of the file."""
    done = subprocess.run([headwater, "inspect", "--json", source], capture_output=True, timeout=TIMEOUT_S, check=False)
    if b"panicked" in done.stderr:
        raise AssertionError(f"panic: {done.stderr.decode()}")
    return json.loads(done.stdout)


@dataclass
class Truth:
    """What ffmpeg makes of one stream of the source."""

    stream: ffmpeg.Stream
    frames: list  # decoded, untrimmed, in order of output
    checksums: list
    time_slack: Fraction  # how far a time may be from the truth
    starts_late: bool = False  # the source has pictures before the first at which decoding can start


@dataclass
class Played:
    """What ffmpeg makes of a packaged track."""

    frames: list  # (presentation time in seconds, audio samples)
    checksums: list


class Check:
    """All checks of one file."""

    def __init__(self, report, headwater, source, name, scratch):
        self.report = report
        self.headwater = headwater
        self.source = source
        self.name = name
        self.scratch = scratch
        self.shifts = {}  # (form, track) to seconds between source and output

    def ok(self, subject, what, holds, detail=""):
        return self.report.check(f"{self.name} {subject}", what, holds, detail)

    # The tree, and what it names.

    def check_tree(self, root, form, addressing):
        """Every URL of every playlist and MPD is a file of the tree, and every file is named."""
        files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        named = set()
        pending = [path for path in ("master.m3u8", "ts/master.m3u8", "manifest.mpd") if path in files]
        subject = f"{form} {addressing}"
        self.ok(subject, "has entry points", pending)
        while pending:
            path = pending.pop()
            if path in named:
                continue
            named.add(path)
            if path not in files:
                self.ok(subject, "every named file exists", False, path)
                continue
            if path.endswith((".m3u8", ".mpd")):
                pending += manifest.links(path, (root / path).read_text())
        self.ok(subject, "every named file exists", named <= files, lambda: str(sorted(named - files)[:5]))
        # Whole text is named by an MPD that asks for it, text in CMAF by no playlist: HLS has WebVTT.
        rest = {path for path in files - named if not path.endswith("/text.vtt")}
        if addressing in ("timeline-time", "ondemand"):
            # Segments keep their numbers for HLS, which takes no text in CMAF.
            rest = {path for path in rest if not re.fullmatch(r"v[0-9a-f]{16}/cmaf/t\d+/(\d+\.m4s|init\.mp4)", path)}
        self.ok(subject, "every file is named", not rest, lambda: str(sorted(rest)[:5]))

    # CMAF.

    def check_cmaf(self, folder, truth, mpd):
        """Boxes, playlist and MPD of one sample track agree; ffmpeg plays what the source plays."""
        track = folder.name
        subject = f"cmaf {track}"
        header_bytes = (folder / "init.mp4").read_bytes()
        header = isobmff.read_header(header_bytes)
        playlist = manifest.read_media_playlist((folder / "index.m3u8").read_text())
        raw = [(folder / uri).read_bytes() for uri in playlist.uris]
        segments = [isobmff.read_segment(data, header) for data in raw]
        self.check_segments(subject, header, segments)
        self.check_playlist(subject, playlist, [(s.start, s.end) for s in segments], header.timescale, last_end(segments))
        self.check_mpd(subject, track, header, segments, mpd)
        path = self.scratch / f"{track}.mp4"
        path.write_bytes(b"".join([header_bytes, *raw]))
        if truth is not None and truth.frames:
            played = self.play_cmaf(path, segments, header)
            self.check_decoded(subject, truth, played, Fraction(1, header.timescale), segments)
        elif truth is not None:
            self.check_packets(subject, truth, header, segments)
        path.unlink()
        return header, segments

    def check_segments(self, subject, header, segments):
        decode_time = segments[0].base_decode_time
        for number, segment in enumerate(segments, 1):
            here = f"{subject} segment {number}"
            self.ok(here, "tfdt is the sum of all durations before", segment.base_decode_time == decode_time,
                    lambda: f"{segment.base_decode_time}, not {decode_time}")
            decode_time = segment.decode_end
            self.ok(here, "is styp, moof, mdat", segment.kinds == ["styp", "moof", "mdat"], str(segment.kinds))
            self.ok(here, "only the last is lmsg", ("lmsg" in segment.brands) == (number == len(segments)))
            self.ok(here, "sequence_number counts", segment.sequence_number == number)
            self.ok(here, "starts with a sync sample", segment.samples[0].sync)
            self.ok(here, "no sample is empty", all(sample.data for sample in segment.samples))
        end = last_end(segments)
        self.ok(subject, "mehd is the end", header.mehd_duration == end, lambda: f"{header.mehd_duration}, not {end}")

    def check_playlist(self, subject, playlist, rows, timescale, end):
        """Each EXTINF is a difference of instants rounded to microseconds: sums never drift."""
        starts = [Fraction(start, timescale) for start, _ in rows]
        edges = [*starts, Fraction(end, timescale)]
        at = starts[0]
        for number, duration in enumerate(playlist.durations, 1):
            self.ok(f"{subject} EXTINF {number}", "is not empty", duration > 0, str(float(duration)))
            at += duration
            apart = abs(at - edges[number])
            self.ok(f"{subject} EXTINF {number}", "sums to the next segment's start", apart <= MICRO,
                    lambda: f"{float(at):.6f}, boxes say {float(edges[number]):.6f}")
        longest = max(int(duration + Fraction(1, 2)) for duration in playlist.durations)
        self.ok(subject, "TARGETDURATION is the longest EXTINF, rounded", playlist.target_duration == max(longest, 1),
                lambda: f"{playlist.target_duration}, not {longest}")
        self.ok(subject, "ends with EXT-X-ENDLIST", playlist.ended)

    def check_mpd(self, subject, track, header, segments, mpds):
        end = last_end(segments)
        expected = [(s.start, n.start - s.start) for s, n in zip(segments, segments[1:])]
        expected.append((segments[-1].start, end - segments[-1].start))
        for addressing, (duration, representations) in mpds.items():
            found = [representation for representation in representations if representation.id == track]
            here = f"{subject} {addressing}"
            if not self.ok(here, "is in the MPD once", len(found) == 1, str(len(found))):
                continue
            representation = found[0]
            self.ok(here, "MPD has the timescale of mdhd", representation.timescale == header.timescale)
            if representation.segments:
                self.ok(here, "S@t and S@d are the boxes' start and duration", representation.segments == expected,
                        lambda: first_difference(representation.segments, expected))
            elif representation.nominal_duration:
                each = representation.nominal_duration
                apart = max(abs(start - number * each) for number, (start, _) in enumerate(expected))
                self.ok(here, "$Number$ is right to within half a segment", apart * 2 <= each, f"{apart} of {each}")
                self.ok(here, "$Number$ counts the segments", len(representation.media) == len(segments),
                        lambda: f"{len(representation.media)}, there are {len(segments)}")
            # The last tick need not be whole: text has milliseconds, the duration of the presentation microseconds.
            over = Fraction(end, header.timescale) - duration
            slack = MICRO + Fraction(1, header.timescale)
            self.ok(here, "ends with the presentation", over < slack, lambda: f"{float(over):.6f} s later")

    def play_cmaf(self, path, segments, header):
        probe = ffmpeg.probe(path, ffmpeg.FRAMES)
        stream = probe.streams[0]
        # ffmpeg adds the largest negative composition offset that it has met to presentation times, and for files in
        # fragments it does not take it from decode times (mov.c, dts_shift).
        shift = 0
        if any(sample.composition_offset < 0 for segment in segments for sample in segment.samples):
            shift = max(-sample.composition_offset for segment in segments for sample in segment.samples)
            self.report.apply_rule("ffmpeg shows fragments with negative composition offsets later")
        shift = Fraction(shift, header.timescale)
        frames = [(frame.time - shift if frame.time is not None else None, frame.sample_count) for frame in stream.frames]
        return Played(frames, ffmpeg.checksums(path, 0, stream.frames))

    # MPEG-TS and packed audio.

    def check_ts_video(self, folder, truth, cmaf, muxed):
        """A video in MPEG-TS, with the audio that travels in it: `muxed` is (track name, truth, CMAF) or None."""
        track = folder.name
        subject = f"ts {track}"
        header, segments = cmaf
        playlist = manifest.read_media_playlist((folder / "index.m3u8").read_text())
        raw = [(folder / uri).read_bytes() for uri in playlist.uris]
        rows = [(segment.start, segment.end) for segment in segments]
        self.check_playlist(subject, playlist, rows, header.timescale, last_end(segments))
        continuity = mpegts.Continuity()
        read = [mpegts.read_segment(data, continuity) for data in raw]
        self.ok(subject, "as many segments as in CMAF", len(read) == len(segments))
        for number, (segment, cmaf_segment) in enumerate(zip(read, segments), 1):
            here = f"{subject} segment {number}"
            self.check_clock(here, segment)
            units = segment.of(mpegts.is_video)
            times = [to_90k(sample.presentation_time, header.timescale) for sample in cmaf_segment.samples]
            found = [unit.presentation_time for unit in units]
            self.ok(here, "each PTS is the boxes' time, rounded", found == times, lambda: first_difference(found, times))
            late = [unit for unit in units if unit.decode_time > unit.presentation_time]
            self.ok(here, "no DTS is after its PTS", not late, lambda: str(late[:3]))
        decode = [unit.decode_time for segment in read for unit in segment.of(mpegts.is_video)]
        self.ok(subject, "DTS rises", all(a < b for a, b in zip(decode, decode[1:])),
                lambda: str([(a, b) for a, b in zip(decode, decode[1:]) if a >= b][:3]))
        path = self.scratch / f"{track}.ts"
        path.write_bytes(b"".join(raw))
        probe = ffmpeg.probe(path, ffmpeg.FRAMES)
        if truth is not None and truth.frames:
            self.check_decoded(subject, truth, played_ts(probe, "video", path), Fraction(1, 90_000), segments)
        if muxed is not None:
            audio, audio_truth, (audio_header, audio_segments) = muxed
            units = [unit.presentation_time for segment in read for unit in segment.of(mpegts.is_audio)]
            times = {to_90k(sample.presentation_time, audio_header.timescale)
                     for segment in audio_segments for sample in segment.samples}
            wrong = [time for time in units if time not in times]
            self.ok(f"ts {track}+{audio}", "each audio PTS is the boxes' time, rounded", not wrong, lambda: str(wrong[:3]))
            self.ok(f"ts {track}+{audio}", "has audio", bool(units))
            if audio_truth is not None and audio_truth.frames:
                played = played_ts(probe, "audio", path)
                self.check_decoded(f"ts {track}+{audio}", audio_truth, played, Fraction(1, 90_000), audio_segments)
        path.unlink()

    def check_clock(self, here, segment):
        clocks = [time for _, time in segment.clocks]
        steps = [b - a for a, b in zip(clocks, clocks[1:])]
        self.ok(here, "PCR rises", all(step > 0 for step in steps), lambda: str([s for s in steps if s <= 0][:3]))
        self.ok(here, "PCR comes every 100 ms", all(step <= 2_700_000 for step in steps),
                lambda: f"{max(steps) / 27_000:.1f} ms")
        self.ok(here, "nothing is decoded before the clock", segment.decode_clock_slack >= 0,
                lambda: f"{segment.decode_clock_slack} of 90 kHz")

    def check_packed(self, folder, truth, cmaf):
        track = folder.name
        subject = f"ts {track}"
        header, segments = cmaf
        playlist = manifest.read_media_playlist((folder / "index.m3u8").read_text())
        rows = [(segment.start, segment.end) for segment in segments]
        self.check_playlist(subject, playlist, rows, header.timescale, last_end(segments))
        frames = []
        for number, (uri, segment) in enumerate(zip(playlist.uris, segments), 1):
            time, bare = mpegts.read_packed_audio((folder / uri).read_bytes())
            frames.append(bare)
            want = to_90k(segment.samples[0].presentation_time, header.timescale)
            self.ok(f"{subject} segment {number}", "time stamp is the boxes' time, rounded", time == want,
                    lambda: f"{time}, not {want}")
        path = self.scratch / f"{track}{Path(playlist.uris[0]).suffix}"
        path.write_bytes(b"".join(frames))
        probe = ffmpeg.probe(path, ffmpeg.FRAMES)
        if truth is not None and truth.frames:
            base = Fraction(segments[0].samples[0].presentation_time, header.timescale)
            played = played_ts(probe, "audio", path)
            # Bare frames have no times: those of the first time stamp on.
            first = next((time for time, _ in played.frames), None) or 0
            played.frames = [(None if time is None else time - first + base, count) for time, count in played.frames]
            if truth.stream.codec == "mp3" and any(mark in frames[0][:64] for mark in (b"Xing", b"Info", b"VBRI")):
                # A first frame that holds a table and silence. ffmpeg's reader of bare MP3 takes it for a file header.
                self.report.apply_rule("ffmpeg does not decode the table in front of bare MP3")
                truth = Truth(truth.stream, truth.frames[1:], truth.checksums[1:], truth.time_slack)
            self.check_decoded(subject, truth, played, Fraction(1, 90_000), segments, times=False)
        path.unlink()

    def check_text(self, folder, mpds):
        """Text in CMAF: samples without a gap from the first segment's start to the end; the same cut in WebVTT."""
        track = folder.name
        subject = f"cmaf {track}"
        header = isobmff.read_header((folder / "init.mp4").read_bytes())
        playlist = manifest.read_media_playlist((folder / "index.m3u8").read_text())
        raw = [(folder / uri).with_suffix(".m4s").read_bytes() for uri in playlist.uris]
        segments = [isobmff.read_segment(data, header) for data in raw]
        self.check_segments(subject, header, segments)
        self.check_playlist(subject, playlist, [(s.start, s.end) for s in segments], header.timescale, last_end(segments))
        self.check_mpd(subject, track, header, segments, mpds)
        texts = [(folder / uri).read_text() for uri in playlist.uris]
        self.ok(subject, "each segment is WebVTT with a time stamp",
                all(text.startswith("WEBVTT\nX-TIMESTAMP-MAP=") for text in texts), lambda: texts[0][:80])

    def check_trick(self, folder, form, header):
        """The trick-play track: one picture a segment, each decodes alone."""
        playlist_path = folder / "iframes.m3u8"
        if not playlist_path.exists():
            return
        subject = f"{form} {folder.name} trick"
        playlist = manifest.read_media_playlist(playlist_path.read_text())
        raw = [(folder / uri).read_bytes() for uri in playlist.uris]
        if form == "cmaf":
            segments = [isobmff.read_segment(data, header) for data in raw]
            self.ok(subject, "each segment has one sync sample",
                    all(len(s.samples) == 1 and s.samples[0].sync for s in segments))
            rows = [(segment.start, segment.end) for segment in segments]
            self.check_playlist(subject, playlist, rows, header.timescale, last_end(segments))
            raw.insert(0, (folder / "init.mp4").read_bytes())
        path = self.scratch / f"trick{Path(playlist.uris[0]).suffix}"
        path.write_bytes(b"".join(raw))
        probe = ffmpeg.probe(path, ffmpeg.FRAMES)
        count = len(probe.streams[0].frames) if probe.streams else 0
        self.ok(subject, "each picture decodes", count == len(playlist.uris), lambda: f"{count} of {len(playlist.uris)}")
        path.unlink()

    # Decoded.

    def check_packets(self, subject, truth, header, segments):
        """The samples of a coding that ffmpeg does not decode: as many, as large and at the same times."""
        want = [(packet.time, packet.size) for packet in truth.stream.packets]
        got = [(Fraction(sample.presentation_time, header.timescale), len(sample.data))
               for segment in segments for sample in segment.samples]
        self.report.row(self.name, subject, truth.stream.codec, f"{len(want)} packets", f"{len(got)}", "", "",
                        clock(want[0][0]), clock(got[0][0]), clock(want[-1][0]), clock(got[-1][0]), len(segments))
        sizes = [size for _, size in want], [size for _, size in got]
        self.ok(subject, "has the source's packets", sizes[0] == sizes[1], lambda: first_difference(sizes[1], sizes[0]))
        apart = [b - a for (a, _), (b, _) in zip(want, got)]
        self.ok(subject, "packets are as far apart as in the source", len(set(apart)) == 1, lambda: str(sorted(set(apart))[:3]))

    def check_decoded(self, subject, truth, played, tick, segments, *, times=True):
        """Frames, samples and times that ffmpeg decodes from the packaged track are those of the source."""
        is_audio = truth.stream.kind == "audio"
        got = list(zip(played.frames, pad(played.checksums, len(played.frames))))
        if not is_audio:
            got = self.shown(got, tick, len(truth.frames), segments)
        want = list(zip(truth.frames, pad(truth.checksums, len(truth.frames))))
        if truth.starts_late and got and len(want) > len(got):
            self.report.apply_rule("ffmpeg shows pictures that lack what they refer to, before decoding can start")
            want = want[-len(got):]
        self.report.row(self.name, subject, truth.stream.codec, len(want), len(got),
                        sum(frame.sample_count for frame, _ in want), sum(count for (_, count), _ in got),
                        clock(want[0][0].time if want else None), clock(got[0][0][0] if got else None),
                        clock(want[-1][0].time if want else None), clock(got[-1][0][0] if got else None), len(segments))
        if not self.ok(subject, "decodes to the source's frame count", len(want) == len(got),
                       lambda: f"{len(got)}, source {len(want)}; {describe(want, got)}"):
            return
        if is_audio:
            counts = [(frame.sample_count, count) for (frame, _), ((_, count), _) in zip(want, got)]
            self.ok(subject, "each frame has the source's samples", all(a == b for a, b in counts),
                    lambda: str([(at, pair) for at, pair in enumerate(counts) if pair[0] != pair[1]][:3]))
        sums = [(a, b) for (_, a), (_, b) in zip(want, got)] if truth.checksums else []
        differing = [at for at, (a, b) in enumerate(sums) if a != b]
        self.ok(subject, "each frame decodes to the source's content", not differing,
                lambda: f"{len(differing)} of {len(sums)} differ, the first is frame {differing[0]}")
        if times:
            self.check_times(subject, truth, want, got, tick)

    def shown(self, got, tick, count, segments):
        """Pictures within the edit that the source asks for."""
        # Before zero lies what is decoded and not shown: the source's edit list hides it too.
        after = [row for row in got if row[0][0] is None or row[0][0] > -tick]
        if len(after) != len(got):
            self.report.apply_rule("pictures before an edit's start are decoded, not shown")
        # CMAF has no end of an edit. What is shown after it stays where something shown before it refers to it, that is
        # where it is not the last one decoded.
        samples = [sample for segment in segments for sample in segment.samples]
        kept = 0
        while len(after) - kept > count and kept < len(samples):
            latest = max(samples, key=lambda sample: sample.presentation_time)
            if latest is samples[-1]:
                break
            samples.remove(latest)
            kept += 1
        if kept:
            self.report.apply_rule("pictures after an edit's end stay where shown ones refer to them")
            after = after[:-kept]
        return after

    def check_times(self, subject, truth, want, got, tick):
        pairs = [(frame.time, time) for (frame, _), ((time, _), _) in zip(want, got)]
        if not self.ok(subject, "every frame has a time", all(time is not None for _, time in pairs)):
            return
        pairs = [(a, b) for a, b in pairs if a is not None]
        if not pairs:
            return
        apart = [b - a for a, b in pairs]
        slack = tick + truth.time_slack
        off = [at for at, value in enumerate(apart) if abs(value - apart[0]) > slack]
        self.ok(subject, "frames are as far apart as in the source", not off,
                lambda: f"frame {off[0]}: {float(apart[off[0]] - apart[0]) * 1000:.3f} ms, {len(off)} such of {len(apart)}")
        shift = apart[0]
        # What is being shown at zero is shown at zero, whenever its sound began.
        first_shown = max(0, next((time for at, (_, time) in enumerate(pairs) if is_shown(pairs, at, tick)), 0))
        starts_within_a_picture = truth.stream.kind == "video" and any(p.discarded for p in truth.stream.packets)
        if starts_within_a_picture and pairs[0][0] == 0 and 0 < shift < max(b - a for (a, _), (b, _) in zip(pairs, pairs[1:])):
            # An edit may start while a picture is being shown. ffmpeg moves the next one to the start.
            self.report.apply_rule("ffmpeg shows the first picture at zero, the edit starts a part of a picture earlier")
            return
        self.shifts[subject] = (shift, slack, first_shown)

    def check_shifts(self):
        """All tracks are moved equally, if at all; and only so that what is shown first is shown at zero."""
        if not self.shifts:
            return
        reference, (first, slack, _) = next(iter(self.shifts.items()))
        for subject, (shift, own_slack, _) in self.shifts.items():
            self.ok(subject, "is moved as all tracks are", abs(shift - first) <= slack + own_slack,
                    lambda: f"{float(shift):.6f} s, {reference} {float(first):.6f} s")
        earliest = min(shown for _, _, shown in self.shifts.values())
        self.ok("", "starts when the source starts, or at zero", abs(first) <= slack or abs(earliest) <= slack,
                lambda: f"moved {float(first):.6f} s to {float(earliest):.6f} s")

    def check_on_demand(self, folder, addressing_mpd):
        """The virtual file is header, sidx and the very segments; the sidx and the MPD lead into it; ffmpeg reads it."""
        track = folder.name
        subject = f"on-demand {track}"
        data = (folder / "media.mp4").read_bytes()
        header_bytes = (folder / "init.mp4").read_bytes()
        raw = [(folder / f"{number}.m4s").read_bytes() for number in range(1, len(list(folder.glob("[0-9]*.m4s"))) + 1)]
        index = isobmff.read_segment_index(data)
        whole = header_bytes + data[index.start : index.end] + b"".join(raw)
        self.ok(subject, "is header, sidx and segments", data == whole, lambda: f"{len(data)} bytes, not {len(whole)}")
        self.ok(subject, "sidx stands behind the header", index.start == len(header_bytes) and index.first_offset == 0)
        self.ok(subject, "sidx has the segments' sizes", [r.size for r in index.references] == [len(d) for d in raw])
        header = isobmff.read_header(header_bytes)
        segments = [isobmff.read_segment(one, header) for one in raw]
        starts = [*(segment.start for segment in segments), last_end(segments)]
        durations = [b - a for a, b in zip(starts, starts[1:])]
        self.ok(subject, "sidx has the segments' durations", [r.duration for r in index.references] == durations,
                lambda: first_difference([r.duration for r in index.references], durations))
        self.ok(subject, "sidx starts where the track starts", index.earliest_presentation_time == starts[0],
                lambda: f"{index.earliest_presentation_time}, not {starts[0]}")
        self.ok(subject, "sidx has the timescale of mdhd", index.timescale == header.timescale)
        # 3 where pictures are shown before the key frame, and may need what came before it.
        self.ok(subject, "each reference starts with SAP 1 or 3",
                all(r.starts_with_sap and r.sap_type in (1, 3) for r in index.references),
                lambda: str({(r.starts_with_sap, r.sap_type) for r in index.references}))
        found = [representation for representation in addressing_mpd[1] if representation.id == track]
        if self.ok(subject, "is in the MPD once", len(found) == 1, str(len(found))):
            self.ok(subject, "the MPD has the header's and the sidx's bytes",
                    found[0].initialization_range == (0, index.start - 1)
                    and found[0].index_range == (index.start, index.end - 1), lambda: str(found[0]))
        if track.startswith("t"):
            return
        probe = ffmpeg.probe(folder / "media.mp4", ffmpeg.PACKETS)
        # Bytes, not packets: ffmpeg parts E-AC-3 samples into frames.
        size = sum(packet.size for stream in probe.streams for packet in stream.packets)
        want = sum(len(sample.data) for segment in segments for sample in segment.samples)
        self.ok(subject, "ffmpeg reads every sample", size == want, lambda: f"{size} bytes, not {want}; {probe.complaints[:200]}")


def is_shown(pairs, at, tick):
    """Whether the frame lasts past zero: the next one starts after it, or it is the last."""
    return at + 1 == len(pairs) or pairs[at + 1][1] > 0 or pairs[at][1] > -tick


def played_ts(probe, kind, path):
    stream = next((stream for stream in probe.of(kind)), None)
    if stream is None:
        return Played([], [])
    base = Fraction(TS_BASE_90K, 90_000)
    frames = [(None if frame.time is None else frame.time - base, frame.sample_count) for frame in stream.frames]
    return Played(frames, ffmpeg.checksums(path, stream.index, stream.frames))


def last_end(segments):
    return max(segment.end for segment in segments[-2:])


def to_90k(ticks, timescale):
    """Nearest tick of 90 kHz on the presentation's MPEG-2 timeline; halves go up."""
    return (ticks * 90_000 * 2 + timescale) // (2 * timescale) + TS_BASE_90K


def pad(values, count):
    return [*values, *[None] * (count - len(values))][:count]


def clock(time):
    return "-" if time is None else f"{float(time):.6f}"


def describe(want, got):
    return (f"source {[clock(frame.time) for frame, _ in want[:3]]}…{[clock(frame.time) for frame, _ in want[-2:]]}, "
            f"output {[clock(time) for (time, _), _ in got[:3]]}…{[clock(time) for (time, _), _ in got[-2:]]}")


def first_difference(found, expected):
    for at, (a, b) in enumerate(zip(found, expected)):
        if a != b:
            return f"at {at}: {a}, not {b} ({len(found)} and {len(expected)} rows)"
    return f"{len(found)} rows, not {len(expected)}"
