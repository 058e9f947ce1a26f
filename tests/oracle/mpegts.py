"""MPEG-TS segments and packed audio, read by the letter of ISO/IEC 13818-1 and RFC 8216bis."""

from dataclasses import dataclass, field

PACKET_SIZE = 188
NO_TIME = None


class Malformed(Exception):
    """The bytes are not what the standard says they are."""


@dataclass
class Pes:
    pid: int
    presentation_time: int | None
    decode_time: int | None


@dataclass
class Continuity:
    """What goes on from one segment to the next."""

    counters: dict = field(default_factory=dict)


@dataclass
class Segment:
    stream_types: dict  # PID to stream_type
    clock_pid: int
    units: list  # PES packets in file order
    clocks: list  # (packet number, PCR in 27 MHz) of the clock's PID
    decode_clock_slack: int  # smallest decode time less the clock before it, 90 kHz

    def of(self, stream_type_test):
        pids = [pid for pid, kind in self.stream_types.items() if stream_type_test(kind)]
        return [unit for unit in self.units if unit.pid in pids]


VIDEO_TYPES = {0x1B, 0x24}


def is_video(stream_type):
    return stream_type in VIDEO_TYPES


def is_audio(stream_type):
    return stream_type not in VIDEO_TYPES


def time_stamp(raw):
    return (raw[0] >> 1 & 7) << 30 | raw[1] << 22 | raw[2] >> 1 << 15 | raw[3] << 7 | raw[4] >> 1


def read_segment(data, continuity):
    """One segment; counters must go on from the segment before."""
    if len(data) % PACKET_SIZE:
        raise Malformed(f"{len(data)} bytes are no whole packets")
    map_pid = None
    stream_types, clock_pid = {}, None
    units, clocks = [], []
    slack = None
    clock = None
    for number in range(len(data) // PACKET_SIZE):
        packet = data[number * PACKET_SIZE : (number + 1) * PACKET_SIZE]
        if packet[0] != 0x47:
            raise Malformed(f"packet {number} has no sync byte")
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        starts = bool(packet[1] & 0x40)
        control = packet[3] >> 4 & 3
        at = 4
        if control & 2:
            length = packet[4]
            if length and packet[5] & 0x10:
                base = int.from_bytes(packet[6:11], "big") >> 7
                clock = base * 300 + ((packet[10] & 1) << 8 | packet[11])
                clocks.append((pid, number, clock))
            at += 1 + length
        if control & 1:
            counter = packet[3] & 15
            before = continuity.counters.get(pid)
            if before is not None and counter != (before + 1) % 16:
                raise Malformed(f"packet {number}: PID {pid:#x} counts {before} then {counter}")
            continuity.counters[pid] = counter
        if not starts:
            continue
        payload = packet[at:]
        if pid == 0:
            section = payload[1 + payload[0] :]
            map_pid = (section[10] & 0x1F) << 8 | section[11]
        elif pid == map_pid:
            section = payload[1 + payload[0] :]
            stream_types, clock_pid = read_map(section)
        elif pid in stream_types:
            unit = read_pes(pid, payload)
            units.append(unit)
            decode = unit.decode_time if unit.decode_time is not None else unit.presentation_time
            if decode is not None and clock is not None:
                left = decode - clock // 300
                slack = left if slack is None else min(slack, left)
    if map_pid is None or not stream_types:
        raise Malformed("no program")
    own = [(number, time) for pid, number, time in clocks if pid == clock_pid]
    if not own:
        raise Malformed("no clock")
    return Segment(stream_types, clock_pid, units, own, slack)


def read_map(section):
    length = (section[1] & 15) << 8 | section[2]
    clock_pid = (section[8] & 0x1F) << 8 | section[9]
    at = 12 + ((section[10] & 15) << 8 | section[11])
    types = {}
    while at < 3 + length - 4:
        types[(section[at + 1] & 0x1F) << 8 | section[at + 2]] = section[at]
        at += 5 + ((section[at + 3] & 15) << 8 | section[at + 4])
    return types, clock_pid


def read_pes(pid, payload):
    if payload[:3] != b"\0\0\1":
        raise Malformed(f"PID {pid:#x}: no PES start code")
    flags = payload[7] >> 6
    if flags == 0:
        return Pes(pid, None, None)
    presentation = time_stamp(payload[9:14])
    decode = time_stamp(payload[14:19]) if flags == 3 else presentation
    return Pes(pid, presentation, decode)


def read_packed_audio(data):
    """(time stamp in 90 kHz, bare frames) of a packed audio segment."""
    if data[:3] != b"ID3":
        raise Malformed("no ID3 tag at the start")
    size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
    owner = b"com.apple.streaming.transportStreamTimestamp\0"
    at = data.find(owner, 0, 10 + size)
    if at < 0:
        raise Malformed("no time stamp in the ID3 tag")
    at += len(owner)
    return int.from_bytes(data[at : at + 8], "big"), data[10 + size :]
