//! What fuzz targets share: a bound on memory, which linking this crate sets, and checks that hold for any input.

mod memory;

pub mod text;
