"""SAMPLE-AES of MPEG-TS and packed audio, undone by the letter of "MPEG-2 Stream Encryption Format for HTTP Live
Streaming", with the AES of the package `cryptography`."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mpegts import PACKET_SIZE, Malformed

BLOCK = 16
# Stream types with encrypted samples, and what they are in the clear.
CLEAR_TYPES = {0xDB: 0x1B, 0xCF: 0x0F, 0xC1: 0x81, 0xC2: 0x87}
AVC, AAC, AC3, EAC3 = 0x1B, 0x0F, 0x81, 0x87
# AVC: slices of more than this are encrypted, behind so many clear bytes, one block in ten.
NAL_SIZE_MIN, NAL_CLEAR, NAL_PERIOD = 48, 32, 10 * BLOCK
AUDIO_CLEAR = 16
# ETSI TS 102 366, table F.1: words of 16 bits of a frame for each rate, and of each frame size at 48, 44.1, 32 kHz.
AC3_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
AC3_CLOCKS = (48_000, 44_100, 32_000)


def streams(data):
    """stream_type to elementary stream of each PID of a segment, in the order of PIDs; packed audio has one stream."""
    if data[:3] == b"ID3" or data[0] != 0x47:
        return packed(data)
    map_pid, kinds, found = None, {}, {}
    for start in range(0, len(data), PACKET_SIZE):
        packet = data[start : start + PACKET_SIZE]
        if len(packet) != PACKET_SIZE or packet[0] != 0x47:
            raise Malformed(f"no packet at {start}")
        pid, starts, control = (packet[1] & 0x1F) << 8 | packet[2], packet[1] & 0x40, packet[3] >> 4 & 3
        at = 4 + (1 + packet[4] if control & 2 else 0)
        body = packet[at:] if control & 1 else b""
        if pid == 0 and starts:
            section = body[1 + body[0] :]
            map_pid = int.from_bytes(section[10:12], "big") & 0x1FFF
        elif pid == map_pid and starts:
            kinds |= program_map(body[1 + body[0] :])
        elif pid in kinds and starts:
            if body[:3] != b"\0\0\1":
                raise Malformed(f"no PES packet at {start}")
            found[pid] = found.get(pid, b"") + body[9 + body[8] :]
        elif pid in kinds:
            # A packet that only keeps the clock may come first.
            found[pid] = found.get(pid, b"") + body
    return [(kinds[pid], found[pid]) for pid in sorted(found)]


def program_map(section):
    """PID to stream_type."""
    end = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    kinds = {}
    while at < end:
        kinds[int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF] = section[at]
        at += 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF)
    return kinds


def packed(data):
    """Packed audio: ID3 tags in front, then frames."""
    while data[:3] == b"ID3":
        size = 0
        for byte in data[6:10]:
            size = size << 7 | byte
        data = data[10 + size :]
    if data[:2] == b"\x0b\x77":
        return [(EAC3 if data[5] >> 3 > 10 else AC3, data)]
    if data[:1] == b"\xff" and data[1] & 0xF6 == 0xF0:
        return [(AAC, data)]
    return []


def decrypt(kind, data, key, iv):
    """The units of an elementary stream in the clear: NAL units, or frames of sound."""
    unlock = lambda: Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    kind = CLEAR_TYPES.get(kind, kind)
    if kind == AVC:
        return [slice_of(unit, unlock()) for unit in nal_units(data)]
    if kind == AAC:
        return [frame(unit, 7 if unit[1] & 1 else 9, unlock()) for unit in adts(data)]
    return [frame(unit, 0, unlock()) for unit in syncframes(data)]


def units(kind, data):
    """The units of an elementary stream as they are."""
    kind = CLEAR_TYPES.get(kind, kind)
    return nal_units(data) if kind == AVC else adts(data) if kind == AAC else syncframes(data)


def nal_units(data):
    """NAL units between start codes, without the zeros before the next."""
    found, start = [], data.find(b"\0\0\1")
    while start >= 0:
        end = data.find(b"\0\0\1", start + 3)
        found.append((data[start + 3 : end] if end >= 0 else data[start + 3 :]).rstrip(b"\0"))
        start = end
    return found


def is_sliced(nals):
    """Whether anything but the next picture's delimiter follows a slice."""
    return any(one[0] & 31 in (1, 5) and other[0] & 31 != 9 for one, other in zip(nals, nals[1:]))


def slice_of(unit, unlock):
    if unit[0] & 31 not in (1, 5) or len(unit) <= NAL_SIZE_MIN:
        return unit
    # The bytes that kept start codes out were put in once more after encryption.
    plain = bytearray(unescaped(unit))
    at = NAL_CLEAR
    while len(plain) - at > BLOCK:
        plain[at : at + BLOCK] = unlock.update(bytes(plain[at : at + BLOCK]))
        at += NAL_PERIOD
    return bytes(plain)


def unescaped(unit):
    out, at = bytearray(), 0
    while True:
        found = unit.find(b"\0\0\3", at)
        if found < 0:
            return bytes(out) + unit[at:]
        out += unit[at : found + 2]
        at = found + 3


def adts(data):
    found, at = [], 0
    while at < len(data):
        if len(data) - at < 7 or data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
            raise Malformed(f"no ADTS frame at {at}")
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        found.append(data[at : at + size])
        at += max(size, 7)
    return found


def syncframes(data):
    found, at = [], 0
    while at < len(data):
        if data[at : at + 2] != b"\x0b\x77":
            raise Malformed(f"no syncframe at {at}")
        if data[at + 5] >> 3 > 10:
            size = 2 * ((data[at + 2] & 7) << 8 | data[at + 3]) + 2
        else:
            code, clock = data[at + 4] & 63, AC3_CLOCKS[data[at + 4] >> 6]
            words = AC3_RATES[code >> 1] * 1000 * 1536 // (clock * 16)
            size = 2 * (words + (code & 1 if clock == 44_100 else 0))
        found.append(data[at : at + size])
        at += size
    return found


def frame(unit, head, unlock):
    start = head + AUDIO_CLEAR
    whole = max(0, len(unit) - start) // BLOCK * BLOCK
    return unit[:start] + unlock.update(unit[start : start + whole]) + unit[start + whole :] if whole else unit
