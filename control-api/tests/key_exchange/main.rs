//! Key exchange from outside: the formats against others' output, and the routes over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod content_key_api;
mod cpix;
mod http;
mod packager;
mod source;
mod speke;
