//! Parameter sets of a video track: those of its start go to the configuration, later ones that differ stay in band.

use std::collections::{BTreeMap, BTreeSet};

use super::Reason;
use crate::limits::SAMPLE_ENTRY_SIZE_BYTES_MAX;

/// Kind (in the order of the configuration) and id.
type Key = (u8, u8);

#[derive(Default)]
pub(super) struct ParameterSets {
    sets: BTreeMap<Key, Vec<u8>>,
    size: usize,
    /// The configuration has been made of `sets`.
    fixed: bool,
    /// Sets that did not stay as they are in the configuration.
    changed: BTreeSet<Key>,
    change_count: u64,
}

impl ParameterSets {
    /// Takes a parameter set NAL unit; returns whether it has to stay in its sample.
    pub(super) fn offer(&mut self, kind: u8, id: u8, unit: &[u8]) -> Result<bool, Reason> {
        let key = (kind, id);
        if !self.fixed {
            let size = self.size - self.sets.get(&key).map_or(0, Vec::len) + unit.len();
            if size > SAMPLE_ENTRY_SIZE_BYTES_MAX {
                return Err(format!("its parameter sets exceed {SAMPLE_ENTRY_SIZE_BYTES_MAX} bytes"));
            }
            self.size = size;
            self.sets.insert(key, unit.to_vec());
            return Ok(false);
        }
        let same = self.sets.get(&key).is_some_and(|set| set == unit);
        if !same && self.changed.insert(key) {
            self.change_count += 1;
        }
        // Once one has changed all are repeated with every start, so that decoding can begin at each: a set holds for the one
        // that it names as that was when the set came.
        Ok(self.change_count > 0)
    }

    /// Sets of one kind, by id.
    pub(super) fn of_kind(&self, kind: u8) -> Vec<&[u8]> {
        self.sets
            .range((kind, 0)..=(kind, u8::MAX))
            .map(|(_, set)| set.as_slice())
            .collect()
    }

    /// All sets, in the order of kinds.
    pub(super) fn all(&self) -> Vec<&[u8]> {
        self.sets.values().map(Vec::as_slice).collect()
    }

    /// The configuration has been made.
    pub(super) fn fix(&mut self) {
        self.fixed = true;
    }

    /// Sets that changed after the start.
    pub(super) fn change_count(&self) -> u64 {
        self.change_count
    }
}
