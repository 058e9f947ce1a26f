//! Movies made up box by box, whole and broken.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod damage;
mod edits;
mod encryption;
mod fixture;
mod fragments;
mod tables;
