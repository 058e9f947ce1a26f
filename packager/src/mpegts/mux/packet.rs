//! Transport packets (ISO/IEC 13818-1 2.4.3): headers, adaptation fields, and PES packets cut into payloads.

use super::super::{PACKET_SIZE, PAYLOAD_SIZE, SYNC_BYTE, wrapped};

const PAYLOAD_UNIT_START: u16 = 0x4000;
const ADAPTATION_FIELD: u8 = 0x20;
const PAYLOAD: u8 = 0x10;
const RANDOM_ACCESS: u8 = 0x40;
const PCR: u8 = 0x10;

/// Length and flags of an adaptation field.
const FLAGS_SIZE: usize = 2;

const PCR_SIZE: usize = 6;

/// What the adaptation field of a PES packet's first transport packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Decoding can start here.
    pub(super) random_access: bool,
    /// Program clock reference, in ticks of 90 kHz.
    pub(super) pcr_90k: Option<i64>,
}

impl Marks {
    /// Bytes of the adaptation field without stuffing; zero when there is nothing to say.
    pub(super) fn size(self) -> usize {
        match (self.random_access, self.pcr_90k) {
            (false, None) => 0,
            (true, None) => FLAGS_SIZE,
            (_, Some(_)) => FLAGS_SIZE + PCR_SIZE,
        }
    }
}

fn write_header(pid: u16, flags: u16, control: u8, counter: u8, out: &mut Vec<u8>) {
    let [high, low] = (flags | pid & 0x1fff).to_be_bytes();
    out.extend_from_slice(&[SYNC_BYTE, high, low, control | counter & 15]);
}

/// An adaptation field of `size` bytes, its length included; `size` is at least what the marks need.
fn write_adaptation_field(marks: Marks, size: usize, out: &mut Vec<u8>) {
    let end = out.len() + size;
    out.push(size.saturating_sub(1) as u8);
    if size > 1 {
        let random_access = if marks.random_access { RANDOM_ACCESS } else { 0 };
        match marks.pcr_90k {
            None => out.push(random_access),
            Some(pcr_90k) => {
                out.push(random_access | PCR);
                // 33 bits of 90 kHz, 6 reserved bits, 9 bits of extension at 27 MHz, which is always zero here.
                let field = wrapped(pcr_90k) << 15 | 0x7e00;
                out.extend_from_slice(field.to_be_bytes().get(2..).unwrap_or_default());
            }
        }
    }
    out.resize(end, 0xff);
}

/// A packet with a section that fits it.
pub(super) fn write_table(pid: u16, counter: u8, section: &[u8], out: &mut Vec<u8>) {
    let end = out.len() + PACKET_SIZE;
    write_header(pid, PAYLOAD_UNIT_START, PAYLOAD, counter, out);
    out.push(0);
    out.extend_from_slice(section);
    out.resize(end, 0xff);
}

/// A packet with nothing but a program clock reference. `counter` is that of the next packet with payload: without
/// payload a packet repeats the one before (ISO/IEC 13818-1 2.4.3.3).
pub(super) fn write_clock(pid: u16, counter: u8, pcr_90k: i64, out: &mut Vec<u8>) {
    write_header(pid, 0, ADAPTATION_FIELD, counter.wrapping_sub(1), out);
    let marks = Marks {
        random_access: false,
        pcr_90k: Some(pcr_90k),
    };
    write_adaptation_field(marks, PAYLOAD_SIZE, out);
}

/// Transport packets a PES packet needs at least.
pub(super) fn packet_count_min(pes_size: usize, marks: Marks) -> usize {
    1 + pes_size
        .saturating_sub(PAYLOAD_SIZE - marks.size())
        .div_ceil(PAYLOAD_SIZE)
}

/// Cuts one PES packet into transport packets as its bytes come.
///
/// Packets are full until what is left has to be spread so that each packet left gets a byte; adaptation fields take up
/// the room. The bytes must come to exactly `pes_size`.
pub(super) struct PesPackets<'o> {
    out: &'o mut Vec<u8>,
    pid: u16,
    counter: &'o mut u8,
    /// PES bytes that belong to packets not yet started.
    left: usize,
    /// Packets not yet started.
    packets_left: usize,
    /// Payload bytes still free in the packet under way.
    room: usize,
    /// More came than was planned for.
    too_much: bool,
}

impl<'o> PesPackets<'o> {
    /// Starts the first packet. `packet_count` is at least [`packet_count_min`], at most `pes_size`.
    pub(super) fn start(
        pid: u16,
        marks: Marks,
        pes_size: usize,
        packet_count: usize,
        counter: &'o mut u8,
        out: &'o mut Vec<u8>,
    ) -> PesPackets<'o> {
        let mut packets = PesPackets {
            out,
            pid,
            counter,
            left: pes_size,
            packets_left: packet_count,
            room: 0,
            too_much: false,
        };
        packets.next(PAYLOAD_UNIT_START, marks);
        packets
    }

    fn next(&mut self, flags: u16, marks: Marks) {
        self.packets_left = self.packets_left.saturating_sub(1);
        let payload = (PAYLOAD_SIZE - marks.size()).min(self.left.saturating_sub(self.packets_left));
        let counter = *self.counter;
        *self.counter = counter.wrapping_add(1) & 15;
        if payload == PAYLOAD_SIZE {
            write_header(self.pid, flags, PAYLOAD, counter, self.out);
        } else {
            write_header(self.pid, flags, PAYLOAD | ADAPTATION_FIELD, counter, self.out);
            write_adaptation_field(marks, PAYLOAD_SIZE - payload, self.out);
        }
        self.left = self.left.saturating_sub(payload);
        self.room = payload;
    }

    /// The next bytes of the PES packet.
    #[inline]
    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.next(0, Marks::default());
            }
            // Nearly all packets are full; a copy of known size is twice as fast as one of any size.
            if self.room == PAYLOAD_SIZE
                && let Some((full, rest)) = bytes.split_first_chunk::<PAYLOAD_SIZE>()
            {
                self.out.extend_from_slice(full);
                self.room = 0;
                bytes = rest;
                continue;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.room));
            if now.is_empty() {
                self.too_much = true;
                return;
            }
            self.out.extend_from_slice(now);
            self.room -= now.len();
            bytes = rest;
        }
    }

    /// True when all that was planned for was written, and nothing more.
    pub(super) fn is_whole(&self) -> bool {
        !self.too_much && (self.left, self.room) == (0, 0)
    }
}
