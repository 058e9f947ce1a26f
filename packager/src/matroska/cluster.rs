//! A walk over clusters (RFC 9559 5.1.3): one block after the other, damage jumped over and told.

use super::block::{Block, BlockDamage, HEADER_SIZE_MAX, HEADER_SIZE_USUAL};
use super::ebml::{Element, HEAD_SIZE_MAX, Head};
use super::{MatroskaError, id};
use crate::source::{ReadError, Refusal};
use crate::window::Window;

/// Bytes looked through for the next cluster after damage; larger than any cluster muxers write (5 s at 20 Mb/s).
const RESYNC_SIZE_BYTES_MAX: u64 = 16 << 20;

/// Damaged places after which the rest of a file is given up, so that a hostile file costs a bounded number of scans.
const DAMAGE_COUNT_MAX: usize = 64;

/// Clock values beyond this many ticks are damage: products with TimestampScale stay far inside 128 bits.
const TIMESTAMP_MAX: u64 = 1 << 56;

/// Goes over the blocks of a Segment in the order of the file.
pub(super) struct Walk<'w, 'a> {
    window: &'w mut Window<'a>,
    position: u64,
    segment_end: u64,
    /// Where the current cluster ends, when it says.
    cluster_end: Option<u64>,
    /// Clock of the current cluster.
    cluster_timestamp: Option<u64>,
    damage_count: usize,
    notes: Vec<Refusal>,
}

/// Something that is wrong at a place.
struct Damage {
    offset: u64,
    what: String,
}

/// What went wrong with an element.
enum Failure {
    Damage(Damage),
    Fatal(MatroskaError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        Failure::Fatal(error.into())
    }
}

impl From<MatroskaError> for Failure {
    fn from(error: MatroskaError) -> Failure {
        Failure::Fatal(error)
    }
}

impl<'w, 'a> Walk<'w, 'a> {
    /// A walk over what lies between `segment_start` and `segment_end`.
    pub(super) fn new(window: &'w mut Window<'a>, segment_start: u64, segment_end: u64) -> Walk<'w, 'a> {
        let missing = segment_end.saturating_sub(window.source_size());
        let mut notes = Vec::new();
        if missing > 0 {
            notes.push(Refusal {
                what: "end of file".to_owned(),
                why: format!("the file is {missing} bytes shorter than it says; what is there is served"),
            });
        }
        Walk {
            position: segment_start,
            segment_end: segment_end.min(window.source_size()),
            window,
            cluster_end: None,
            cluster_timestamp: None,
            damage_count: 0,
            notes,
        }
    }

    /// First bytes of a frame, for codings that say in them how long it lasts; fewer only where the source ends.
    pub(super) fn peek(&mut self, offset: u64, size: usize) -> Result<&[u8], MatroskaError> {
        Ok(self.window.peek(offset, size)?)
    }

    /// What was left out on the way.
    pub(super) fn into_notes(self) -> Vec<Refusal> {
        self.notes
    }

    /// Reads the next block into `block`; false at the end of what can be walked.
    pub(super) fn next_block(&mut self, block: &mut Block) -> Result<bool, MatroskaError> {
        while self.position < self.segment_end {
            let at = self.position;
            match self.step(block) {
                Ok(true) => return Ok(true),
                Ok(false) if self.position > at => {}
                Ok(false) => break,
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Damage(damage)) => {
                    if !self.recover(at, damage)? {
                        break;
                    }
                }
            }
        }
        self.position = self.segment_end;
        Ok(false)
    }

    /// Takes one element; true when it was a block.
    fn step(&mut self, block: &mut Block) -> Result<bool, Failure> {
        let offset = self.position;
        let damage = |what: String| Failure::Damage(Damage { offset, what });
        let head = Head::parse(self.window.peek(offset, HEAD_SIZE_MAX)?)
            .ok_or_else(|| damage("what stands here is no element".to_owned()))?;
        let payload = offset + u64::from(head.head_size);
        let end = match (head.id, head.size) {
            (id::CLUSTER, size) => {
                self.cluster_end = size.and_then(|size| payload.checked_add(size));
                self.cluster_timestamp = None;
                self.position = payload;
                return Ok(false);
            }
            (id::EBML | id::SEGMENT, _) => {
                self.notes.push(Refusal {
                    what: format!("everything from byte {offset} on"),
                    why: "a second Matroska file starts there".to_owned(),
                });
                self.position = self.segment_end;
                return Ok(false);
            }
            (element, Some(size)) => payload
                .checked_add(size)
                .filter(|end| *end <= self.segment_end)
                .ok_or_else(|| {
                    damage(format!(
                        "element {element:x} wants {size} bytes, has {}",
                        self.left(payload)
                    ))
                })?,
            (element, None) => return Err(damage(format!("element {element:x} has an unknown size"))),
        };
        let found = match head.id {
            id::TIMESTAMP => {
                let value = self
                    .payload(head, offset, 8)?
                    .uint()
                    .ok()
                    .filter(|value| *value <= TIMESTAMP_MAX);
                self.cluster_timestamp =
                    Some(value.ok_or_else(|| damage("cluster timestamp out of range".to_owned()))?);
                false
            }
            id::SIMPLE_BLOCK => {
                self.read_block(block, payload, end)?;
                true
            }
            id::BLOCK_GROUP => self.read_group(block, payload, end)?,
            _ => false,
        };
        self.position = end;
        Ok(found)
    }

    fn left(&self, payload: u64) -> u64 {
        self.segment_end.saturating_sub(payload)
    }

    /// A small element in memory; one larger than `size_max` is cut, which its reader then refuses.
    fn payload(&mut self, head: Head, offset: u64, size_max: usize) -> Result<Element<'_>, MatroskaError> {
        let payload_offset = offset + u64::from(head.head_size);
        let size = head.size.unwrap_or(0).min(size_max as u64 + 1) as usize;
        Ok(Element {
            id: head.id,
            offset,
            payload_offset,
            payload: self.window.peek(payload_offset, size)?,
        })
    }

    fn read_block(&mut self, block: &mut Block, start: u64, end: u64) -> Result<(), Failure> {
        let size = end - start;
        let damage = |what: &str| {
            Failure::Damage(Damage {
                offset: start,
                what: what.to_owned(),
            })
        };
        for header_size_max in [HEADER_SIZE_USUAL, HEADER_SIZE_MAX] {
            let given = size.min(header_size_max as u64) as usize;
            let bytes = self.window.peek(start, given)?;
            match block.read(bytes, start, size) {
                Ok(()) => {
                    let clock = self
                        .cluster_timestamp
                        .ok_or_else(|| damage("a block before its cluster's timestamp"))?;
                    block.timestamp += clock as i64;
                    return Ok(());
                }
                Err(BlockDamage::Invalid(what)) => return Err(damage(what)),
                Err(BlockDamage::Short) => {}
            }
        }
        Err(damage("block ends inside its header"))
    }

    /// Reads a BlockGroup; false when it holds no block.
    fn read_group(&mut self, block: &mut Block, start: u64, end: u64) -> Result<bool, Failure> {
        let mut found = None;
        let mut references = false;
        let mut duration = None;
        let mut discard_padding = 0;
        let mut additions = None;
        let mut offset = start;
        while offset < end {
            let damage = |what: &str| {
                Failure::Damage(Damage {
                    offset,
                    what: what.to_owned(),
                })
            };
            let head = Head::parse(self.window.peek(offset, HEAD_SIZE_MAX)?)
                .ok_or_else(|| damage("what stands in this block group is no element"))?;
            let payload = offset + u64::from(head.head_size);
            let next = head
                .size
                .and_then(|size| payload.checked_add(size))
                .filter(|next| *next <= end);
            let next = next.ok_or_else(|| damage("an element reaches past its block group"))?;
            match head.id {
                id::BLOCK => found = Some((payload, next)),
                id::REFERENCE_BLOCK => references = true,
                id::BLOCK_DURATION => duration = self.payload(head, offset, 8)?.uint().ok(),
                id::BLOCK_ADDITIONS => additions = Some((payload, next - payload)),
                id::DISCARD_PADDING => discard_padding = self.payload(head, offset, 8)?.int().unwrap_or(0),
                _ => {}
            }
            offset = next;
        }
        let Some((payload, next)) = found else {
            return Ok(false);
        };
        self.read_block(block, payload, next)?;
        block.keyframe = !references;
        block.duration = duration;
        block.discard_padding = discard_padding;
        block.additions = additions;
        Ok(true)
    }

    /// Goes on behind damage found in the element at `at`: at the end of the cluster where that is known and makes
    /// sense, else at the next cluster in sight. False when there is none.
    fn recover(&mut self, at: u64, damage: Damage) -> Result<bool, MatroskaError> {
        self.damage_count += 1;
        let next = match self.damage_count <= DAMAGE_COUNT_MAX {
            true => self.next_place(at)?,
            false => None,
        };
        self.cluster_end = None;
        self.cluster_timestamp = None;
        self.notes.push(match next {
            Some(next) => Refusal {
                what: format!("{} bytes at {at}", next - at),
                why: format!("damaged: at {}: {}", damage.offset, damage.what),
            },
            None => Refusal {
                what: format!("everything from byte {at} on"),
                why: format!("damaged or cut off: at {}: {}", damage.offset, damage.what),
            },
        });
        self.position = next.unwrap_or(self.segment_end);
        Ok(next.is_some())
    }

    fn next_place(&mut self, at: u64) -> Result<Option<u64>, MatroskaError> {
        let cluster_end = self.cluster_end.filter(|end| *end > at && *end < self.segment_end);
        if let Some(end) = cluster_end
            && let Some(head) = Head::parse(self.window.peek(end, HEAD_SIZE_MAX)?)
            && id::is_segment_child(head.id)
        {
            return Ok(Some(end));
        }
        let scan_end = self.segment_end.min(at.saturating_add(RESYNC_SIZE_BYTES_MAX));
        let mut position = at + 1;
        while position < scan_end {
            let bytes = self.window.ahead(position, 4)?;
            match bytes.windows(4).position(|window| window == id::CLUSTER.to_be_bytes()) {
                Some(skip) => {
                    position += skip as u64;
                    if position >= scan_end {
                        break;
                    }
                    if self.is_cluster(position)? {
                        return Ok(Some(position));
                    }
                    position += 1;
                }
                // The name may lie across the end of the window.
                None => position += (bytes.len().saturating_sub(3).max(1)) as u64,
            }
        }
        Ok(None)
    }

    /// Whether a cluster, not the same four bytes by chance, starts at `offset`.
    fn is_cluster(&mut self, offset: u64) -> Result<bool, MatroskaError> {
        let Some(head) = Head::parse(self.window.peek(offset, HEAD_SIZE_MAX)?) else {
            return Ok(false);
        };
        let child = Head::parse(self.window.peek(offset + u64::from(head.head_size), HEAD_SIZE_MAX)?);
        Ok(child.is_some_and(|child| id::is_cluster_child(child.id)))
    }
}
