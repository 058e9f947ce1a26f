//! Key exchange: content keys handed to encryptors in the forms they know (SPEKE, CPIX, Widevine's key API).
//!
//! What is read and written is pure: bytes in, bytes out. [`router`] puts it on HTTP; a [`KeySource`] has the keys.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod client;
pub mod content_key_api;
mod contract;
pub mod cpix;
mod cpix_read;
mod cpix_write;
mod credentials;
pub mod delivery;
mod http;
mod signalling;
pub mod speke;
pub(crate) mod xml;

pub use contract::{Contract, Key, KeySet, KeySource, KeySourceError, TrackType, Wanted, WantedKey};
pub use credentials::{Client, ClientSecret, Credentials};
pub use http::router;
pub use signalling::{Demand, SignallingError, Signals};
