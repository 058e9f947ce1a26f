//! Packets in a byte stream: their size, where they start, and how to find them again when they are lost.

use super::super::{PACKET_SIZE, SYNC_BYTE};
use crate::demux::DemuxError;
use crate::limits::TS_RESYNC_SIZE_BYTES_MAX;

/// Distances from one sync byte to the next: plain, with a time code of 4 bytes (M2TS), with 16 bytes of parity.
const STRIDES: [usize; 3] = [188, 192, 204];

/// Sync bytes in a row that are not believed to be chance.
const PROOF_COUNT: usize = 5;

/// Bytes of a packet that are looked at as proof; fewer would make it depend on where a piece of the source ends.
const HEADER_SIZE: usize = 4;

/// A packet and where its sync byte is in the source.
pub(super) struct Framed<'a> {
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
}

/// Source bytes not yet taken, and how packets lie in them.
#[derive(Default)]
pub(super) struct Framing {
    held: Vec<u8>,
    /// Bytes of `held` that are done with.
    at: usize,
    /// Source offset of `held`.
    offset: u64,
    /// Distance of packets, once it is known.
    stride: Option<usize>,
    /// Bytes passed over since the last packet.
    lost: u64,
}

impl Framing {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next packet; `None` until more bytes come. A source is given up when no packets are found for longer than
    /// [`TS_RESYNC_SIZE_BYTES_MAX`].
    pub(super) fn next(&mut self, at_end: bool) -> Result<Option<Framed<'_>>, DemuxError> {
        let stride = loop {
            let rest = self.held.get(self.at..).unwrap_or_default();
            if rest.len() < PACKET_SIZE {
                return Ok(None);
            }
            if let Some(stride) = self.stride
                && rest.first() == Some(&SYNC_BYTE)
            {
                // The next packet confirms this one: junk may start with a sync byte as well.
                match rest.get(stride) {
                    Some(&SYNC_BYTE) => break stride,
                    None if at_end => break stride,
                    None => return Ok(None),
                    Some(_) => {}
                }
            }
            match search(rest, at_end) {
                Search::Found { at, stride } => {
                    self.stride = Some(stride);
                    self.at += at;
                    self.lost += at as u64;
                }
                Search::Short { at } => {
                    // Looked at again with the next piece, as a search: one sync byte behind it is no proof here.
                    self.stride = None;
                    self.at += at;
                    self.lost += at as u64;
                    self.give_up()?;
                    return Ok(None);
                }
            }
            self.give_up()?;
        };
        self.lost = 0;
        let start = self.at;
        // The last packet of a source may end where what belongs to the next one would begin.
        self.at = self.held.len().min(start + stride);
        Ok(self.held.get(start..start + PACKET_SIZE).map(|bytes| Framed {
            offset: self.offset + start as u64,
            bytes,
        }))
    }

    fn give_up(&self) -> Result<(), DemuxError> {
        if self.lost <= TS_RESYNC_SIZE_BYTES_MAX {
            return Ok(());
        }
        Err(DemuxError {
            offset: self.offset + self.at as u64,
            what: format!("no transport packets in {} bytes", self.lost),
        })
    }

    /// Lets go of what has been taken.
    pub(super) fn compact(&mut self) {
        self.held.drain(..self.at.min(self.held.len()));
        self.offset += self.at as u64;
        self.at = 0;
    }
}

enum Search {
    /// Packets begin after `at` bytes.
    Found { at: usize, stride: usize },
    /// No packet begins in the first `at` bytes; the rest is too short to say.
    Short { at: usize },
}

/// Whether a packet may start here, as far as there are bytes: time codes of M2TS can hold a sync byte in the same place
/// for half a second, but hardly a header behind it.
fn may_be_packet(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|sync| *sync == SYNC_BYTE)
        && bytes.get(1).is_none_or(|flags| flags & 0x80 == 0)
        && bytes.get(3).is_none_or(|control| control & 0x30 != 0)
}

fn search(bytes: &[u8], at_end: bool) -> Search {
    for at in 0..bytes.len() {
        if bytes.get(at) != Some(&SYNC_BYTE) {
            continue;
        }
        let mut undecided = false;
        for stride in STRIDES {
            let mut proofs = (0..PROOF_COUNT).map(|count| bytes.get(at + count * stride..).unwrap_or_default());
            if proofs.all(may_be_packet) {
                // At the end of the source there may be fewer packets than proofs.
                let complete = bytes.len() >= at + (PROOF_COUNT - 1) * stride + HEADER_SIZE;
                if complete || (at_end && bytes.len() >= at + PACKET_SIZE) {
                    return Search::Found { at, stride };
                }
                undecided = true;
            }
        }
        if undecided {
            return Search::Short { at };
        }
    }
    Search::Short { at: bytes.len() }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Where packets are found when the source comes in two pieces, the first of `first_size` bytes.
    fn offsets(source: &[u8], first_size: usize) -> Vec<u64> {
        let mut framing = Framing::default();
        let mut offsets = Vec::new();
        let (first, second) = source.split_at(first_size);
        for (piece, at_end) in [(first, false), (second, true)] {
            framing.push(piece);
            while let Some(packet) = framing.next(at_end).unwrap() {
                offsets.push(packet.offset);
            }
            framing.compact();
        }
        offsets
    }

    fn check(source: &[u8], expected: &[u64]) {
        for first_size in 0..source.len() {
            assert_eq!(
                offsets(source, first_size),
                expected,
                "first piece of {first_size} bytes"
            );
        }
    }

    /// `bytes` with the head of a packet at each of `positions`.
    fn with_heads(mut bytes: Vec<u8>, positions: impl IntoIterator<Item = usize>) -> Vec<u8> {
        for at in positions {
            bytes[at..at + 4].copy_from_slice(&[SYNC_BYTE, 0, 0, 0x10]);
        }
        bytes
    }

    #[test]
    fn five_sync_bytes_without_headers_prove_nothing_wherever_a_piece_ends() {
        let mut source = with_heads(vec![0; 10 + 6 * 188], (0..6).map(|count| 10 + count * 188));
        source = with_heads(source, (0..4).map(|count| count * 188));
        source[4 * 188] = SYNC_BYTE;
        check(&source, &[10, 198, 386, 574, 762, 950]);
    }

    #[test]
    fn one_sync_byte_is_no_proof_after_packets_were_lost() {
        let good = (0..5).map(|count| count * 188);
        let junk = [1129, 1317];
        let again = (0..6).map(|count| 1506 + count * 188);
        let mut source = with_heads(vec![0; 1506 + 6 * 188], good.chain(junk).chain(again));
        source[5 * 188] = SYNC_BYTE;
        check(&source, &[0, 188, 376, 564, 752, 1506, 1694, 1882, 2070, 2258, 2446]);
    }
}
