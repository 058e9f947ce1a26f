//! Handlers, one file an area: read the call, ask a noun, answer.

pub mod account;
pub mod auth;
pub mod billing;
pub mod devices;
pub mod drm;
pub mod keys;
pub mod media;
pub mod movies;
pub mod plans;
pub mod playback;
pub mod profiles;
pub mod shows;
pub mod subscriptions;
pub mod system;
pub mod titles;
pub mod tracks;
pub mod uploads;
pub mod users;
pub mod webhooks;
