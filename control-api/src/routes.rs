//! Handlers, one file an area: read the call, ask a noun, answer.

pub mod auth;
pub mod system;
