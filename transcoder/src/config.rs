//! The `[transcode]` section of `headwater.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::encoder::Preference;
use crate::ladder::{Ladder, LadderError};

/// Name of the ladder that is always there, unless the configuration has another of that name.
pub const LADDER_DEFAULT: &str = "default";

/// `[transcode]` as written by people.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Which devices may encode: `auto` or `cpu`.
    pub device: Preference,
    /// Pieces encoded at once; absent: one for four cores, at least 2.
    pub workers: Option<usize>,
    /// Ladders by name.
    pub ladders: BTreeMap<String, Ladder>,
}

/// What is wrong in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A ladder makes no sense.
    #[error("transcode.ladders.{name}: {source}")]
    Ladder {
        /// Its name.
        name: String,
        /// What is wrong.
        source: LadderError,
    },
    /// A number makes no sense.
    #[error("transcode.workers {0} is outside 1 to 64")]
    Workers(usize),
    /// There is no such ladder.
    #[error("there is no ladder \"{name}\"; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Section {
    /// Checks all of it.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(workers) = self.workers.filter(|workers| !(1..=64).contains(workers)) {
            return Err(ConfigError::Workers(workers));
        }
        self.ladders.iter().try_for_each(|(name, ladder)| {
            ladder.check().map_err(|source| ConfigError::Ladder {
                name: name.clone(),
                source,
            })
        })
    }

    /// The ladder called `name`.
    pub fn ladder(&self, name: &str) -> Result<Ladder, ConfigError> {
        match self.ladders.get(name) {
            Some(ladder) => Ok(ladder.clone()),
            None if name == LADDER_DEFAULT => Ok(Ladder::default()),
            None => {
                let mut known: Vec<&str> = self.ladders.keys().map(String::as_str).collect();
                known.push(LADDER_DEFAULT);
                Err(ConfigError::Unknown {
                    name: name.to_owned(),
                    known: known.join(", "),
                })
            }
        }
    }
}
