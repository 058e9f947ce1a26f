//! Passwords: Argon2id (RFC 9106), a few at a time on threads that may block.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::error::ApiError;
use crate::secrets::random;

const HASH_SIZE_BYTES: usize = 32;
const SALT_SIZE_BYTES: usize = 16;
/// Most memory that a stored hash may ask for.
const MEMORY_KIB_MAX: u32 = 1 << 20;

/// What one hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// The least that is stored.
    pub const FLOOR: Cost = Cost {
        memory_kib: 19_456,
        passes: 2,
        lanes: 1,
    };

    /// Whether it asks for less than `other` in anything.
    fn is_below(self, other: Cost) -> bool {
        self.memory_kib < other.memory_kib || self.passes < other.passes || self.lanes < other.lanes
    }
}

/// Hashes and verifies, at most so many at once.
#[derive(Debug)]
pub struct Passwords {
    cost: Cost,
    places: Arc<Semaphore>,
}

/// Whether a password is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not.
    Wrong,
    /// It is.
    Right,
    /// It is, and its hash is weaker than what is made now.
    RightButWeak,
}

impl Passwords {
    /// With `count_max` at once.
    pub fn new(memory_kib: u32, count_max: usize) -> Passwords {
        Passwords {
            cost: Cost {
                memory_kib: memory_kib.max(Cost::FLOOR.memory_kib),
                ..Cost::FLOOR
            },
            places: Arc::new(Semaphore::new(count_max.max(1))),
        }
    }

    /// The hash to store of a password, as a PHC string.
    pub async fn hash(&self, password: &str) -> Result<String, ApiError> {
        let (cost, password) = (self.cost, Zeroizing::new(password.to_owned()));
        let salt = random::<SALT_SIZE_BYTES>().map_err(ApiError::internal)?;
        self.run(move || write(&password, &salt, cost))
            .await?
            .ok_or_else(|| ApiError::internal("argon2 refuses its parameters"))
    }

    /// Whether `password` is what was hashed. Without a hash the work is done all the same, so that the time it takes does
    /// not tell who has an account.
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<Verdict, ApiError> {
        let (cost, password) = (self.cost, Zeroizing::new(password.to_owned()));
        let Some(stored) = stored.map(str::to_owned) else {
            self.run(move || write(&password, &[0; SALT_SIZE_BYTES], cost)).await?;
            return Ok(Verdict::Wrong);
        };
        self.run(move || check(&password, &stored, cost)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(ApiError::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        done.await.map_err(ApiError::internal)
    }
}

fn digest(password: &str, salt: &[u8], cost: Cost, size: usize) -> Option<Zeroizing<Vec<u8>>> {
    let parameters = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(size)).ok()?;
    let mut out = Zeroizing::new(vec![0; size]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .ok()?;
    Some(out)
}

fn write(password: &str, salt: &[u8], cost: Cost) -> Option<String> {
    let hash = digest(password, salt, cost, HASH_SIZE_BYTES)?;
    let Cost {
        memory_kib,
        passes,
        lanes,
    } = cost;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(&*hash));
    Some(format!(
        "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}"
    ))
}

fn read(stored: &str) -> Option<(Cost, Vec<u8>, Vec<u8>)> {
    let rest = stored.strip_prefix("$argon2id$v=19$m=")?;
    let (memory, rest) = rest.split_once(",t=")?;
    let (passes, rest) = rest.split_once(",p=")?;
    let mut parts = rest.split('$');
    let cost = Cost {
        memory_kib: memory.parse().ok().filter(|kib| *kib <= MEMORY_KIB_MAX)?,
        passes: passes.parse().ok().filter(|count| *count <= 100)?,
        lanes: parts.next()?.parse().ok().filter(|count| *count <= 16)?,
    };
    let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    let hash = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    (parts.next().is_none() && (16..=64).contains(&hash.len())).then_some((cost, salt, hash))
}

fn check(password: &str, stored: &str, wanted: Cost) -> Verdict {
    let Some((cost, salt, hash)) = read(stored) else {
        return Verdict::Wrong;
    };
    let right = digest(password, &salt, cost, hash.len()).is_some_and(|found| bool::from(found.ct_eq(&hash)));
    match right {
        false => Verdict::Wrong,
        true if cost.is_below(wanted) => Verdict::RightButWeak,
        true => Verdict::Right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_the_reference_implementation() {
        // The test vector that comes with argon2's own command: password "password", salt "somesalt", t=2, m=65536, p=1.
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert_eq!(check("password", stored, Cost::FLOOR), Verdict::Right);
        assert_eq!(check("Password", stored, Cost::FLOOR), Verdict::Wrong);
    }

    #[test]
    fn au_3_weaker_hashes_are_known() {
        let stored = write("secret", &[1; 16], Cost::FLOOR).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(check("secret", &stored, Cost::FLOOR), Verdict::Right);
        let more = Cost {
            memory_kib: 20_000,
            ..Cost::FLOOR
        };
        assert_eq!(check("secret", &stored, more), Verdict::RightButWeak);
        for end in 0..stored.len() {
            assert_eq!(check("secret", &stored[..end], Cost::FLOOR), Verdict::Wrong, "{end}");
        }
        let greedy = stored.replace("m=19456", "m=4294967295");
        assert_eq!(check("secret", &greedy, Cost::FLOOR), Verdict::Wrong);
    }
}
