"""Common Encryption of CMAF, undone by the letter of ISO/IEC 23001-7, with the AES of the package `cryptography`."""

import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import isobmff
from isobmff import Malformed

BLOCK = 16
# Bytes of a sample entry before its boxes: ISO/IEC 14496-12, 12.1.3 and 12.2.3.
ENTRY_HEADS = {"encv": 78, "enca": 28}
# Counters run in the last 8 bytes of the block, ISO/IEC 23001-7, 9.2.
COUNTER_COUNT = 1 << 64


@dataclass
class Scheme:
    """What a protected CMAF header says of the encryption."""

    kind: str  # cenc, cbcs
    entry: str  # encv, enca
    original: str  # the entry's type before
    key_id: bytes
    crypt_blocks: int
    skip_blocks: int
    iv_size: int
    constant_iv: bytes
    clear_entry: bytes  # the sample entry as it was
    nal_length_size: int  # 0 where samples are no NAL units


@dataclass
class Range:
    start: int
    end: int


@dataclass
class Sealed:
    """A sample's encryption: where it is and under which counters."""

    iv: bytes
    ranges: list  # protected parts of the sample
    size: int

    @property
    def count(self):
        return sum(part.end - part.start for part in self.ranges)


def sample_entry(data):
    """The one sample entry of a header."""
    moov = next(box for box in isobmff.boxes(data) if box.kind == "moov")
    stsd = isobmff.child(data, moov, "trak", "mdia", "minf", "stbl", "stsd")
    entries = list(isobmff.boxes(data, stsd.payload + 8, stsd.end))
    if len(entries) != 1:
        raise Malformed(f"{len(entries)} sample entries")
    return entries[0]


def read_scheme(data):
    """The scheme of a header; None for a clear track."""
    entry = sample_entry(data)
    head = ENTRY_HEADS.get(entry.kind)
    if head is None:
        return None
    inner = list(isobmff.boxes(data, entry.payload + head, entry.end))
    sinfs = [box for box in inner if box.kind == "sinf"]
    if len(sinfs) != 1:
        raise Malformed(f"{len(sinfs)} sinf")
    sinf = sinfs[0]
    frma = isobmff.child(data, sinf, "frma")
    original = data[frma.payload : frma.end]
    schm = isobmff.child(data, sinf, "schm")
    kind = data[schm.payload + 4 : schm.payload + 8].decode("latin-1")
    tenc = isobmff.child(data, sinf, "schi", "tenc")
    version, _, at = isobmff.full_box(data, tenc)
    _, pattern, protected, iv_size = data[at : at + 4]
    if protected != 1:
        raise Malformed(f"default_isProtected is {protected}")
    if version == 0 and pattern:
        raise Malformed("a pattern in tenc of version 0")
    key_id, at = data[at + 4 : at + 20], at + 20
    constant = b""
    if iv_size == 0:
        constant = data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
        if len(constant) not in (8, 16):
            raise Malformed(f"a constant IV of {len(constant)} bytes")
    if at != tenc.end:
        raise Malformed(f"{tenc.end - at} bytes after tenc's fields")
    rest = b"".join(data[box.start : box.end] for box in inner if box is not sinf)
    body = data[entry.payload : entry.payload + head] + rest
    clear_entry = struct.pack(">I", 8 + len(body)) + original + body
    lengths = 0
    for box in inner:
        if box.kind == "avcC":
            lengths = (data[box.payload + 4] & 3) + 1
        elif box.kind == "hvcC":
            lengths = (data[box.payload + 21] & 3) + 1
    return Scheme(kind, entry.kind, original.decode("latin-1"), key_id, pattern >> 4, pattern & 15, iv_size, constant,
                  clear_entry, lengths)


def read_seals(data, segment, scheme):
    """A `Sealed` for each sample of a segment of one fragment; auxiliary information is found where `saio` says."""
    moof = next(box for box in isobmff.boxes(data) if box.kind == "moof")
    traf = isobmff.child(data, moof, "traf")
    inner = list(isobmff.boxes(data, traf.payload, traf.end))
    kinds = [box.kind for box in inner]
    if "sgpd" in kinds:
        raise Malformed("a sample group, of which there should be none")
    if scheme.iv_size == 0 and "senc" not in kinds and "saiz" not in kinds and "saio" not in kinds:
        return [Sealed(scheme.constant_iv, [Range(0, len(sample.data))], len(sample.data)) for sample in segment.samples]
    for kind in ("senc", "saiz", "saio"):
        if kinds.count(kind) != 1:
            raise Malformed(f"{kinds.count(kind)} {kind}")
    senc, saiz, saio = (next(box for box in inner if box.kind == kind) for kind in ("senc", "saiz", "saio"))
    sizes = read_sizes(data, saiz)
    if len(sizes) != len(segment.samples):
        raise Malformed(f"saiz has {len(sizes)} rows, trun {len(segment.samples)}")
    version, flags, at = isobmff.full_box(data, saio)
    at += 8 if flags & 1 else 0
    count, offset = struct.unpack_from(">IQ" if version else ">II", data, at)
    if count != 1:
        raise Malformed(f"saio of {count} entries")
    _, flags, at = isobmff.full_box(data, senc)
    rows = struct.unpack_from(">I", data, at)[0]
    at += 4
    if rows != len(sizes):
        raise Malformed(f"senc has {rows} rows, saiz {len(sizes)}")
    if moof.start + offset != at:
        raise Malformed(f"saio says {offset}, senc's first row is at {at - moof.start}")
    seals = []
    for sample, size in zip(segment.samples, sizes):
        end = at + size
        iv = data[at : at + scheme.iv_size] if scheme.iv_size else scheme.constant_iv
        at += scheme.iv_size
        ranges = [Range(0, len(sample.data))]
        if flags & 2:
            parts = struct.unpack_from(">H", data, at)[0]
            at += 2
            ranges, place = [], 0
            for _ in range(parts):
                clear, sealed = struct.unpack_from(">HI", data, at)
                at += 6
                ranges.append(Range(place + clear, place + clear + sealed))
                place += clear + sealed
            if place != len(sample.data):
                raise Malformed(f"subsamples of {place} bytes in a sample of {len(sample.data)}")
        if at != end:
            raise Malformed(f"a row of {size} bytes by saiz ends at {end}, by senc at {at}")
        seals.append(Sealed(iv, [part for part in ranges if part.end > part.start], len(sample.data)))
    if at != senc.end:
        raise Malformed(f"{senc.end - at} bytes after senc's rows")
    return seals


def read_sizes(data, saiz):
    _, flags, at = isobmff.full_box(data, saiz)
    at += 8 if flags & 1 else 0
    default, count = struct.unpack_from(">BI", data, at)
    at += 5
    if default:
        sizes, end = [default] * count, at
    else:
        sizes, end = list(data[at : at + count]), at + count
    if end != saiz.end:
        raise Malformed(f"saiz ends at {saiz.end}, its rows at {end}")
    return sizes


def decrypt(sample, seal, scheme, key):
    """The sample in the clear, and how many of its bytes were ciphertext."""
    if scheme.kind == "cenc":
        return decrypt_counter(sample, seal, key)
    if scheme.kind == "cbcs":
        return decrypt_pattern(sample, seal, scheme, key)
    if scheme.kind == "cens":
        return decrypt_counter_pattern(sample, seal, scheme, key)
    if scheme.kind == "cbc1":
        return decrypt_chain(sample, seal, key)
    raise Malformed(f"scheme {scheme.kind}")


def decrypt_counter(sample, seal, key):
    """AES-CTR; one key stream goes through all protected ranges of a sample."""
    initial = int.from_bytes(seal.iv.ljust(BLOCK, b"\0"), "big")
    low = initial % COUNTER_COUNT
    blocks = -(-seal.count // BLOCK)
    if low + blocks > COUNTER_COUNT:
        raise Malformed("the counter wraps, which this reader does not follow")
    unlock = Cipher(algorithms.AES(key), modes.CTR(initial.to_bytes(BLOCK, "big"))).decryptor()
    out = bytearray(sample)
    for part in seal.ranges:
        out[part.start : part.end] = unlock.update(bytes(out[part.start : part.end]))
    return bytes(out), seal.count


def decrypt_counter_pattern(sample, seal, scheme, key):
    """AES-CTR over whole blocks of a pattern; one key stream goes through all encrypted blocks of a sample."""
    counter = seal.iv.ljust(BLOCK, b"\0")
    unlock = Cipher(algorithms.AES(key), modes.CTR(counter)).decryptor()
    return over_blocks(sample, seal, scheme.crypt_blocks, scheme.skip_blocks, lambda: unlock)


def decrypt_chain(sample, seal, key):
    """AES-CBC, one chain through all protected ranges of a sample; what is no whole block at its end is clear."""
    unlock = Cipher(algorithms.AES(key), modes.CBC(seal.iv)).decryptor()
    return over_blocks(sample, seal, 0, 0, lambda: unlock)


def over_blocks(sample, seal, crypt, skip, unlock_of):
    """Whole blocks of each protected range, as the pattern has them, undone in order."""
    out, total = bytearray(sample), 0
    for part in seal.ranges:
        unlock = unlock_of()
        for number, start in enumerate(range(part.start, part.end - BLOCK + 1, BLOCK)):
            if crypt + skip and number % (crypt + skip) >= crypt:
                continue
            out[start : start + BLOCK] = unlock.update(bytes(out[start : start + BLOCK]))
            total += BLOCK
    return bytes(out), total


def decrypt_pattern(sample, seal, scheme, key):
    """AES-CBC over a pattern of blocks, anew for each protected range; what is no whole block is clear."""
    out, total = bytearray(sample), 0
    crypt, skip = scheme.crypt_blocks, scheme.skip_blocks
    for part in seal.ranges:
        whole = (part.end - part.start) // BLOCK
        if crypt == 0 and skip == 0 or skip == 0:
            places = [(part.start, part.start + whole * BLOCK)]
        else:
            places = []
            for block in range(0, whole, crypt + skip):
                # A last pattern that is too short for its encrypted part stays clear.
                if block + crypt <= whole:
                    start = part.start + block * BLOCK
                    places.append((start, start + crypt * BLOCK))
        sealed = b"".join(bytes(out[start:end]) for start, end in places)
        total += len(sealed)
        clear = Cipher(algorithms.AES(key), modes.CBC(seal.iv)).decryptor().update(sealed)
        at = 0
        for start, end in places:
            out[start:end] = clear[at : at + end - start]
            at += end - start
    return bytes(out), total


def clear_headers(clear_sample, seal, length_size):
    """What is wrong about NAL units whose length or header is encrypted; empty when nothing is."""
    at, wrong = 0, []
    while at + length_size <= len(clear_sample):
        size = int.from_bytes(clear_sample[at : at + length_size], "big")
        for part in seal.ranges:
            # Two bytes of header are what HEVC has; AVC's second byte is the first of its slice header.
            if part.start < at + length_size + 2 and part.end > at:
                wrong.append(f"NAL unit at {at} of {size} bytes: {part}")
        at += length_size + size
    return wrong


def picture_size(clear_sample, scheme):
    """Bytes of a sample that are picture or sound: of NAL units, the slices."""
    if not scheme.nal_length_size:
        return len(clear_sample)
    at, total = 0, 0
    while at + scheme.nal_length_size < len(clear_sample):
        size = int.from_bytes(clear_sample[at : at + scheme.nal_length_size], "big")
        at += scheme.nal_length_size
        first = clear_sample[at]
        is_slice = first & 31 in (1, 5) if scheme.original in ("avc1", "avc3") else first >> 1 & 63 < 32
        total += size if is_slice else 0
        at += size
    return total


class Counters:
    """Every counter block used under every key; the same twice is allowed for the same plaintext alone."""

    def __init__(self):
        self.uses = {}

    def use(self, key, seal, clear):
        blocks = -(-seal.count // BLOCK)
        if not blocks:
            return
        first = int.from_bytes(seal.iv.ljust(BLOCK, b"\0"), "big")
        plain = b"".join(clear[part.start : part.end] for part in seal.ranges)
        self.uses.setdefault(key, {}).setdefault((first, blocks, hash(plain)), True)

    def clashes(self):
        """Pairs of uses that share a counter block."""
        found = []
        for uses in self.uses.values():
            end, before = -1, None
            for first, blocks, plain in sorted(uses):
                if first < end:
                    found.append((before, (first, blocks, plain)))
                if first + blocks > end:
                    end, before = first + blocks, (first, blocks, plain)
        return found

    def count(self):
        return sum(len(uses) for uses in self.uses.values())
