//! Timing: when elements of a document show, each relative to what holds it (TTML2 12.2 and 12.4).

use super::super::{DropReason, times_fault};
use super::attributes::Attributes;
use super::time::{Clock, to_ms};

/// `timeContainer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Container {
    #[default]
    Par,
    Seq,
}

/// When an open element shows, in nanoseconds on the document's timeline, and what of it has been used up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    begin_ns: u128,
    /// Earliest end that it or an ancestor states; `None` when none does.
    end_ns: Option<u128>,
    /// Whether that end is its own.
    states_end: bool,
    /// Whether it or an ancestor states a begin.
    states_begin: bool,
    container: Container,
    /// When the next child of a sequence begins: at the end of the one before; `None` when that never ends.
    next_begin_ns: Option<u128>,
    /// Latest end of a child, which an element without a stated end lasts to; `None` when a child never ends.
    children_end_ns: Option<u128>,
}

impl Timing {
    /// Of the root: from 0 on, children side by side.
    pub(super) const ROOT: Self = Self {
        begin_ns: 0,
        end_ns: None,
        states_end: false,
        states_begin: false,
        container: Container::Par,
        next_begin_ns: Some(0),
        children_end_ns: Some(0),
    };

    /// Of a child with these attributes; `None` when a sibling before it in a sequence never ends.
    ///
    /// # Errors
    /// Times that cannot be read or are out of range.
    pub(super) fn child(&self, attributes: &Attributes<'_>, clock: &Clock) -> Result<Option<Self>, DropReason> {
        let time = |name: &str| match attributes.own(name) {
            None => Ok(None),
            Some(text) => clock.parse(text).map(Some).ok_or(DropReason::BadTimes),
        };
        let (begin, end, dur) = (time("begin")?, time("end")?, time("dur")?);
        let reference_ns = match self.container {
            Container::Par => Some(self.begin_ns),
            Container::Seq => self.next_begin_ns,
        };
        let Some(reference_ns) = reference_ns else {
            return Ok(None);
        };
        let add = |a: u128, b: u128| a.checked_add(b).ok_or(DropReason::TimeOutOfRange);
        let begin_ns = add(reference_ns, begin.unwrap_or(0))?;
        let stated_ends = [
            end.map(|end| add(reference_ns, end)).transpose()?,
            dur.map(|dur| add(begin_ns, dur)).transpose()?,
        ];
        let stated_end_ns = stated_ends.into_iter().flatten().min();
        Ok(Some(Self {
            begin_ns,
            end_ns: stated_end_ns.into_iter().chain(self.end_ns).min(),
            states_end: stated_end_ns.is_some(),
            states_begin: self.states_begin || begin.is_some(),
            container: match attributes.own("timeContainer") {
                Some("seq") => Container::Seq,
                _ => Container::Par,
            },
            next_begin_ns: Some(begin_ns),
            children_end_ns: Some(begin_ns),
        }))
    }

    /// Takes note of bare text: it lasts as long as what holds it.
    pub(super) fn hold_text(&mut self) {
        self.children_end_ns = None;
    }

    /// Takes note of a child that is over.
    pub(super) fn end_child(&mut self, child: &Self) {
        let end_ns = child.ended_ns().map(|end_ns| end_ns.max(child.begin_ns));
        self.next_begin_ns = end_ns;
        self.children_end_ns = self.children_end_ns.zip(end_ns).map(|(a, b)| a.max(b));
    }

    /// Whether bare text in it shows: in a sequence it lasts no time at all.
    pub(super) fn shows_text(&self) -> bool {
        self.container == Container::Par
    }

    /// When an element that is over ended: as stated, else when all it holds had.
    fn ended_ns(&self) -> Option<u128> {
        let content_end_ns = match self.container {
            Container::Par => self.children_end_ns,
            Container::Seq => self.next_begin_ns,
        };
        match (self.end_ns, content_end_ns) {
            (Some(end_ns), Some(content_end_ns)) if !self.states_end => Some(end_ns.min(content_end_ns)),
            (Some(end_ns), _) => Some(end_ns),
            (None, content_end_ns) => content_end_ns,
        }
    }

    /// Start and end in milliseconds, each rounded to nearest. What never ends does so at the end of `within`, and if it
    /// states no begin either, begins with it.
    ///
    /// # Errors
    /// What is never shown, out of range, or without an end.
    pub(super) fn span_ms(&self, within: Option<(u64, u64)>) -> Result<(u64, u64), DropReason> {
        let out_of_range = DropReason::TimeOutOfRange;
        let start_ms = to_ms(self.begin_ns).ok_or(out_of_range)?;
        let (start_ms, end_ms) = match (self.end_ns, within) {
            (Some(end_ns), _) => (start_ms, to_ms(end_ns).ok_or(out_of_range)?),
            (None, Some((_, within_end_ms))) if self.states_begin => (start_ms, within_end_ms),
            (None, Some((within_start_ms, within_end_ms))) => (within_start_ms, within_end_ms),
            (None, None) => return Err(DropReason::NoEnd),
        };
        times_fault(start_ms, end_ms).map_or(Ok((start_ms, end_ms)), Err)
    }
}
