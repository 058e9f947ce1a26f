//! Transport packets (ISO/IEC 13818-1 2.4.3.2) and whether one follows the other.

use super::super::{PACKET_SIZE, SYNC_BYTE};

/// What a packet says of itself, and its payload.
pub(super) struct TransportPacket<'a> {
    pub(super) pid: u16,
    /// A section or PES packet starts here.
    pub(super) unit_start: bool,
    pub(super) scrambled: bool,
    pub(super) counter: u8,
    /// `discontinuity_indicator`.
    pub(super) discontinuity: bool,
    /// `random_access_indicator`.
    pub(super) random_access: bool,
    pub(super) has_payload: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> TransportPacket<'a> {
    /// `None` for packets without use: damaged on the way (`transport_error_indicator`), or malformed.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<TransportPacket<'a>> {
        let ([sync, high, low, control], body) = bytes.get(..PACKET_SIZE)?.split_first_chunk::<4>()?;
        if *sync != SYNC_BYTE || high & 0x80 != 0 {
            return None;
        }
        let mut packet = TransportPacket {
            pid: u16::from_be_bytes([high & 0x1f, *low]),
            unit_start: high & 0x40 != 0,
            scrambled: control & 0xc0 != 0,
            counter: control & 15,
            discontinuity: false,
            random_access: false,
            has_payload: control & 0x10 != 0,
            payload: body,
        };
        if control & 0x20 != 0 {
            let (length, rest) = body.split_first()?;
            let (field, payload) = rest.split_at_checked(usize::from(*length))?;
            if let Some(flags) = field.first() {
                packet.discontinuity = flags & 0x80 != 0;
                packet.random_access = flags & 0x40 != 0;
            }
            packet.payload = payload;
        }
        if !packet.has_payload {
            packet.payload = &[];
        }
        Some(packet)
    }
}

/// How a packet relates to the one before on its PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is the next one, or the first, or its continuity is not defined.
    Next,
    /// It is the last one again (ISO/IEC 13818-1 2.4.3.3 allows sending a packet twice).
    Repeated,
    /// Packets are missing between.
    Gap,
}

/// Continuity of one PID.
#[derive(Default)]
pub(super) struct Continuity {
    last: Option<(u8, Vec<u8>)>,
}

impl Continuity {
    pub(super) fn follow(&mut self, packet: &TransportPacket<'_>) -> Follows {
        if !packet.has_payload {
            return Follows::Next;
        }
        let follows = match &self.last {
            None => Follows::Next,
            // The counter alone does not tell a repeated packet from the 16th after it.
            Some((counter, payload)) if *counter == packet.counter && payload == packet.payload => Follows::Repeated,
            Some((counter, _)) if (counter + 1) & 15 == packet.counter => Follows::Next,
            Some(_) => Follows::Gap,
        };
        if follows != Follows::Repeated {
            let (counter, payload) = self.last.get_or_insert_default();
            *counter = packet.counter;
            payload.clear();
            payload.extend_from_slice(packet.payload);
        }
        follows
    }
}
