//! Closed captions: CEA-608 byte pairs as they came with pictures, and the cues they draw. Pure.
//!
//! All four channels are read, in pop-on, paint-on and roll-up; of the styles, italics and underline are kept. Colours, and
//! places but for rows far from the bottom, are left out. Text channels and programme data (XDS) are not captions.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::text::{Cue, TextTrack};

/// Rows and columns of the screen (ANSI/CTA-608-E).
const ROW_COUNT: usize = 15;
const COLUMN_COUNT: usize = 32;
/// Bytes of a row of the file that workers write.
pub(crate) const RECORD_SIZE_BYTES: usize = 12;
/// Name of that file.
pub(crate) const FILE_NAME: &str = "captions";
/// What is written after a pause of this length begins a cue of its own.
const PAUSE_MS: u64 = 500;
/// Cues of one channel.
const CUE_COUNT_MAX: usize = 100_000;

/// A byte pair and the picture it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// When the picture is shown, in nanoseconds.
    pub(crate) time_ns: i64,
    /// 0 for the first field, 1 for the second.
    pub(crate) field: u8,
    /// The two bytes, with parity.
    pub(crate) bytes: [u8; 2],
}

impl Pair {
    pub(crate) fn to_record(self) -> [u8; RECORD_SIZE_BYTES] {
        let [a, b, c, d, e, f, g, h] = self.time_ns.to_le_bytes();
        let [first, second] = self.bytes;
        [a, b, c, d, e, f, g, h, self.field, first, second, 0]
    }

    fn of_record(record: &[u8; RECORD_SIZE_BYTES]) -> Pair {
        let [a, b, c, d, e, f, g, h, field, first, second, _] = *record;
        Pair {
            time_ns: i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            field,
            bytes: [first, second],
        }
    }
}

/// The pairs of a file that a worker wrote; what is cut off at its end is left out.
pub(crate) fn read(bytes: &[u8]) -> Vec<Pair> {
    bytes
        .as_chunks::<RECORD_SIZE_BYTES>()
        .0
        .iter()
        .map(Pair::of_record)
        .collect()
}

/// The pairs of CEA-608 among caption data of a picture, `cc_data` triplets of CTA-708; what is empty is left out.
pub(crate) fn of_triplets(time_ns: i64, data: &[u8]) -> impl Iterator<Item = Pair> + '_ {
    data.as_chunks::<3>().0.iter().filter_map(move |[head, first, second]| {
        let is_608 = head & 0x04 != 0 && head & 0x02 == 0;
        let is_empty = (first & 0x7f) == 0 && (second & 0x7f) == 0;
        (is_608 && !is_empty).then_some(Pair {
            time_ns,
            field: head & 1,
            bytes: [*first, *second],
        })
    })
}

/// One screen position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    character: char,
    italic: bool,
    underlined: bool,
}

type Row = [Option<Cell>; COLUMN_COUNT];

/// What a channel shows, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Memory {
    rows: [Row; ROW_COUNT],
}

impl Memory {
    fn new() -> Memory {
        Memory {
            rows: [[None; COLUMN_COUNT]; ROW_COUNT],
        }
    }

    fn is_empty(&self) -> bool {
        let letters = self.rows.iter().flatten().flatten();
        letters.clone().all(|cell| cell.character.is_whitespace())
    }

    /// WebVTT settings and payload.
    fn text(&self) -> (String, String) {
        let mut lines = Vec::new();
        let mut last_row = 0;
        for (number, row) in self.rows.iter().enumerate() {
            let line = line(row);
            if !line.is_empty() {
                last_row = number;
                lines.push(line);
            }
        }
        // Captions stand at the bottom unless something there is to be seen.
        let settings = match last_row + 1 < ROW_COUNT - 2 && !lines.is_empty() {
            true => {
                let first_row = last_row + 1 - lines.len().min(last_row + 1);
                format!("line:{}%", 10 + first_row * 80 / ROW_COUNT)
            }
            false => String::new(),
        };
        (settings, lines.join("\n"))
    }
}

/// A row as cue text, without the space around it.
fn line(row: &Row) -> String {
    let is_letter = |cell: &Option<Cell>| cell.is_some_and(|cell| !cell.character.is_whitespace());
    let (Some(first), Some(last)) = (row.iter().position(is_letter), row.iter().rposition(is_letter)) else {
        return String::new();
    };
    let blank = Cell {
        character: ' ',
        italic: false,
        underlined: false,
    };
    let (mut out, mut italic, mut underlined) = (String::new(), false, false);
    for cell in row.get(first..=last).unwrap_or_default() {
        let mut cell = cell.unwrap_or(blank);
        if cell.character == ' ' {
            // A gap within what is italic does not end it.
            (cell.italic, cell.underlined) = (italic, underlined);
        }
        if (cell.italic, cell.underlined) != (italic, underlined) {
            out.push_str(if underlined { "</u>" } else { "" });
            out.push_str(if italic { "</i>" } else { "" });
            out.push_str(if cell.italic { "<i>" } else { "" });
            out.push_str(if cell.underlined { "<u>" } else { "" });
            (italic, underlined) = (cell.italic, cell.underlined);
        }
        match cell.character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            character => out.push(character),
        }
    }
    out.push_str(if underlined { "</u>" } else { "" });
    out.push_str(if italic { "</i>" } else { "" });
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing was said yet, or a text channel.
    None,
    PopOn,
    PaintOn,
    /// With so many rows.
    RollUp(usize),
}

/// One of the four channels.
struct Channel {
    mode: Mode,
    shown: Memory,
    stored: Memory,
    row: usize,
    column: usize,
    italic: bool,
    underlined: bool,
    /// What is shown has been there since.
    since_ms: u64,
    /// Something was last written on the screen.
    written_ms: u64,
    cues: Vec<Cue>,
}

impl Channel {
    fn new() -> Channel {
        Channel {
            mode: Mode::None,
            shown: Memory::new(),
            stored: Memory::new(),
            row: ROW_COUNT - 1,
            column: 0,
            italic: false,
            underlined: false,
            since_ms: 0,
            written_ms: 0,
            cues: Vec::new(),
        }
    }

    /// What was shown until now becomes a cue.
    fn close(&mut self, now_ms: u64) {
        if !self.shown.is_empty() && now_ms > self.since_ms && self.cues.len() < CUE_COUNT_MAX {
            let (settings, payload) = self.shown.text();
            self.cues.push(Cue {
                start_ms: self.since_ms,
                end_ms: now_ms,
                id: String::new(),
                settings,
                payload,
            });
        }
        self.since_ms = now_ms;
    }

    fn memory(&mut self) -> &mut Memory {
        match self.mode {
            Mode::PopOn => &mut self.stored,
            _ => &mut self.shown,
        }
    }

    /// Something is about to be written where it is seen at once.
    fn about_to_write(&mut self, now_ms: u64) {
        if matches!(self.mode, Mode::PopOn | Mode::None) {
            return;
        }
        if self.shown.is_empty() {
            self.since_ms = now_ms;
        } else if now_ms >= self.written_ms.saturating_add(PAUSE_MS) {
            self.close(now_ms);
        }
        self.written_ms = now_ms;
    }

    fn write(&mut self, character: char, now_ms: u64) {
        if self.mode == Mode::None {
            return;
        }
        self.about_to_write(now_ms);
        let cell = Cell {
            character,
            italic: self.italic,
            underlined: self.underlined,
        };
        let (row, column) = (self.row, self.column);
        if let Some(place) = self.memory().rows.get_mut(row).and_then(|row| row.get_mut(column)) {
            *place = Some(cell);
        }
        // In the last column, what follows replaces what is there.
        self.column = (column + 1).min(COLUMN_COUNT - 1);
    }

    fn back_space(&mut self) {
        self.column = self.column.saturating_sub(1);
        let (row, column) = (self.row, self.column);
        if let Some(place) = self.memory().rows.get_mut(row).and_then(|row| row.get_mut(column)) {
            *place = None;
        }
    }

    /// A preamble: a row, a column and a style.
    fn preamble(&mut self, row: usize, attributes: u8) {
        if let Mode::RollUp(count) = self.mode
            && row != self.row
        {
            // All rows move with the lowest.
            let mut moved = Memory::new();
            for up in 0..count {
                let from = self.row.checked_sub(up).and_then(|at| self.shown.rows.get(at)).copied();
                let to = row.checked_sub(up).and_then(|at| moved.rows.get_mut(at));
                if let (Some(from), Some(to)) = (from, to) {
                    *to = from;
                }
            }
            self.shown = moved;
        }
        self.row = row;
        self.underlined = attributes & 1 != 0;
        (self.column, self.italic) = match attributes & 0x10 != 0 {
            true => (usize::from(attributes >> 1 & 7) * 4, false),
            false => (0, attributes >> 1 & 7 == 7),
        };
    }

    fn control(&mut self, code: u8, now_ms: u64) {
        match code {
            0x20 => self.mode = Mode::PopOn,
            0x21 => self.back_space(),
            0x24 => {
                let (row, column) = (self.row, self.column);
                if let Some(row) = self.memory().rows.get_mut(row) {
                    row.iter_mut().skip(column).for_each(|cell| *cell = None);
                }
            }
            0x25..=0x27 => {
                let count = usize::from(code - 0x23);
                if !matches!(self.mode, Mode::RollUp(_)) {
                    self.close(now_ms);
                    (self.shown, self.stored) = (Memory::new(), Memory::new());
                    (self.row, self.column) = (ROW_COUNT - 1, 0);
                }
                self.mode = Mode::RollUp(count);
            }
            0x29 => self.mode = Mode::PaintOn,
            // Text channels.
            0x2a | 0x2b => self.mode = Mode::None,
            0x2c => {
                self.close(now_ms);
                self.shown = Memory::new();
            }
            0x2d => self.roll(now_ms),
            0x2e => self.stored = Memory::new(),
            0x2f => {
                self.close(now_ms);
                std::mem::swap(&mut self.shown, &mut self.stored);
                self.mode = Mode::PopOn;
            }
            _ => {}
        }
    }

    fn roll(&mut self, now_ms: u64) {
        let Mode::RollUp(count) = self.mode else { return };
        self.close(now_ms);
        self.written_ms = now_ms;
        let top = (self.row + 1).saturating_sub(count);
        let mut rolled = Memory::new();
        for row in top..self.row {
            if let (Some(from), Some(to)) = (self.shown.rows.get(row + 1), rolled.rows.get_mut(row)) {
                *to = *from;
            }
        }
        self.shown = rolled;
        self.column = 0;
    }
}

/// Reads one field, on which two channels take turns.
struct Field {
    channels: [Channel; 2],
    /// The channel that was last spoken to.
    current: usize,
    /// A control pair, which is sent twice.
    last_control: Option<[u8; 2]>,
    /// Programme data, until a control pair.
    is_other_data: bool,
}

/// Rows of preambles by the first byte without its channel, for second bytes below and from 0x60 on.
const PREAMBLE_ROWS: [[usize; 2]; 8] = [[11, 11], [1, 2], [3, 4], [12, 13], [14, 15], [5, 6], [7, 8], [9, 10]];

impl Field {
    fn new() -> Field {
        Field {
            channels: [Channel::new(), Channel::new()],
            current: 0,
            last_control: None,
            is_other_data: false,
        }
    }

    fn pair(&mut self, bytes: [u8; 2], now_ms: u64) {
        let [first, second] = bytes.map(|byte| byte & 0x7f);
        match first {
            0x10..=0x1f => {
                if self.last_control.take() == Some([first, second]) {
                    return;
                }
                self.last_control = Some([first, second]);
                self.is_other_data = false;
                self.current = usize::from(first >> 3 & 1);
                if let Some(channel) = self.channels.get_mut(self.current) {
                    command(channel, first & 0xf7, second, now_ms);
                }
            }
            0x01..=0x0f => {
                self.last_control = None;
                self.is_other_data = true;
            }
            _ if self.is_other_data => {}
            _ => {
                self.last_control = None;
                if let Some(channel) = self.channels.get_mut(self.current) {
                    for byte in [first, second] {
                        if byte >= 0x20 {
                            channel.write(plain(byte), now_ms);
                        }
                    }
                }
            }
        }
    }
}

/// A control pair whose first byte, without its channel, is `first`.
fn command(channel: &mut Channel, first: u8, second: u8, now_ms: u64) {
    match (first, second) {
        (_, 0x40..=0x7f) => {
            let rows = PREAMBLE_ROWS.get(usize::from(first & 7));
            let row = rows.and_then(|rows| rows.get(usize::from(second >> 5 & 1)));
            channel.preamble(row.map_or(ROW_COUNT - 1, |row| row - 1), second & 0x1f);
        }
        (0x11, 0x20..=0x2f) => {
            channel.italic = second >> 1 & 7 == 7;
            channel.underlined = second & 1 != 0;
            // Takes a place of its own.
            channel.write(' ', now_ms);
        }
        (0x11, 0x30..=0x3f) => {
            if let Some(character) = SPECIAL.get(usize::from(second - 0x30)) {
                channel.write(*character, now_ms);
            }
        }
        (0x12 | 0x13, 0x20..=0x3f) => {
            let table = if first == 0x12 { &EXTENDED_1 } else { &EXTENDED_2 };
            if let Some(character) = table.get(usize::from(second - 0x20)) {
                // Comes after a plain letter for those who know it not.
                channel.back_space();
                channel.write(*character, now_ms);
            }
        }
        (0x14 | 0x15, 0x20..=0x2f) => channel.control(second, now_ms),
        (0x17, 0x21..=0x23) => {
            channel.column = (channel.column + usize::from(second - 0x20)).min(COLUMN_COUNT - 1);
        }
        // Backgrounds.
        _ => {}
    }
}

fn plain(byte: u8) -> char {
    match byte {
        0x27 => '\u{2019}',
        0x2a => 'á',
        0x5c => 'é',
        0x5e => 'í',
        0x5f => 'ó',
        0x60 => 'ú',
        0x7b => 'ç',
        0x7c => '÷',
        0x7d => 'Ñ',
        0x7e => 'ñ',
        0x7f => '█',
        byte => char::from(byte),
    }
}

const SPECIAL: [char; 16] = [
    '®', '°', '½', '¿', '™', '¢', '£', '♪', 'à', ' ', 'è', 'â', 'ê', 'î', 'ô', 'û',
];
const EXTENDED_1: [char; 32] = [
    'Á', 'É', 'Ó', 'Ú', 'Ü', 'ü', '\u{2018}', '¡', '*', '\u{2019}', '—', '©', '℠', '•', '“', '”', 'À', 'Â', 'Ç', 'È',
    'Ê', 'Ë', 'ë', 'Î', 'Ï', 'ï', 'Ô', 'Ù', 'ù', 'Û', '«', '»',
];
const EXTENDED_2: [char; 32] = [
    'Ã', 'ã', 'Í', 'Ì', 'ì', 'Ò', 'ò', 'Õ', 'õ', '{', '}', '\\', '^', '_', '|', '~', 'Ä', 'ä', 'Ö', 'ö', 'ß', '¥', '¤',
    '│', 'Å', 'å', 'Ø', 'ø', '┌', '┐', '└', '┘',
];

/// The channels in which something is said, `CC1` to `CC4`, from pairs in the order in which their pictures are shown.
/// Zero is at `zero_ns`; what is still shown at the end ends at `end_ms`.
pub(crate) fn tracks(pairs: &[Pair], zero_ns: i64, end_ms: u64) -> Vec<(String, TextTrack)> {
    let mut fields = [Field::new(), Field::new()];
    let mut last_ms = 0;
    for pair in pairs {
        let now_ms = u64::try_from(pair.time_ns.saturating_sub(zero_ns) / 1_000_000).unwrap_or(0);
        last_ms = now_ms.max(last_ms);
        if let Some(field) = fields.get_mut(usize::from(pair.field)) {
            field.pair(pair.bytes, last_ms);
        }
    }
    let channels = fields.into_iter().flat_map(|field| field.channels);
    channels
        .zip(1..)
        .filter_map(|(mut channel, number)| {
            channel.close(end_ms.max(last_ms));
            let track = TextTrack::new(Vec::new(), channel.cues);
            (!track.cues().is_empty()).then(|| (format!("CC{number}"), track))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const LOAD: [u8; 2] = [0x14, 0x20];
    const ERASE: [u8; 2] = [0x14, 0x2c];
    const FLIP: [u8; 2] = [0x14, 0x2f];
    const ROLL_2: [u8; 2] = [0x14, 0x25];
    const RETURN: [u8; 2] = [0x14, 0x2d];
    const PAINT: [u8; 2] = [0x14, 0x29];
    const ROW_15: [u8; 2] = [0x14, 0x60];

    /// Says `rows` of (milliseconds, pairs); control pairs are doubled.
    fn said(field: u8, rows: &[(i64, &[[u8; 2]])]) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (at, (ms, said)) in rows.iter().enumerate() {
            for bytes in *said {
                let pair = Pair {
                    time_ns: ms * 1_000_000,
                    field,
                    bytes: *bytes,
                };
                let is_control = (0x10..0x20).contains(&bytes[0]);
                pairs.extend(std::iter::repeat_n(pair, if is_control && at % 2 == 0 { 2 } else { 1 }));
            }
        }
        pairs
    }

    fn check(rows: &[(i64, &[[u8; 2]])], expected: &[(u64, u64, &str)]) {
        let tracks = tracks(&said(0, rows), 0, 9_000);
        let cues: Vec<_> = tracks
            .iter()
            .flat_map(|(_, track)| track.cues())
            .map(|cue| (cue.start_ms, cue.end_ms, cue.payload.as_str()))
            .collect();
        assert_eq!(cues, expected);
    }

    #[test]
    fn captions_pop_on() {
        check(
            &[
                (0, &[LOAD, ROW_15, *b"He", *b"y!"]),
                (1_000, &[FLIP]),
                (2_000, &[ERASE]),
                (2_500, &[LOAD, [0x14, 0x2e], ROW_15, *b"A<", *b"B\0"]),
                (3_000, &[FLIP]),
                (3_500, &[LOAD, [0x14, 0x40], *b"up", ROW_15, *b"dn"]),
                (4_000, &[FLIP]),
            ],
            &[
                (1_000, 2_000, "Hey!"),
                (3_000, 4_000, "A&lt;B"),
                (4_000, 9_000, "up\ndn"),
            ],
        );
        let tracks = tracks(&said(0, &[(0, &[LOAD, [0x11, 0x40], *b"up", FLIP])]), 0, 5);
        assert_eq!(tracks[0].1.cues()[0].settings, "line:10%");
    }

    #[test]
    fn captions_roll_up_and_are_painted() {
        check(
            &[
                (0, &[ROLL_2, RETURN, ROW_15, *b"on", *b"e "]),
                (300, &[*b"an", *b"d "]),
                (1_000, &[RETURN, ROW_15, *b"tw", *b"o "]),
                (3_000, &[RETURN, ROW_15]),
                (5_000, &[*b"si", *b"x "]),
                (6_000, &[ERASE]),
                (7_000, &[PAINT, ROW_15, *b"pa", *b"in"]),
                (8_000, &[*b"ts"]),
            ],
            &[
                (0, 1_000, "one and"),
                (1_000, 3_000, "one and\ntwo"),
                (3_000, 5_000, "two"),
                (5_000, 6_000, "two\nsix"),
                (7_000, 8_000, "pain"),
                (8_000, 9_000, "paints"),
            ],
        );
    }

    #[test]
    fn letters_and_styles_are_those_of_the_standard() {
        check(
            &[
                // Special and extended letters; the latter replace the plain one before.
                (0, &[LOAD, ROW_15, [0x11, 0x33], *b"QU", *b"E\0", [0x12, 0x21], *b"?\0"]),
                (1_000, &[FLIP]),
                (
                    2_000,
                    &[LOAD, [0x14, 0x6e], *b"it", [0x11, 0x20], *b"no", [0x11, 0x21], *b"un"],
                ),
                (3_000, &[FLIP]),
                // A tab, a backspace, and the rest of a row erased.
                (
                    4_000,
                    &[
                        LOAD,
                        [0x14, 0x2e],
                        ROW_15,
                        *b"ab",
                        [0x17, 0x21],
                        *b"cd",
                        [0x14, 0x21],
                        *b"ef",
                    ],
                ),
                (5_000, &[FLIP]),
            ],
            &[
                (1_000, 3_000, "¿QUÉ?"),
                (3_000, 5_000, "<i>it </i>no <u>un</u>"),
                (5_000, 9_000, "ab cef"),
            ],
        );
    }

    #[test]
    fn channels_are_kept_apart() {
        let mut pairs = said(
            0,
            &[(0, &[LOAD, ROW_15, *b"1\0", FLIP, [0x1c, 0x29], [0x1c, 0x60], *b"2\0"])],
        );
        pairs.extend(said(
            1,
            &[(
                0,
                &[
                    [0x15, 0x29],
                    ROW_15,
                    *b"3\0",
                    [0x05, 0x01],
                    *b"xx",
                    [0x1d, 0x29],
                    *b"4\0",
                ],
            )],
        ));
        let found: Vec<_> = tracks(&pairs, 0, 100)
            .into_iter()
            .map(|(name, track)| (name, track.cues()[0].payload.clone()))
            .collect();
        let expected = [("CC1", "1"), ("CC2", "2"), ("CC3", "3"), ("CC4", "4")];
        assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        // A text channel is none of captions.
        assert!(tracks(&said(0, &[(0, &[[0x14, 0x2a], *b"no"])]), 0, 9).is_empty());
    }

    #[test]
    fn files_and_triplets_are_read() {
        let data = [
            0xfc, 0x94, 0x20, 0xfd, 0x80, 0x80, 0xfe, 1, 2, 0xf8, 0x94, 0x20, 0xfd, 0x15, 0x2c, 0xfc,
        ];
        let pairs: Vec<Pair> = of_triplets(7, &data).collect();
        let rows: Vec<_> = pairs
            .iter()
            .map(|pair| (pair.time_ns, pair.field, pair.bytes))
            .collect();
        assert_eq!(rows, [(7, 0, [0x94, 0x20]), (7, 1, [0x15, 0x2c])]);
        let file: Vec<u8> = pairs.iter().flat_map(|pair| pair.to_record()).collect();
        assert_eq!(read(&file), pairs);
        assert_eq!(read(&file[..file.len() - 1]), pairs[..1]);
    }

    #[test]
    fn whatever_comes_is_read() {
        let mut number = 1u32;
        let mut next = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number.to_be_bytes()
        };
        let pairs: Vec<Pair> = (0..200_000)
            .map(|at| {
                let [field, first, second, _] = next();
                Pair {
                    time_ns: at * 1_000_000,
                    field: field & 3,
                    bytes: [first, second],
                }
            })
            .collect();
        for (_, track) in tracks(&pairs, 50_000_000, 0) {
            assert!(track.cues().iter().all(|cue| cue.start_ms < cue.end_ms));
        }
    }
}
