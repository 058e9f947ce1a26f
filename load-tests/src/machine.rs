//! How much of its processors the machine had: where it is a guest, others may have had them.

use std::path::Path;

/// Time that the processors have spent since the machine started, in ticks, on whatever and on other guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    total: u64,
    stolen: u64,
}

impl Processors {
    /// As of now; `None` where the kernel does not tell.
    pub fn now() -> Option<Processors> {
        Processors::parse(&std::fs::read_to_string(Path::new("/proc/stat")).ok()?)
    }

    /// Reads what is in `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(text: &str) -> Option<Processors> {
        let fields = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = fields
            .split_ascii_whitespace()
            .take(8)
            .map(|field| field.parse().ok())
            .collect::<Option<_>>()?;
        Some(Processors {
            total: ticks.iter().sum(),
            stolen: *ticks.get(7)?,
        })
    }

    /// Which part of the time since `before` others had, 0 to 1.
    pub fn stolen_since(self, before: Processors) -> f64 {
        let total = self.total.saturating_sub(before.total).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / total as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stolen_is_a_part_of_the_whole() {
        let of = |text: &str| Processors::parse(text).unwrap();
        let before = of("cpu  10 0 10 70 0 0 0 10 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        let after = of("cpu  40 0 20 90 0 0 0 50 3 3\n");
        assert_eq!(after.stolen_since(before), 0.4);
        assert_eq!(before.stolen_since(before), 0.0);
        for text in [
            "",
            "cpu",
            "cpu  1 2 3\n",
            "cpu  a 0 0 0 0 0 0 0\n",
            "intr 1 2 3 4 5 6 7 8\n",
        ] {
            assert_eq!(Processors::parse(text), None, "{text}");
        }
    }
}
