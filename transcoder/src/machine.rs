//! What this machine offers: encoders, as workers found and tried them.

use std::sync::atomic::AtomicBool;

use crate::child::{self, ChildError, Program};
use crate::encoder::{Encoder, Registry};
use crate::ladder::{Preset, Rendition};
use crate::order::{Limits, Order, Said, Work};

/// What a worker that encodes nothing, or a second, may use up.
const LIMITS: Limits = Limits {
    memory_bytes: 8 << 30,
    processor_s: 300,
    file_size_bytes: 1 << 20,
};

fn ask(work: Work, program: &Program, cancel: &AtomicBool) -> Result<Said, ChildError> {
    let order = Order {
        input: None,
        folder: None,
        limits: LIMITS,
        work,
    };
    child::run(program, &order, &[], cancel, |_| {})
}

/// The encoders that are installed, each with why it does not open.
#[derive(Clone, Debug)]
pub struct Found(Vec<(String, Option<String>)>);

impl Found {
    /// Asks a worker: drivers crash.
    pub fn ask(program: &Program, cancel: &AtomicBool) -> Result<Found, ChildError> {
        match ask(Work::Encoders, program, cancel)? {
            Said::Encoders(found) => Ok(Found(found)),
            _ => Err(ChildError::Garbled("another answer".into())),
        }
    }
}

impl Registry for Found {
    fn has(&self, factory: &str) -> bool {
        self.0.iter().any(|(name, _)| name == factory)
    }

    fn open(&self, factory: &str) -> Result<(), String> {
        match self.0.iter().find(|(name, _)| name == factory) {
            Some((_, None)) => Ok(()),
            Some((_, Some(why))) => Err(why.clone()),
            None => Err("is not installed".into()),
        }
    }
}

/// Has `encoder` encode a second of 720 lines: pictures, and milliseconds that it took.
pub fn self_test(encoder: &Encoder, program: &Program, cancel: &AtomicBool) -> Result<(u32, u64), ChildError> {
    let rendition = Rendition {
        name: "self-test".into(),
        width: 1280,
        height: 720,
        codec: encoder.codec,
        bit_depth: 8,
        quality: 25,
        bitrate_kbps: 2_500,
        buffer_ms: 1_000,
        preset: Preset::Fast,
        maps_tones: false,
    };
    match ask(Work::SelfTest(rendition, encoder.factory.to_owned()), program, cancel)? {
        Said::Tested(count, milliseconds) => Ok((count, milliseconds)),
        _ => Err(ChildError::Garbled("another answer".into())),
    }
}
