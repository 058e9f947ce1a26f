//! The API over a real Postgres, one database a test.

mod account;
mod auth;
mod harness;
mod movies;
mod playback;
mod postgres;
mod system;
mod users;
