//! What fuzz targets share: a bound on memory, which linking this crate sets, and checks that hold for any input.

mod memory;

pub mod demux;
pub mod presentation;
pub mod text;

/// A box that was read and written can be read again, and is then written the same way.
pub fn check_written<T, E: std::fmt::Debug>(
    payload: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, E>,
    serialise: impl Fn(&T) -> Vec<u8>,
) {
    let again = parse(payload).expect("what is written can be read");
    assert_eq!(serialise(&again), payload);
}
