#!/usr/bin/env python3
"""Clear and protected bytes of real samples, under `cenc` and `cbcs`: ours beside what shaka-packager writes into `senc`.

    tests/oracle/subsamples.py SHAKA_PACKAGER MEDIA_FOLDER [--verbose]

SHAKA_PACKAGER is its program (version 3.8.0 was tried). Ours come from packager's test `print_entries`. Differences of the
kinds that `explain` knows are counted; any other is shown and fails the run."""

import collections
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KEY = "00112233445566778899aabbccddeeff"
SUFFIXES = (".mp4", ".mov", ".webm", ".mkv")
BLOCK_SIZE = 16


def read_ours(files):
    """What `print_entries` prints, by file and scheme: of a file's first video track, which is what shaka-packager takes."""
    command = ["cargo", "test", "--quiet", "--package", "packager", "--test", "subsamples", "--"]
    run = subprocess.run(
        [*command, "--ignored", "--exact", "print_entries", "--nocapture"],
        cwd=ROOT, env=dict(os.environ, HEADWATER_FILES="\n".join(files)), stdout=subprocess.PIPE, text=True, check=True)
    found = {}
    for line in run.stdout.splitlines():
        _, marker, text = line.partition("ENTRIES ")
        if marker:
            entry = json.loads(text)
            found.setdefault((entry["file"], entry["scheme"]), entry)
    return found


def read_theirs(packager, file, scheme, folder):
    """Size and entries of each sample; a text instead when shaka-packager does not package the file."""
    output = pathlib.Path(folder, "out.mp4")
    output.unlink(missing_ok=True)
    run = subprocess.run(
        ["timeout", "-s", "KILL", "60", packager, f"in={file},stream=video,output={output}", "--temp_dir", folder,
         "--enable_raw_key_encryption", "--keys", f"label=:key_id={KEY}:key={KEY}", "--protection_scheme", scheme,
         "--clear_lead", "0", "--strip_parameter_set_nalus=false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0 or not output.exists():
        lines = [line for line in run.stderr.splitlines() if "Error" in line]
        return lines[-1].split("] ")[-1] if lines else f"ended with {run.returncode}"
    data = output.read_bytes()
    samples, default_size = [], 0
    for name, start, end in boxes(data, 0, len(data)):
        if name == b"moov":
            for start, end in children(data, start, end, b"mvex"):
                for start, _ in children(data, start, end, b"trex"):
                    default_size = struct.unpack_from(">I", data, start + 16)[0]
        if name == b"moof":
            for start, end in children(data, start, end, b"traf"):
                samples.extend(read_fragment(data, start, end, 8 if scheme == "cenc" else 0, default_size))
    return samples


def boxes(data, start, end):
    """Name, first byte of the payload and end of each box."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, start + 8)[0], 16
        yield name, start + header, start + size
        start += size


def children(data, start, end, wanted):
    return [(start, end) for name, start, end in boxes(data, start, end) if name == wanted]


def read_fragment(data, start, end, iv_size, default_size):
    sizes, rows = [], []
    for name, at, _ in boxes(data, start, end):
        flags = int.from_bytes(data[at + 1:at + 4], "big")
        if name == b"tfhd" and flags & 0x10:
            at += 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1) + 4 * (flags >> 3 & 1)
            default_size = struct.unpack_from(">I", data, at)[0]
        if name == b"trun":
            count = struct.unpack_from(">I", data, at + 4)[0]
            at += 8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1)
            for _ in range(count):
                at += 4 * (flags >> 8 & 1)
                sizes.append(struct.unpack_from(">I", data, at)[0] if flags & 0x200 else default_size)
                at += 4 * sum(flags >> bit & 1 for bit in (9, 10, 11))
        if name == b"senc":
            count = struct.unpack_from(">I", data, at + 4)[0]
            at += 8
            for _ in range(count):
                at += iv_size
                entries = []
                if flags & 2:
                    entry_count = struct.unpack_from(">H", data, at)[0]
                    entries = [list(struct.unpack_from(">HI", data, at + 2 + 6 * index)) for index in range(entry_count)]
                    at += 2 + 6 * entry_count
                rows.append(entries)
    return list(zip(sizes, rows + [[]] * (len(sizes) - len(rows))))


def protected_ranges(entries):
    found, at = [], 0
    for clear, protected in entries:
        at += clear
        if protected:
            found.append((at, at + protected))
        at += protected
    return found


def explain(codec, ours, theirs, after_headers):
    """Why protected ranges differ, or `None`. `after_headers` are our ranges under `cbcs`, which begin right after headers
    (but in VP9)."""
    reason = "the remainder of a block is clear behind, not before"
    if ours == theirs:
        return reason
    # Version 3.8.0: https://github.com/shaka-project/shaka-packager/issues/1584 and 1599.
    if codec == "VP9":
        moved = [our_start - start for (our_start, _), (start, _) in zip(ours, theirs)]
    else:
        whole = [(start, end) for start, end in after_headers if end - start >= BLOCK_SIZE]
        moved = [(end - start) % BLOCK_SIZE for start, end in whole]
    shifted = [(start - by, end - by) for (start, end), by in zip(ours, moved)]
    if len(ours) == len(theirs) == len(moved) and shifted == theirs and all(0 <= by < BLOCK_SIZE for by in moved):
        return reason
    # Slices of further layers: shaka-packager reads their headers as if they were the base's, we none of them.
    further = all(
        mine[0] < other[0] + BLOCK_SIZE and 0 <= mine[1] - other[1] < BLOCK_SIZE for mine, other in zip(ours, theirs))
    if codec == "HEVC" and len(ours) == len(theirs) > 1 and further:
        return "layers above the base are protected from behind their NAL unit header on"
    return None


class Comparison:
    def __init__(self, packager, media, verbose):
        self.packager, self.media, self.verbose = packager, media, verbose
        self.counts = collections.defaultdict(collections.Counter)
        self.failed = False

    def file(self, mine, after_headers, folder):
        """`after_headers`: what `print_entries` prints of the file under `cbcs`."""
        count = self.counts[mine["codec"], mine["scheme"]]
        subject = f"{mine['scheme']} {os.path.relpath(mine['file'], self.media)}"
        count["files"] += 1
        if mine["error"]:
            count["files refused by us"] += 1
            print(f"{subject}: refused: {mine['error']}")
        theirs = read_theirs(self.packager, mine["file"], mine["scheme"], folder)
        if isinstance(theirs, str):
            count["files refused by shaka-packager"] += 1
            print(f"{subject}: shaka-packager: {theirs}")
            return
        if len(theirs) != len(mine["samples"]) and not mine["error"]:
            self.failed = True
            print(f"{subject}: {len(mine['samples'])} samples, theirs {len(theirs)}")
        for number, ((size, entries), (their_size, their_entries)) in enumerate(zip(mine["samples"], theirs)):
            count["samples"] += 1
            same = size == their_size and entries == their_entries
            reason = "same entries" if same else None
            if size == their_size and not same and number < len(after_headers["samples"]):
                ranges = map(protected_ranges, (entries, their_entries, after_headers["samples"][number][1]))
                reason = explain(mine["codec"], *ranges)
            count[reason or "UNEXPLAINED"] += 1
            self.failed |= reason is None
            if reason is None or self.verbose and not same:
                print(f"{subject} sample {number} of {size} bytes (theirs {their_size}): {reason or 'UNEXPLAINED'}",
                      f"  ours   {entries}", f"  theirs {their_entries}", sep="\n")


def main():
    packager, media = sys.argv[1:3]
    comparison = Comparison(packager, media, "--verbose" in sys.argv)
    paths = sorted(pathlib.Path(media).resolve().rglob("*"))
    found = read_ours([str(path) for path in paths if path.name.endswith(SUFFIXES) and "corrupt" not in path.parts])
    with tempfile.TemporaryDirectory() as folder:
        for (file, _), mine in found.items():
            if mine["codec"] != "VP8":
                comparison.file(mine, found[file, "cbcs"], folder)
    for key, counts in sorted(comparison.counts.items()):
        print(*key, ", ".join(f"{what}: {count}" for what, count in counts.items()), sep=" · ")
    sys.exit(1 if comparison.failed else 0)


main()
