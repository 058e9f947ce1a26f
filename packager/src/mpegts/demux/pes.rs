//! PES packets (ISO/IEC 13818-1 2.4.3.6), read as they come: first their time stamps, then their data in pieces.

use super::packet::TransportPacket;

/// Start code, stream id and length.
const FIXED_SIZE: usize = 6;

/// Flags and header length, behind the fixed part.
const FLAGS_SIZE: usize = 3;

/// Time stamps of a PES packet, 33 bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) presentation: Option<u64>,
    /// Where it differs from the presentation time.
    pub(super) decode: Option<u64>,
}

/// What a PES packet holds, in order.
pub(super) enum PesEvent<'a> {
    Start(Times),
    Data(&'a [u8]),
    Scrambled,
}

/// The PES packet under way on one PID.
#[derive(Default)]
pub(super) struct Pes {
    state: State,
}

#[derive(Default)]
enum State {
    /// Until a packet starts, or to its end.
    #[default]
    Skip,
    /// A header that is not complete yet.
    Header(Vec<u8>),
    /// Data; `None` runs until the next packet starts.
    Data { left: Option<usize> },
}

impl Pes {
    /// Skips to the next start.
    pub(super) fn reset(&mut self) {
        self.state = State::Skip;
    }

    /// Whether the packet under way announces more data than has come.
    pub(super) fn is_short(&self) -> bool {
        matches!(self.state, State::Header(_) | State::Data { left: Some(1..) })
    }

    pub(super) fn push<E>(
        &mut self,
        packet: &TransportPacket<'_>,
        mut give: impl FnMut(PesEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if packet.unit_start {
            self.state = State::Header(Vec::new());
        }
        let mut data = packet.payload;
        let mut pieces = Vec::new();
        if let State::Header(held) = &mut self.state {
            held.extend_from_slice(data);
            match Header::parse(held) {
                Parsed::Short => return Ok(()),
                Parsed::Other => {
                    self.state = State::Skip;
                    return Ok(());
                }
                Parsed::Scrambled => {
                    self.state = State::Skip;
                    return give(PesEvent::Scrambled);
                }
                Parsed::Header(header) => {
                    give(PesEvent::Start(header.times))?;
                    pieces = held.split_off(header.size.min(held.len()));
                    data = &pieces;
                    self.state = State::Data { left: header.data_size };
                }
            }
        }
        if let State::Data { left } = &mut self.state {
            if let Some(left) = left {
                data = data.get(..*left).unwrap_or(data);
                *left -= data.len();
            }
            if !data.is_empty() {
                give(PesEvent::Data(data))?;
            }
        }
        drop(pieces);
        Ok(())
    }
}

struct Header {
    /// Bytes before the data.
    size: usize,
    times: Times,
    data_size: Option<usize>,
}

enum Parsed {
    /// More bytes are needed.
    Short,
    /// Not a PES packet, or one that holds no media.
    Other,
    Scrambled,
    Header(Header),
}

impl Header {
    fn parse(bytes: &[u8]) -> Parsed {
        let Some(([start @ .., stream_id, high, low], rest)) = bytes.split_first_chunk::<FIXED_SIZE>() else {
            return Parsed::Short;
        };
        // Maps, padding, private 2, ECM, EMM, DSM-CC, H.222.1 type E and directories have no flags (table 2-21).
        if *start != [0, 0, 1] || matches!(stream_id, 0xbc | 0xbe | 0xbf | 0xf0..=0xf2 | 0xf8 | 0xff) {
            return Parsed::Other;
        }
        let Some(([marks, flags, header_data_size], rest)) = rest.split_first_chunk::<FLAGS_SIZE>() else {
            return Parsed::Short;
        };
        if marks & 0xc0 != 0x80 {
            return Parsed::Other;
        }
        if marks & 0x30 != 0 {
            return Parsed::Scrambled;
        }
        let header_data_size = usize::from(*header_data_size);
        let Some(fields) = rest.get(..header_data_size) else {
            return Parsed::Short;
        };
        let size = FIXED_SIZE + FLAGS_SIZE + header_data_size;
        let data_size = match u16::from_be_bytes([*high, *low]) {
            0 => None,
            length => Some((FIXED_SIZE + usize::from(length)).saturating_sub(size)),
        };
        let presentation = (flags & 0x80 != 0).then(|| timestamp(fields)).flatten();
        let decode = (flags & 0xc0 == 0xc0)
            .then(|| fields.get(5..).and_then(timestamp))
            .flatten();
        Parsed::Header(Header {
            size,
            times: Times { presentation, decode },
            data_size,
        })
    }
}

/// A PTS or DTS field. Marker bits are not looked at: streams exist that have them wrong.
fn timestamp(field: &[u8]) -> Option<u64> {
    let [a, b, c, d, e] = field.first_chunk::<5>()?.map(u64::from);
    Some((a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1)
}
