//! What headwater makes of sources with GStreamer: ladders ([`vod`]), thumbnails and posters ([`thumbnails`]).
//!
//! Decoders crash on damaged input, and what crashes must not take anything else with it: whatever touches GStreamer runs
//! in a process of its own, with limits of its own ([`worker`]), and whoever starts it ([`child`]) sees an error at most.
//! What workers hand on is checked like what strangers send. Nothing here knows a network or a database.
#![forbid(unsafe_code)]

pub mod audio_work;
mod caps;
mod captions;
pub mod child;
pub mod config;
pub mod encoder;
mod feed;
mod fields;
mod gate;
pub mod graph;
pub mod input;
mod jpeg;
mod key_distance;
pub mod ladder;
pub mod loudness;
pub mod machine;
pub mod order;
mod pass;
mod patience;
mod picture;
pub mod pipeline;
mod poster;
mod probe;
pub(crate) mod publish;
pub mod report;
mod sink;
pub mod sound;
pub mod source;
pub mod staging;
pub mod table;
pub mod thumbnails;
pub mod timing;
mod tone;
pub mod track_file;
mod video;
pub mod video_work;
pub mod vod;
pub mod worker;
