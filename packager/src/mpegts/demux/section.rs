//! Sections put together from packets (ISO/IEC 13818-1 2.4.4).

use super::super::psi::crc32;

/// Header up to and including `section_length`.
const LENGTH_END: usize = 3;

/// Longest section of a program table: `section_length` is at most 1021.
const SECTION_SIZE_MAX: usize = 1_021 + LENGTH_END;

/// `table_id` of the stuffing behind the last section of a packet.
const STUFFING: u8 = 0xff;

/// The section under way on one PID.
#[derive(Default)]
pub(super) struct SectionReader {
    held: Vec<u8>,
    /// A section has started; before that, data belongs to one whose start was not seen.
    started: bool,
}

impl SectionReader {
    /// Forgets what has come so far.
    pub(super) fn reset(&mut self) {
        self.held.clear();
        self.started = false;
    }

    /// Sections that are complete with this payload, their CRC checked and cut off. Long-form sections only, which
    /// program tables are.
    pub(super) fn push(&mut self, unit_start: bool, payload: &[u8]) -> Vec<Vec<u8>> {
        let mut sections = Vec::new();
        let (before, after) = if unit_start {
            let Some((pointer, rest)) = payload.split_first() else {
                return sections;
            };
            let Some((before, after)) = rest.split_at_checked(usize::from(*pointer)) else {
                self.reset();
                return sections;
            };
            (before, Some(after))
        } else {
            (payload, None)
        };
        if self.started {
            self.held.extend_from_slice(before);
            self.complete(&mut sections);
        }
        if let Some(after) = after {
            self.held.clear();
            self.held.extend_from_slice(after);
            self.started = true;
            self.complete(&mut sections);
        }
        sections
    }

    fn complete(&mut self, sections: &mut Vec<Vec<u8>>) {
        while let Some([table_id, high, low]) = self.held.first_chunk::<LENGTH_END>() {
            let size = LENGTH_END + (usize::from(high & 0x0f) << 8 | usize::from(*low));
            if *table_id == STUFFING || size > SECTION_SIZE_MAX {
                return self.reset();
            }
            if self.held.len() < size {
                return;
            }
            let rest = self.held.split_off(size);
            let mut section = std::mem::replace(&mut self.held, rest);
            if crc32(&section) == 0 {
                section.truncate(size.saturating_sub(4));
                sections.push(section);
            }
        }
    }
}
