//! The API over a real Postgres, one database a test.
// Helpers are tests as well.
#![allow(clippy::unwrap_used, clippy::panic)]

mod account;
mod auth;
mod billing;
mod drm;
mod encoding;
mod harness;
mod issuers;
mod media;
mod movies;
mod playback;
mod postgres;
mod rules;
mod shows;
mod stripe;
mod sweeps;
mod system;
mod uploads;
mod users;
mod webhooks;
