//! What headwater makes of pictures with GStreamer.
//!
//! Decoders crash on damaged input, and what crashes must not take anything else with it: everything here runs in a
//! process of its own, with limits of its own, which the caller starts. Nothing here knows a library or a network.
#![forbid(unsafe_code)]

mod jpeg;
mod picture;
mod poster;
pub mod thumbnails;
mod video;
