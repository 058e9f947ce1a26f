//! Licences from outside: what vendors are asked, byte for byte, what becomes of their replies, and the routes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http;
mod transit;
mod upstream;
mod vendors;
