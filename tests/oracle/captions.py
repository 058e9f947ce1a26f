"""CEA-608 captions put into an AVC byte stream: a message (SEI, ATSC A/53) before the first slice of every picture."""

POP_ON, ERASE_STORED, ERASE_SHOWN, FLIP, ROLL_UP_2, RETURN, PAINT_ON = 0x20, 0x2E, 0x2C, 0x2F, 0x25, 0x2D, 0x29


def parity(byte):
    return byte | (0x80 if bin(byte).count("1") % 2 == 0 else 0)


def control(code):
    return [(0x14, code)] * 2


def row(second):
    """Preamble of row 15, white, at the left."""
    return [(0x14, second)] * 2


def words(text):
    """Pairs of characters; what is not plain is a special or extended character."""
    special = {"¿": (0x11, 0x33), "®": (0x11, 0x30), "♪": (0x11, 0x37)}
    # Stands after a plain letter that it replaces.
    extended = {"É": ("E", (0x12, 0x21)), "Ü": ("U", (0x13, 0x26))}
    plain, pairs = [], []

    def flush():
        while plain:
            pairs.append((plain.pop(0), plain.pop(0) if plain else 0))

    for letter in text:
        if letter in special:
            flush()
            pairs.extend([special[letter]] * 2)
        elif letter in extended:
            plain.append(ord(extended[letter][0]))
            flush()
            pairs.extend([extended[letter][1]] * 2)
        else:
            plain.append({"é": 0x5C, "á": 0x2A, "ñ": 0x7E}.get(letter, ord(letter)))
    flush()
    return pairs


def script(rate):
    """Pairs by picture in the order of showing: a pop-on caption from 1 to 2 s, a painted and a rolled one after it."""
    at = {}

    def say(second, pairs):
        for number, pair in enumerate(pairs):
            at[round(second * rate) + number] = pair

    loaded = control(POP_ON) + control(ERASE_STORED) + row(0x60) + words("HELLO THERE")
    say(0.1, loaded)
    say(1.0, control(FLIP))
    say(2.0, control(ERASE_SHOWN) + control(PAINT_ON) + row(0x60) + words("¿QUÉ?"))
    say(2.8, control(ERASE_SHOWN) + control(ROLL_UP_2) + control(RETURN) + row(0x60) + words("ROLLED UP"))
    say(3.8, control(ERASE_SHOWN))
    return at


def message(pair):
    """A NAL unit that carries one pair of field 1."""
    first, second = pair
    triplet = bytes([0xFC, parity(first), parity(second)])
    data = b"\xb5\x00\x31GA94\x03" + bytes([0x40 | 1, 0xFF]) + triplet + b"\xff"
    payload = bytes([4, len(data)]) + data + b"\x80"
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\x00\x00\x00\x01\x06" + bytes(escaped)


def units(stream):
    """NAL units of a byte stream, each with its start code."""
    starts, at = [], stream.find(b"\x00\x00\x01")
    while at >= 0:
        starts.append(at - 1 if at > 0 and stream[at - 1] == 0 else at)
        at = stream.find(b"\x00\x00\x01", at + 3)
    return [stream[a:b] for a, b in zip(starts, [*starts[1:], len(stream)])]


def kind(unit):
    return unit[unit.index(b"\x01") + 1] & 31


def first_of_picture(unit):
    """Whether a slice begins with macroblock zero."""
    return kind(unit) in (1, 5) and bool(unit[unit.index(b"\x01") + 2] & 0x80)


def with_captions(stream, rate, shown=None):
    """`stream` with captions; `shown` gives for each picture in decode order its place in the order of showing."""
    pairs, made, picture = script(rate), bytearray(), 0
    for unit in units(stream):
        if first_of_picture(unit):
            place = shown[picture] if shown else picture
            made += message(pairs.get(place, (0, 0)))
            picture += 1
        made += unit
    return bytes(made)
