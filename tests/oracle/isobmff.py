"""Boxes of CMAF tracks, read by the letter of ISO/IEC 14496-12 and independently of the packager."""

import struct
from dataclasses import dataclass, field


class Malformed(Exception):
    """The bytes are not what the standard says they are."""


@dataclass
class Box:
    kind: str
    start: int
    payload: int
    end: int


def boxes(data, start=0, end=None):
    """Boxes from `start` to `end`, in order."""
    end = len(data) if end is None else end
    while start < end:
        if end - start < 8:
            raise Malformed(f"{end - start} bytes after the last box at {start}")
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            raise Malformed(f"box {kind} at {start} of {size} bytes, {end - start} are left")
        yield Box(kind.decode("latin-1"), start, start + head, start + size)
        start += size


def child(data, box, *path):
    """The first box at `path` inside `box`, or None."""
    for kind in path:
        box = next((inner for inner in boxes(data, box.payload, box.end) if inner.kind == kind), None)
        if box is None:
            return None
    return box


def full_box(data, box):
    """Version, flags and where the fields start."""
    word = struct.unpack_from(">I", data, box.payload)[0]
    return word >> 24, word & 0xFFFFFF, box.payload + 4


@dataclass
class Header:
    """What a CMAF header says of its track."""

    timescale: int
    media_time: int
    entry: str
    mehd_duration: int | None
    trex_duration: int
    trex_size: int
    trex_flags: int


def read_header(data):
    moov = next((box for box in boxes(data) if box.kind == "moov"), None)
    if moov is None:
        raise Malformed("no moov")
    traks = [box for box in boxes(data, moov.payload, moov.end) if box.kind == "trak"]
    if len(traks) != 1:
        raise Malformed(f"{len(traks)} tracks in a CMAF header")
    trak = traks[0]
    mdhd = child(data, trak, "mdia", "mdhd")
    version, _, at = full_box(data, mdhd)
    timescale = struct.unpack_from(">I", data, at + (16 if version else 8))[0]
    stsd = child(data, trak, "mdia", "minf", "stbl", "stsd")
    entry = data[stsd.payload + 12 : stsd.payload + 16].decode("latin-1")
    trex = child(data, moov, "mvex", "trex")
    _, duration, size, flags = struct.unpack_from(">4I", data, trex.payload + 8)
    mehd = child(data, moov, "mvex", "mehd")
    mehd_duration = None
    if mehd is not None:
        version, _, at = full_box(data, mehd)
        mehd_duration = struct.unpack_from(">Q" if version else ">I", data, at)[0]
    return Header(timescale, read_media_time(data, trak), entry, mehd_duration, duration, size, flags)


def read_media_time(data, trak):
    """media_time of the one edit a CMAF track may have; zero without."""
    elst = child(data, trak, "edts", "elst")
    if elst is None:
        return 0
    version, _, at = full_box(data, elst)
    count = struct.unpack_from(">I", data, at)[0]
    if count != 1:
        raise Malformed(f"{count} edits")
    _, media_time, rate = struct.unpack_from(">QqI" if version else ">IiI", data, at + 4)
    if media_time < 0 or rate != 0x10000:
        raise Malformed(f"edit of media time {media_time} and rate {rate:#x}")
    return media_time


@dataclass
class Sample:
    decode_time: int
    presentation_time: int  # composition time less the header's edit
    duration: int
    composition_offset: int
    sync: bool
    data: bytes


@dataclass
class Segment:
    """One addressable unit: its fragments' samples in decode order."""

    base_decode_time: int
    samples: list = field(default_factory=list)
    kinds: list = field(default_factory=list)
    brands: list = field(default_factory=list)
    sequence_number: int = 0

    @property
    def start(self):
        """Earliest presentation time, never below zero."""
        return max(0, min(sample.presentation_time for sample in self.samples))

    @property
    def end(self):
        return max(sample.presentation_time + sample.duration for sample in self.samples)

    @property
    def decode_end(self):
        last = self.samples[-1]
        return last.decode_time + last.duration


def read_segment(data, header):
    """A segment of `header`'s track: one fragment, as CMAF segments here are made."""
    segment = None
    moof = None
    kinds, brands = [], []
    for box in boxes(data):
        kinds.append(box.kind)
        if box.kind == "styp":
            raw = data[box.payload : box.end]
            brands = [raw[at : at + 4].decode("latin-1") for at in (0, *range(8, len(raw), 4))]
        elif box.kind == "moof":
            if moof is not None:
                raise Malformed("two fragments in one segment")
            moof = box
            segment = read_fragment(data, moof, header)
        elif box.kind == "mdat":
            if moof is None:
                raise Malformed("mdat before moof")
            want = sum(len(sample.data) for sample in segment.samples)
            if box.end - box.payload != want:
                raise Malformed(f"mdat of {box.end - box.payload} bytes for samples of {want}")
    if segment is None or not segment.samples:
        raise Malformed("a segment without samples")
    segment.kinds, segment.brands = kinds, brands
    return segment


def read_fragment(data, moof, header):
    mfhd = child(data, moof, "mfhd")
    trafs = [box for box in boxes(data, moof.payload, moof.end) if box.kind == "traf"]
    if len(trafs) != 1:
        raise Malformed(f"{len(trafs)} traf")
    traf = trafs[0]
    tfhd = child(data, traf, "tfhd")
    _, flags, at = full_box(data, tfhd)
    if flags & 0x1:
        raise Malformed("tfhd addresses data from the file")
    if not flags & 0x20000:
        raise Malformed("tfhd without default-base-is-moof")
    at += 4
    defaults = {0x8: header.trex_duration, 0x10: header.trex_size, 0x20: header.trex_flags}
    if flags & 0x2:
        at += 4
    for bit in defaults:
        if flags & bit:
            defaults[bit] = struct.unpack_from(">I", data, at)[0]
            at += 4
    tfdt = child(data, traf, "tfdt")
    version, _, at = full_box(data, tfdt)
    base = struct.unpack_from(">Q" if version else ">I", data, at)[0]
    segment = Segment(base, sequence_number=struct.unpack_from(">I", data, mfhd.payload + 4)[0])
    decode_time = base
    truns = [box for box in boxes(data, traf.payload, traf.end) if box.kind == "trun"]
    if len(truns) != 1:
        raise Malformed(f"{len(truns)} trun")
    for duration, size, sample_flags, offset, position in read_run(data, truns[0], moof, defaults):
        if position + size > len(data):
            raise Malformed(f"sample at {position} of {size} bytes leaves the segment")
        segment.samples.append(
            Sample(
                decode_time,
                decode_time + offset - header.media_time,
                duration,
                offset,
                not sample_flags & 0x10000,
                data[position : position + size],
            )
        )
        decode_time += duration
    return segment


def read_run(data, trun, moof, defaults):
    """(duration, size, flags, composition offset, position) of each sample."""
    version, flags, at = full_box(data, trun)
    count = struct.unpack_from(">I", data, at)[0]
    at += 4
    position = moof.start
    if flags & 0x1:
        position += struct.unpack_from(">i", data, at)[0]
        at += 4
    first_flags = None
    if flags & 0x4:
        first_flags = struct.unpack_from(">I", data, at)[0]
        at += 4
    for number in range(count):
        duration, size, sample_flags, offset = defaults[0x8], defaults[0x10], defaults[0x20], 0
        if number == 0 and first_flags is not None:
            sample_flags = first_flags
        if flags & 0x100:
            duration = struct.unpack_from(">I", data, at)[0]
            at += 4
        if flags & 0x200:
            size = struct.unpack_from(">I", data, at)[0]
            at += 4
        if flags & 0x400:
            sample_flags = struct.unpack_from(">I", data, at)[0]
            at += 4
        if flags & 0x800:
            offset = struct.unpack_from(">i" if version else ">I", data, at)[0]
            at += 4
        yield duration, size, sample_flags, offset, position
        position += size
    if at != trun.end:
        raise Malformed(f"trun ends at {trun.end}, its samples at {at}")


@dataclass
class IndexReference:
    size: int
    duration: int
    starts_with_sap: bool
    sap_type: int


@dataclass
class SegmentIndex:
    start: int  # of the box in the file
    end: int
    timescale: int
    earliest_presentation_time: int
    first_offset: int
    references: list


def read_segment_index(data):
    """The one `sidx` on the top level."""
    found = [box for box in boxes(data) if box.kind == "sidx"]
    if len(found) != 1:
        raise Malformed(f"{len(found)} sidx")
    box = found[0]
    version, _, at = full_box(data, box)
    _, timescale = struct.unpack_from(">II", data, at)
    earliest, first_offset = struct.unpack_from(">QQ" if version else ">II", data, at + 8)
    at += 8 + (16 if version else 8) + 2
    count = struct.unpack_from(">H", data, at)[0]
    at += 2
    references = []
    for _ in range(count):
        size, duration, sap = struct.unpack_from(">III", data, at)
        if size >> 31:
            raise Malformed("a sidx that points at another")
        references.append(IndexReference(size, duration, bool(sap >> 31), sap >> 28 & 7))
        at += 12
    if at != box.end:
        raise Malformed(f"sidx ends at {box.end}, its references at {at}")
    return SegmentIndex(box.start, box.end, timescale, earliest, first_offset, references)


def encrypted_entries(path):
    """Types of the protected sample entries of an MP4 file; none when it is no such file, or damaged."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        moov = next((box for box in boxes(data) if box.kind == "moov"), None)
        traks = [box for box in boxes(data, moov.payload, moov.end) if box.kind == "trak"] if moov else []
        tables = [child(data, trak, "mdia", "minf", "stbl", "stsd") for trak in traks]
        entries = [box.kind for stsd in tables if stsd for box in boxes(data, stsd.payload + 8, stsd.end)]
    except (Malformed, struct.error):
        return []
    return [kind for kind in entries if kind in ("encv", "enca", "enct")]
