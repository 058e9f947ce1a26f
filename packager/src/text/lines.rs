//! Lines: a text line by line, whatever ends them.

/// Lines that end in LF, CR or CRLF.
#[derive(Clone)]
pub(super) struct Lines<'a> {
    /// What has not been read; `None` after the last line.
    rest: Option<&'a str>,
    number: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: Some(text),
            number: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// Number of the last line read, from 1; 0 before the first.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line, without its end.
    pub(super) fn next_line(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        self.number = self.number.saturating_add(1);
        let Some((line, after)) = rest.split_once(['\n', '\r']) else {
            self.rest = None;
            return Some(rest);
        };
        let ended_by_cr = rest.as_bytes().get(line.len()) == Some(&b'\r');
        let after = if ended_by_cr {
            after.strip_prefix('\n').unwrap_or(after)
        } else {
            after
        };
        self.rest = Some(after).filter(|after| !after.is_empty());
        Some(line)
    }
}
