//! The table of a coded track: size, time and kind of every sample, as a worker hands it on. Pure.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use packager::limits::{SAMPLE_COUNT_MAX, SAMPLE_SIZE_BYTES_MAX};

/// One coded sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodedSample {
    /// When it is shown, in nanoseconds on the source's timeline.
    pub presentation_ns: i64,
    /// How long, in nanoseconds; zero when nobody said.
    pub duration_ns: u64,
    /// Bytes.
    pub size: u32,
    /// Decoding can start here.
    pub sync: bool,
}

/// Bytes of one row.
pub const ROW_SIZE_BYTES: usize = 24;

impl CodedSample {
    /// The row of this sample.
    pub fn to_row(self) -> [u8; ROW_SIZE_BYTES] {
        let mut row = Vec::with_capacity(ROW_SIZE_BYTES);
        row.extend_from_slice(&self.presentation_ns.to_le_bytes());
        row.extend_from_slice(&self.duration_ns.to_le_bytes());
        row.extend_from_slice(&self.size.to_le_bytes());
        row.extend_from_slice(&u32::from(self.sync).to_le_bytes());
        row.try_into().unwrap_or([0; ROW_SIZE_BYTES])
    }
}

/// Why a table was refused. A worker decodes what strangers sent: what it writes is not taken on trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Not a whole number of rows, or too many.
    #[error("a sample table of {0} bytes")]
    Size(usize),
    /// A row says what can not be.
    #[error("sample {sample_index}: {what}")]
    Row {
        /// 0-based.
        sample_index: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// A year: nothing lasts longer.
const TIME_NS_MAX: i64 = 366 * 24 * 3_600 * 1_000_000_000;

/// Reads a table; `data_size_bytes` is what its samples must add up to.
pub fn read(bytes: &[u8], data_size_bytes: u64) -> Result<Vec<CodedSample>, TableError> {
    let count = bytes.len() / ROW_SIZE_BYTES;
    if !bytes.len().is_multiple_of(ROW_SIZE_BYTES) || count > SAMPLE_COUNT_MAX {
        return Err(TableError::Size(bytes.len()));
    }
    let mut samples = Vec::with_capacity(count);
    let mut size_bytes = 0u64;
    for (sample_index, row) in bytes.as_chunks::<ROW_SIZE_BYTES>().0.iter().enumerate() {
        let wrong = |what| TableError::Row { sample_index, what };
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x] = *row;
        let sample = CodedSample {
            presentation_ns: i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            duration_ns: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
            size: u32::from_le_bytes([q, r, s, t]),
            sync: u32::from_le_bytes([u, v, w, x]) == 1,
        };
        if sample.presentation_ns.unsigned_abs() > TIME_NS_MAX.unsigned_abs()
            || sample.duration_ns > TIME_NS_MAX.unsigned_abs()
        {
            return Err(wrong("a time out of range"));
        }
        if sample.size == 0 || sample.size > SAMPLE_SIZE_BYTES_MAX {
            return Err(wrong("a size out of range"));
        }
        size_bytes += u64::from(sample.size);
        samples.push(sample);
    }
    match size_bytes == data_size_bytes {
        true => Ok(samples),
        false => Err(TableError::Row {
            sample_index: count,
            what: "samples and their table differ in size",
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let sample = |presentation_ns, size| CodedSample {
            presentation_ns,
            duration_ns: 40_000_000,
            size,
            sync: size > 10,
        };
        let samples = [sample(0, 100), sample(80_000_000, 10), sample(-40_000_000, 5)];
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_row()).collect();
        assert_eq!(read(&bytes, 115).unwrap(), samples);
        assert_eq!(read(&[], 0).unwrap(), []);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end], 115).is_err(), "{end}");
        }
        let check = |sample: CodedSample| assert!(read(&sample.to_row(), u64::from(sample.size)).is_err());
        check(sample(i64::MIN, 1));
        check(sample(0, 0));
        check(sample(0, u32::MAX));
    }
}
