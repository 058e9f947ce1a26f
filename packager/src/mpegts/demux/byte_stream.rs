//! The byte stream of NAL units (ITU-T H.264 and H.265 annex B), cut as it comes.

/// NAL units whose end has not come yet, and how far they have been looked through.
#[derive(Default)]
pub(super) struct ByteStream {
    held: Vec<u8>,
    /// Bytes of the stream before `held`.
    position: u64,
    /// First byte of the unit under way, behind its start code.
    unit_at: Option<usize>,
    /// No start code begins before this.
    searched: usize,
}

/// A NAL unit without start code and trailing zeros, and where its start code is in the stream.
pub(super) struct Unit<'a> {
    pub(super) position: u64,
    pub(super) bytes: &'a [u8],
}

/// Bytes of a start code; a fourth byte before it is zero and belongs to nobody.
const START_CODE_SIZE: usize = 3;

impl ByteStream {
    /// Bytes of the stream so far.
    pub(super) fn end(&self) -> u64 {
        self.position + self.held.len() as u64
    }

    pub(super) fn held_size(&self) -> usize {
        self.held.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next unit that is complete, which the start code behind it shows.
    pub(super) fn next(&mut self) -> Option<Unit<'_>> {
        loop {
            let Some(found) = start_code(self.held.get(self.searched..).unwrap_or_default()) else {
                self.searched = self.searched.max(self.held.len().saturating_sub(START_CODE_SIZE - 1));
                return None;
            };
            let at = self.searched + found;
            self.searched = at + START_CODE_SIZE;
            if let Some(start) = self.unit_at.replace(self.searched) {
                return Some(self.unit(start, at));
            }
        }
    }

    /// The unit under way, as if it ended here. The next one has to start with a start code of its own.
    pub(super) fn last(&mut self) -> Option<Unit<'_>> {
        self.searched = self.held.len();
        let start = self.unit_at.take()?;
        Some(self.unit(start, self.held.len()))
    }

    fn unit(&self, start: usize, end: usize) -> Unit<'_> {
        let bytes = self.held.get(start..end).unwrap_or_default();
        // A unit ends in a bit that is set (7.4.1); zeros behind it are the stream's.
        let size = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Unit {
            position: (self.position + start as u64).saturating_sub(START_CODE_SIZE as u64),
            bytes: bytes.get(..size).unwrap_or_default(),
        }
    }

    /// Lets go of the units that were given.
    pub(super) fn compact(&mut self) {
        let done = self.unit_at.unwrap_or(self.searched);
        self.held.drain(..done.min(self.held.len()));
        self.position += done as u64;
        self.searched -= done;
        self.unit_at = self.unit_at.map(|_| 0);
    }
}

/// Offset of the next `00 00 01`.
fn start_code(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // The third byte decides how far one can jump: above 1 no start code touches it.
    while let Some([first, second, third]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<3>()) {
        match third {
            0 => at += 1,
            1 if *first == 0 && *second == 0 => return Some(at),
            _ => at += 3,
        }
    }
    None
}
