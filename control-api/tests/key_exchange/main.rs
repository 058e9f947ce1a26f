//! Key exchange from outside: the formats against others' output, and the routes over loopback.

mod content_key_api;
mod cpix;
mod packager;
mod source;
mod speke;
