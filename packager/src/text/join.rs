//! Join: cues that were cut or repeated at the edges of samples, whole and single again.

use std::collections::{BTreeMap, VecDeque};

use super::{Cue, TextError, push_cue};
use crate::limits::CUE_COUNT_MAX;

/// What two pieces of one cue have in common.
type Content = (Option<u32>, String, String, String);

fn content(source_id: Option<u32>, cue: &Cue) -> Content {
    (source_id, cue.id.clone(), cue.settings.clone(), cue.payload.clone())
}

/// Joins the pieces a cue was cut into: one piece per sample, each ending where the next begins.
#[derive(Default)]
pub(super) struct PieceJoiner {
    cues: Vec<Cue>,
    /// Cues that ended with the last sample, at `open_end_ms`.
    open: BTreeMap<Content, VecDeque<usize>>,
    open_end_ms: u64,
}

impl PieceJoiner {
    /// Adds the pieces of the next sample. Pieces continue a cue of the sample before if it ends where they start and
    /// identifier, settings, payload and source id (both may have none) are the same.
    pub(super) fn sample(
        &mut self,
        start_ms: u64,
        end_ms: u64,
        pieces: Vec<(Option<u32>, Cue)>,
    ) -> Result<(), TextError> {
        if self.open_end_ms != start_ms {
            self.open.clear();
        }
        let mut open: BTreeMap<Content, VecDeque<usize>> = BTreeMap::new();
        for (source_id, piece) in pieces {
            let content = content(source_id, &piece);
            let continued = self.open.get_mut(&content).and_then(VecDeque::pop_front);
            let index = match continued {
                Some(index) => {
                    if let Some(cue) = self.cues.get_mut(index) {
                        cue.end_ms = piece.end_ms;
                    }
                    index
                }
                None => {
                    push_cue(&mut self.cues, piece)?;
                    self.cues.len().saturating_sub(1)
                }
            };
            open.entry(content).or_default().push_back(index);
        }
        self.open = open;
        self.open_end_ms = end_ms;
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Cue> {
        self.cues
    }
}

/// Joins documents that each hold the cues of a span of time: cues repeated with their whole times are kept once, cues
/// cut at the border of two spans become one.
#[derive(Default)]
pub(super) struct DocumentJoiner {
    cues: BTreeMap<Cue, Known>,
    cue_count: usize,
    next_order: usize,
    /// Cues that ended exactly with the last document, at `open_end_ms`.
    open: BTreeMap<Content, Vec<Cue>>,
    open_end_ms: u64,
}

/// What is known of one cue.
#[derive(Clone, Copy)]
struct Known {
    /// Place among all cues, by first appearance: cues of equal start stack in this order.
    order: usize,
    /// How often it is there; a document may well show the same text twice at once.
    count: usize,
}

impl DocumentJoiner {
    /// Adds the cues of the next span, `start_ms..end_ms`.
    pub(super) fn document(&mut self, start_ms: u64, end_ms: u64, cues: &[Cue]) -> Result<(), TextError> {
        if self.open_end_ms != start_ms {
            self.open.clear();
        }
        let mut met: BTreeMap<Cue, Known> = BTreeMap::new();
        for cue in cues {
            let (cue, order) = self.whole(cue.clone(), start_ms);
            let known = met.entry(cue).or_insert(Known { order, count: 0 });
            known.count = known.count.saturating_add(1);
        }
        self.open.clear();
        self.open_end_ms = end_ms;
        for (cue, Known { order, count }) in met {
            if cue.end_ms == end_ms {
                self.open.entry(content(None, &cue)).or_default().push(cue.clone());
            }
            let known = self.cues.entry(cue).or_insert(Known { order, count: 0 });
            let added = count.saturating_sub(known.count);
            known.count = known.count.saturating_add(added);
            self.cue_count = self.cue_count.saturating_add(added);
        }
        if self.cue_count > CUE_COUNT_MAX {
            Err(TextError::TooManyCues)
        } else {
            Ok(())
        }
    }

    /// Puts the part of a cue that ended with the last document before a part that begins with this one.
    fn whole(&mut self, mut cue: Cue, start_ms: u64) -> (Cue, usize) {
        self.next_order = self.next_order.saturating_add(1);
        if cue.start_ms != start_ms {
            return (cue, self.next_order);
        }
        let Some(head) = self.open.get_mut(&content(None, &cue)).and_then(Vec::pop) else {
            return (cue, self.next_order);
        };
        cue.start_ms = head.start_ms;
        let mut order = self.next_order;
        if let Some(known) = self.cues.get_mut(&head) {
            order = known.order;
            known.count = known.count.saturating_sub(1);
            self.cue_count = self.cue_count.saturating_sub(1);
            if known.count == 0 {
                self.cues.remove(&head);
            }
        }
        (cue, order)
    }

    pub(super) fn finish(self) -> Vec<Cue> {
        let mut cues: Vec<(Cue, Known)> = self.cues.into_iter().collect();
        cues.sort_by_key(|(cue, known)| (cue.start_ms, known.order));
        cues.into_iter()
            .flat_map(|(cue, known)| std::iter::repeat_n(cue, known.count))
            .collect()
    }
}
