//! The API over a real Postgres, one database a test.

mod auth;
mod harness;
mod system;
