//! The control plane: what encryptors, players and operators ask for, apart from media.
#![forbid(unsafe_code)]

pub mod kek;
pub mod key_exchange;
pub mod license;
pub mod outbound;
