//! The pure core of headwater: every byte format and every rule about it.
//!
//! No I/O, no clock, no threads, no environment, no randomness, no logging: bytes and time are arguments, values and
//! bytes come back. Enforced by `clippy.toml` beside this crate.
#![forbid(unsafe_code)]

pub mod codec;
pub mod container;
pub mod crypto;
pub mod dash;
pub mod demux;
pub mod elementary;
pub mod form;
pub mod grant;
pub mod hls;
pub mod images;
pub mod index;
pub mod isobmff;
pub mod limits;
pub mod matroska;
pub mod mpegts;
pub mod ogg;
pub mod presentation;
pub mod protection;
pub mod segment;
pub mod source;
pub mod text;
pub mod time;
pub mod track;
mod window;
