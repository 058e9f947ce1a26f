"""What shaka-packager makes of the clear form with the same key and IVs: the same bytes, where both count IVs alike."""

import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import commonencryption
import isobmff
from isobmff import Malformed

TIMEOUT_S = 300
# Tracks of each coding and scheme that are looked at unless all are.
TRACKS_OF_CODING_MAX = 2
# Schemes whose IVs are counted from one sample to the next, or stay the same.
SCHEMES = ("cenc", "cens", "cbcs")


class Twins:
    def __init__(self, report, scratch, packager_path, count, whole):
        self.report, self.scratch, self.packager, self.count, self.whole = report, scratch, packager_path, count, whole
        self.taken, self.lock = {}, threading.Lock()

    def wanted(self, *what):
        with self.lock:
            self.taken[what] = self.taken.get(what, 0) + 1
            return self.whole or self.taken[what] <= TRACKS_OF_CODING_MAX

    def check(self, subject, header, scheme, key, clear, segments):
        """`clear` is a file of the clear form, `segments` are the protected ones from its first on."""
        if not self.packager or scheme.kind not in SCHEMES or not self.wanted(scheme.kind, scheme.original):
            return
        if scheme.original == "ac-4":
            # It leaves the table of contents of a frame clear; whole frames are what players have long known.
            self.count("tracks of AC-4, which shaka-packager encrypts in part")
            return
        ours = list(sealed_samples(segments, header, scheme))
        first = ours[0][1].iv
        if scheme.iv_size and any(int.from_bytes(seal.iv, "big") != int.from_bytes(first, "big") + at
                                  for at, (_, seal) in enumerate(ours)):
            self.report.fail(subject, "counts its IVs by one from sample to sample", str([seal.iv.hex() for _, seal in ours][:4]))
            return
        own = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            (own / "clear.mp4").write_bytes(clear)
            if not self.encrypt(own, scheme, key, first):
                self.count(f"tracks that shaka-packager does not encrypt ({scheme.original})")
                return
            init, fragments = parted((own / "twin.mp4").read_bytes())
            twin = commonencryption.read_scheme(init)
            theirs = list(sealed_samples(fragments, isobmff.read_header(init), twin))
        except Malformed as error:
            if "a row of 0 bytes by saiz" not in str(error):
                raise
            # 3.8 writes 41 subsamples, whose row of 256 bytes `saiz` can not tell of.
            self.count("tracks of which shaka-packager's own file can not be read")
            return
        finally:
            shutil.rmtree(own, ignore_errors=True)
        self.report.check(subject, "has as many samples as shaka-packager's", len(ours) == len(theirs),
                          lambda: f"{len(ours)}, shaka-packager {len(theirs)}")
        odd = scheme.kind != "cbcs" or scheme.original == "vp09"
        behind = [at for at, (one, other) in enumerate(zip(ours, theirs)) if odd and is_shifted(one[1], other[1])]
        left_out = set(behind)
        apart = [at for at, (one, other) in enumerate(zip(ours, theirs)) if at not in left_out and one[0] != other[0]]
        self.report.check(subject, "is what shaka-packager makes with the same key and IVs", not apart,
                          lambda: f"{len(apart)} of {len(ours)} samples differ: {told(apart[0], ours, theirs)}")
        self.count(f"{scheme.kind}: samples whose odd bytes shaka-packager leaves clear at the end", len(behind))
        self.count(f"{scheme.kind}: samples equal to shaka-packager's ciphertext", len(ours) - len(apart) - len(behind))
        self.count(f"{scheme.kind}: tracks held against shaka-packager's ciphertext")

    def encrypt(self, own, scheme, key, iv):
        kind = "video" if scheme.entry == "encv" else "audio"
        command = [self.packager, f"in={own / 'clear.mp4'},stream={kind},output={own / 'twin.mp4'},drm_label=one",
                   "--enable_raw_key_encryption", "--protection_scheme", scheme.kind, "--clear_lead", "0", "--iv", iv.hex(),
                   "--keys", f"label=one:key_id={scheme.key_id.hex()}:key={key.hex()}"]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        return done.returncode == 0 and (own / "twin.mp4").exists()


def is_shifted(ours, theirs):
    """Whether the same blocks are encrypted, but begin earlier by what is no whole block: shaka-packager 3.8 leaves it clear
    at the end of a slice (its issue 1584) or frame of VP9, where the part behind the next slice's start code then is one with it."""
    sizes = [part.end - part.start for part in ours.ranges]
    shifts = [one.start - other.start for one, other in zip(ours.ranges, theirs.ranges)]
    return (sizes == [part.end - part.start for part in theirs.ranges] and any(shifts)
            and all(0 <= shift < commonencryption.BLOCK for shift in shifts))


def sealed_samples(fragments, header, scheme):
    """(bytes, seal) of each sample."""
    for data in fragments:
        segment = isobmff.read_segment(data, header)
        if b"saiz" not in data and scheme.iv_size == 0:
            # shaka-packager writes a `senc` of no rows for whole samples under a constant IV.
            for sample in segment.samples:
                yield sample.data, commonencryption.Sealed(scheme.constant_iv, [], len(sample.data))
            continue
        for sample, seal in zip(segment.samples, commonencryption.read_seals(data, segment, scheme)):
            yield sample.data, seal


def parted(data):
    """A file's header, and its fragments."""
    found = list(isobmff.boxes(data))
    moofs = [at for at, box in enumerate(found) if box.kind == "moof"]
    return data[: found[moofs[0]].start], [data[found[at].start : found[at + 1].end] for at in moofs]


def told(at, ours, theirs):
    (one, seal), (other, twin) = ours[at], theirs[at]
    return (f"sample {at} of {len(one)} bytes, theirs {len(other)}; IV {seal.iv.hex()}, theirs {twin.iv.hex()}; "
            f"protected {seal.ranges[:3]}, theirs {twin.ranges[:3]}")
