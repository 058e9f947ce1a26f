//! DASH media presentation descriptions (ISO/IEC 23009-1) written from a presentation.

mod images;
pub mod mpd;
mod sets;
mod span;
mod timeline;
mod xml;
