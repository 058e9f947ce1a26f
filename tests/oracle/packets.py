"""Packets as other programs decrypt them, byte for byte against those of the clear form; nothing is decoded."""

import hashlib
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from urllib.parse import urljoin

import isobmff
import sampleaes

TIMEOUT_S = 300
# ffmpeg reads ahead to find out what a stream is, and at the end of a playlist hands on what it has read as it is: the
# last segment is offered so many times more, and what comes of that is not looked at.
REPEATED_COUNT = 24
# Their slices have zeros behind them, of which what is encrypted must know nothing; `sampleaes` compares the units.
PADDED = ("androidx__sample_no_bframes.mp4", "androidx__sample_with_chapters.mp4")


def packets(source, *options):
    """(stream, size, checksum) of each packet in the order of the file, and what ffmpeg complains of."""
    command = ["ffmpeg", "-nostdin", "-v", "error", *options, "-i", source, "-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "framemd5", "-"]
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=TIMEOUT_S, check=False)
    rows = [line.split(",") for line in done.stdout.decode().splitlines() if line and line[0] != "#"]
    return [(int(row[0]), int(row[4]), row[5].strip()) for row in rows], done.stderr.decode("utf-8", "replace").strip()


def streams(rows):
    """Packets of each stream: players of several streams may be given them in another order."""
    found = {}
    for stream, *packet in rows:
        found.setdefault(stream, []).append(packet)
    return found


def difference(found, truth):
    told = []
    for stream, rows in truth.items():
        others = found.get(stream, [])
        at = next((at for at, pair in enumerate(zip(others, rows)) if pair[0] != pair[1]), min(len(others), len(rows)))
        told.append(f"stream {stream}: {len(others)} packets, clear {len(rows)}, alike up to {at}")
    return "; ".join(told)


class Packets:
    def __init__(self, report, scratch, packager_path, count):
        self.report, self.scratch, self.packager, self.count = report, scratch, packager_path, count
        self.kept = threading.local()

    def clear_packets(self, url):
        """What a clear playlist has; one scheme after the other asks for the same."""
        kept = self.kept.__dict__.setdefault("of", {})
        if url not in kept:
            if len(kept) > 20:
                kept.clear()
            kept[url] = packets(url)
        return kept[url]

    def check_cmaf(self, subject, header, scheme, key, clear, protected):
        """ffmpeg and shaka-packager, each with the key, find the samples of the clear segments in the protected file."""
        own = Path(tempfile.mkdtemp(dir=self.scratch))
        truth = {0: [[len(data), hashlib.md5(data).hexdigest()] for data in samples(clear, header)]}
        try:
            (own / "sealed.mp4").write_bytes(protected)
            if scheme.kind == "cens" and scheme.entry == "enca":
                # ffmpeg has a key stream for the last, partial block of a frame; shaka-packager leaves it clear as we do.
                self.count("cens: sound, of which ffmpeg takes the last block for encrypted")
            elif scheme.original == "ec-3" and any(len(sampleaes.syncframes(data)) > 1 for data in samples(clear, header)):
                self.count("tracks of whose samples ffmpeg makes several packets (ec-3)")
            else:
                self.hold(f"{scheme.kind}: ffmpeg", subject, truth, *packets(own / "sealed.mp4", "-decryption_key", key.hex()))
            if self.packager and self.open(own, scheme, key):
                found = samples(fragments((own / "opened.mp4").read_bytes()), header)
                rows = [(0, len(data), hashlib.md5(data).hexdigest()) for data in found]
                self.hold(f"{scheme.kind}: shaka-packager", subject, truth, rows, "")
            elif self.packager:
                # Whether it should have, `outsiders` asks.
                self.count(f"tracks that shaka-packager does not open ({scheme.original})")
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def hold(self, who, subject, truth, rows, complaints):
        found = streams(rows)
        if self.report.check(subject, f"{who} with the key finds the clear form's packets", found == truth,
                             lambda: f"{difference(found, truth)} {complaints[:200]}"):
            self.count(f"{who}: tracks equal packet for packet")
            self.count(f"{who}: packets equal", sum(map(len, truth.values())))

    def open(self, own, scheme, key):
        kind = "video" if scheme.entry == "encv" else "audio"
        command = [self.packager, f"in={own / 'sealed.mp4'},stream={kind},output={own / 'opened.mp4'}",
                   "--enable_raw_key_decryption", "--keys", f"label=:key_id={scheme.key_id.hex()}:key={key.hex()}"]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        return done.returncode == 0 and (own / "opened.mp4").exists()

    def check_ts(self, subject, method, clear_url, sealed_url, playlist, sliced):
        """ffmpeg finds the packets of the clear playlist in the protected one; of pictures that are `sliced`, as many, and
        each of the clear one's size."""
        if method == "sampleaes" and re.search(r"^\d+\.e?ac3$", playlist, re.MULTILINE):
            # Its demuxer cuts such files into pieces of no meaning, and none of them is decrypted.
            self.count("sampleaes: packed AC-3, which ffmpeg does not decrypt")
            return
        if method == "sampleaes" and playlist.count("#EXT-X-KEY:") > 1:
            # It takes the key of the segment that it reads for the packets of those before.
            self.count("sampleaes: playlists of several keys, which ffmpeg mixes up")
            return
        if method == "sampleaes" and any(name in subject for name in PADDED):
            self.count("sampleaes: titles with zeros behind slices, which the clear form keeps")
            return
        rows, complaints = self.clear_packets(clear_url)
        truth = streams(rows)
        if not truth:
            self.count(f"playlists of which ffmpeg finds no packets in the clear ({complaints[:80]!r})")
            return
        if method == "aes128":
            self.hold(f"{method}: ffmpeg", subject, truth, *packets(sealed_url))
            return
        own = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            (own / "long.m3u8").write_text(lengthened(playlist, sealed_url))
            rows, complaints = packets(own / "long.m3u8", "-allowed_extensions", "ALL", "-protocol_whitelist", "file,http,tcp")
            found = {stream: packets_of[: len(truth.get(stream, ()))] for stream, packets_of in streams(rows).items()}
            if sliced:
                # Of a picture ffmpeg leaves the start codes in place that are behind a slice it has made shorter.
                found, count = alike_in_size(found, truth)
                self.count("sampleaes: pictures of several slices that ffmpeg puts together wrongly", count)
            flat = [(stream, *packet) for stream, packets_of in found.items() for packet in packets_of]
            self.hold(f"{method}: ffmpeg", subject, truth, flat, complaints)
        finally:
            shutil.rmtree(own, ignore_errors=True)


def fragments(data):
    """Each `moof` with its `mdat`."""
    found = list(isobmff.boxes(data))
    return [data[one.start : other.end] for one, other in zip(found, found[1:]) if one.kind == "moof"]


def samples(segments, header):
    return [sample.data for data in segments for sample in isobmff.read_segment(data, header).samples]


def alike_in_size(found, truth):
    """The packets of `truth` in the place of those that are as large; and how many differ."""
    count, taken = 0, {}
    for stream, rows in found.items():
        pairs = list(zip(rows, truth.get(stream, ())))
        count += sum(one != other for one, other in pairs)
        taken[stream] = [other if one[0] == other[0] else one for one, other in pairs]
    return taken, count


def lengthened(playlist, url):
    """The playlist at `url` with whole addresses, its last segment repeated."""
    lines = re.sub(r'URI="([^"]*)"', lambda found: f'URI="{urljoin(url, found.group(1))}"', playlist).splitlines()
    lines = [urljoin(url, line) if line and line[0] != "#" else line for line in lines if line != "#EXT-X-ENDLIST"]
    return "\n".join([*lines, *(["#EXT-X-DISCONTINUITY", *last_segment(lines)] * REPEATED_COUNT), "#EXT-X-ENDLIST", ""])


def last_segment(lines):
    at = max(number for number, line in enumerate(lines) if line.startswith("#EXTINF:"))
    return [line for line in lines[at:] if line]
