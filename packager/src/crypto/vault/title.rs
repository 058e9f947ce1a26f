//! A title's content keys, sealed: one row a key, each for one scheme, one class of tracks and one key period.

use serde::{Deserialize, Serialize};

use super::{
    KeyState, TrackClass, VaultError, from_hex, is_name, is_scheme, is_source_scheme, parse_json, states, to_hex,
    write_json,
};
use crate::crypto::wrap::{KeyUse, SEALED_SIZE, Secret32, open, seal};
use crate::crypto::{ContentKey, KeyId};
use crate::limits;

const WHAT: &str = "a title's keys";

/// The format that is written. The one before had no MAC.
const FORMAT: u32 = 2;
/// The format before, which can be read for [`TitleKeys::upgrade`] alone.
const FORMAT_BEFORE: u32 = 1;

/// `titles/{content}.json`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TitleKeys {
    format: u32,
    tenant: String,
    content: String,
    /// Grows with every change.
    sequence: u64,
    keys: Vec<SealedKey>,
    proof: Proof,
}

/// Why what a title says of its keys can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// It was made here, or proved.
    Own,
    /// By this MAC, which was not looked at yet.
    Claimed([u8; states::MAC_SIZE]),
    /// It can not: the file is of the format before.
    Nothing,
}

/// A content key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// Its public name.
    pub key_id: KeyId,
    /// What it encrypts for ([`crate::form::Form::key_scheme`]).
    pub scheme: String,
    /// Which tracks.
    pub track: TrackClass,
    /// Key period, 0-based.
    pub period: u64,
    /// Where the period begins, in milliseconds of presentation time; `None` is the beginning.
    pub starts_ms: Option<u64>,
    /// When it was made, in seconds since the Unix epoch.
    pub created: u64,
    state: KeyState,
    /// Nonce and sealed bytes; `None` once destroyed.
    sealed: Option<([u8; 12], [u8; SEALED_SIZE])>,
}

impl SealedKey {
    /// What it may still do.
    pub fn state(&self) -> KeyState {
        self.state
    }
}

/// A content key to be sealed.
pub struct NewKey<'a> {
    /// Its public name, drawn at random or given by who made the key.
    pub key_id: KeyId,
    /// The key.
    pub key: &'a ContentKey,
    /// What it encrypts for ([`crate::form::Form::key_scheme`]).
    pub scheme: &'a str,
    /// Which tracks.
    pub track: TrackClass,
    /// Key period, 0-based.
    pub period: u64,
    /// Where the period begins, in milliseconds of presentation time; `None` is the beginning.
    pub starts_ms: Option<u64>,
    /// Now, in seconds since the Unix epoch.
    pub created: u64,
    /// Drawn at random; never used before under this tenant's key.
    pub nonce: [u8; 12],
}

/// An opened content key. It has no `Debug`: it can not reach a log.
#[derive(Clone)]
pub struct OpenKey {
    /// Its public name.
    pub key_id: KeyId,
    /// What it encrypts for ([`crate::form::Form::key_scheme`]).
    pub scheme: String,
    /// Which tracks.
    pub track: TrackClass,
    /// Key period, 0-based.
    pub period: u64,
    /// Where the period begins, in milliseconds of presentation time; `None` is the beginning.
    pub starts_ms: Option<u64>,
    /// Active or retired: no other key opens.
    pub state: KeyState,
    /// The key.
    pub key: ContentKey,
}

impl OpenKey {
    /// Whether media may be encrypted under it; if not, it is for licences alone.
    pub fn encrypts(&self) -> bool {
        self.state.encrypts()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TitleJson {
    format: u32,
    tenant: String,
    content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    keys: Vec<KeyJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyJson {
    key_id: String,
    scheme: String,
    track: TrackClass,
    period: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts_ms: Option<u64>,
    state: KeyState,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

impl TitleKeys {
    /// No keys yet, of title `content` of `tenant`.
    pub fn new(tenant: &str, content: &str) -> Result<TitleKeys, VaultError> {
        for (what, name) in [("tenant", tenant), ("title", content)] {
            if !is_name(name) {
                return Err(VaultError::Name { what });
            }
        }
        Ok(TitleKeys {
            format: FORMAT,
            tenant: tenant.to_owned(),
            content: content.to_owned(),
            sequence: 0,
            keys: Vec::new(),
            proof: Proof::Own,
        })
    }

    /// Reads a title's file. Members that are not known are refused. What it says of keys is not believed before
    /// [`TitleKeys::prove`] or [`TitleKeys::open`].
    pub fn parse(json: &[u8]) -> Result<TitleKeys, VaultError> {
        let read: TitleJson = parse_json(json, WHAT, limits::TITLE_KEYS_SIZE_BYTES_MAX)?;
        let mut title = TitleKeys::new(&read.tenant, &read.content)?;
        (title.format, title.proof, title.sequence) = match (read.format, &read.mac, read.sequence) {
            (FORMAT_BEFORE, None, None) => (FORMAT_BEFORE, Proof::Nothing, 0),
            (FORMAT, Some(mac), Some(sequence)) => {
                let mac = from_hex(mac).ok_or(VaultError::Name { what: "mac" })?;
                (FORMAT, Proof::Claimed(mac), sequence)
            }
            (FORMAT | FORMAT_BEFORE, ..) => {
                return Err(VaultError::Name {
                    what: "mac or sequence",
                });
            }
            (format, ..) => return Err(VaultError::Format { what: WHAT, format }),
        };
        for row in read.keys {
            let key_id = KeyId::parse(&row.key_id).ok_or(VaultError::Name { what: "key id" })?;
            let sealed = match (&row.nonce, &row.sealed) {
                (None, None) => None,
                (nonce, sealed) => {
                    let nonce = nonce.as_deref().and_then(from_hex);
                    let sealed = sealed.as_deref().and_then(from_hex);
                    Some(nonce.zip(sealed).ok_or(VaultError::Name {
                        what: "nonce or sealed key",
                    })?)
                }
            };
            if sealed.is_none() != (row.state == KeyState::Destroyed) {
                return Err(VaultError::Wiped {
                    key_id,
                    state: row.state,
                });
            }
            title.push(SealedKey {
                key_id,
                scheme: row.scheme,
                track: row.track,
                period: row.period,
                starts_ms: row.starts_ms,
                created: row.created,
                state: row.state,
                sealed,
            })?;
        }
        Ok(title)
    }

    /// Writes what [`TitleKeys::parse`] reads, with a later sequence number and a MAC over everything in it. `now` is in
    /// seconds since the Unix epoch: a title that is made anew after it was deleted is later than the one before.
    /// What was read and never proved is not written.
    pub fn write(&mut self, tenant_key: &Secret32, now: u64) -> Result<String, VaultError> {
        if self.proof != Proof::Own || self.format != FORMAT {
            return Err(VaultError::States);
        }
        self.sequence = self.sequence.saturating_add(1).max(now);
        let mut json = self.json();
        json.mac = Some(to_hex(&states::mac(tenant_key, &json)));
        Ok(write_json(&json))
    }

    /// Grows with every change: one that is lower than it was is an old file.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Checks that everything in the file was written by a holder of the tenant's key.
    pub fn prove(&mut self, tenant_key: &Secret32) -> Result<(), VaultError> {
        self.check_proof(tenant_key)?;
        self.proof = Proof::Own;
        Ok(())
    }

    fn check_proof(&self, tenant_key: &Secret32) -> Result<(), VaultError> {
        match &self.proof {
            Proof::Own => Ok(()),
            Proof::Claimed(mac) if states::proves(tenant_key, &self.json(), mac) => Ok(()),
            Proof::Claimed(_) => Err(VaultError::States),
            Proof::Nothing => Err(VaultError::NoMac),
        }
    }

    /// Whether it is of the format before, which is for [`TitleKeys::upgrade`] alone.
    pub fn is_old(&self) -> bool {
        self.proof == Proof::Nothing
    }

    /// Brings a title of the format before into this one: seals every key anew, with `nonce` a different random value
    /// each time. Nothing vouched for its states until now, so somebody must have looked at them. A file of this format
    /// that was made to look like one of the format before does not open here.
    pub fn upgrade<E: From<VaultError>>(
        &mut self,
        tenant_key: &Secret32,
        mut nonce: impl FnMut() -> Result<[u8; 12], E>,
    ) -> Result<(), E> {
        if !self.is_old() {
            return Ok(());
        }
        let mut title = TitleKeys {
            format: FORMAT,
            keys: Vec::with_capacity(self.keys.len()),
            proof: Proof::Own,
            ..self.clone()
        };
        for row in &self.keys {
            let key_id = row.key_id;
            let refused = |source| VaultError::Sealed { key_id, source };
            let mut row = row.clone();
            if let Some((old, sealed)) = &row.sealed {
                let key = open(tenant_key, old, &self.key_use(&row), sealed).map_err(refused)?;
                let new = nonce()?;
                let sealed = seal(tenant_key, &new, &title.key_use(&row), &key).map_err(refused)?;
                row.sealed = Some((new, sealed));
            }
            title.push(row)?;
        }
        *self = title;
        Ok(())
    }

    fn json(&self) -> TitleJson {
        let keys = self.keys.iter().map(|key| KeyJson {
            key_id: key.key_id.to_string(),
            scheme: key.scheme.clone(),
            track: key.track,
            period: key.period,
            starts_ms: key.starts_ms,
            state: key.state,
            created: key.created,
            nonce: key.sealed.map(|(nonce, _)| to_hex(&nonce)),
            sealed: key.sealed.map(|(_, sealed)| to_hex(&sealed)),
        });
        TitleJson {
            format: self.format,
            tenant: self.tenant.clone(),
            content: self.content.clone(),
            sequence: (self.format == FORMAT).then_some(self.sequence),
            mac: None,
            keys: keys.collect(),
        }
    }

    /// Whose title it is.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Which title: its media id.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// All keys, in the order they were made in.
    pub fn keys(&self) -> &[SealedKey] {
        &self.keys
    }

    /// The active key of this use.
    pub fn find(&self, scheme: &str, track: TrackClass, period: u64) -> Option<&SealedKey> {
        self.keys.iter().find(|key| {
            key.state == KeyState::Active && key.scheme == scheme && key.track == track && key.period == period
        })
    }

    /// The key of this name, whatever its state.
    pub fn key(&self, key_id: KeyId) -> Option<&SealedKey> {
        self.keys.iter().find(|key| key.key_id == key_id)
    }

    /// Seals a key and adds it as the active one of its use.
    pub fn seal_new(&mut self, tenant_key: &Secret32, new: &NewKey<'_>) -> Result<(), VaultError> {
        self.seal_as(KeyState::Active, tenant_key, new)
    }

    /// Seals a key that others encrypt under beside the active one of its use: players get it, nothing here is encrypted
    /// under it. It is a retired one from the start.
    pub fn seal_for_players(&mut self, tenant_key: &Secret32, new: &NewKey<'_>) -> Result<(), VaultError> {
        self.seal_as(KeyState::Retired, tenant_key, new)
    }

    fn seal_as(&mut self, state: KeyState, tenant_key: &Secret32, new: &NewKey<'_>) -> Result<(), VaultError> {
        let key_id = new.key_id;
        let nonces = self.keys.iter().filter_map(|key| key.sealed.map(|(nonce, _)| nonce));
        if nonces.into_iter().any(|nonce| nonce == new.nonce) {
            return Err(VaultError::Nonce { key_id });
        }
        let mut row = SealedKey {
            key_id,
            scheme: new.scheme.to_owned(),
            track: new.track,
            period: new.period,
            starts_ms: new.starts_ms,
            created: new.created,
            state,
            sealed: None,
        };
        let sealed = seal(tenant_key, &new.nonce, &self.key_use(&row), new.key);
        let sealed = sealed.map_err(|source| VaultError::Sealed { key_id, source })?;
        row.sealed = Some((new.nonce, sealed));
        self.push(row)
    }

    /// Opens every key that may be given to players. One that does not open spoils all, and so does a MAC that does not
    /// fit: the file was tampered with.
    pub fn open(&self, tenant_key: &Secret32) -> Result<Vec<OpenKey>, VaultError> {
        self.check_proof(tenant_key)?;
        let licensed = self.keys.iter().filter(|key| key.state.licenses());
        let opened = licensed.map(|row| {
            let key_id = row.key_id;
            let (nonce, sealed) = row.sealed.as_ref().ok_or(VaultError::Wiped {
                key_id,
                state: row.state,
            })?;
            let key = open(tenant_key, nonce, &self.key_use(row), sealed)
                .map_err(|source| VaultError::Sealed { key_id, source })?;
            Ok(OpenKey {
                key_id,
                scheme: row.scheme.clone(),
                track: row.track,
                period: row.period,
                starts_ms: row.starts_ms,
                state: row.state,
                key,
            })
        });
        opened.collect()
    }

    /// Takes a key down to `state`; destroying wipes its sealed bytes. Says whether it was not there already.
    pub fn set_state(&mut self, key_id: KeyId, state: KeyState) -> Result<bool, VaultError> {
        let found = self.keys.iter_mut().find(|key| key.key_id == key_id);
        let row = found.ok_or(VaultError::NoKey { key_id })?;
        if state < row.state {
            return Err(VaultError::State {
                key_id,
                from: row.state,
                to: state,
            });
        }
        if state == KeyState::Destroyed {
            row.sealed = None;
        }
        Ok(std::mem::replace(&mut row.state, state) != state)
    }

    fn key_use<'a>(&'a self, row: &'a SealedKey) -> KeyUse<'a> {
        KeyUse {
            format: self.format,
            tenant: &self.tenant,
            content: &self.content,
            key_id: row.key_id,
            scheme: &row.scheme,
            track: row.track.name(),
            period: row.period,
        }
    }

    fn push(&mut self, row: SealedKey) -> Result<(), VaultError> {
        if self.keys.len() >= limits::TITLE_KEY_COUNT_MAX {
            return Err(VaultError::Count {
                what: "keys in one title",
                count_max: limits::TITLE_KEY_COUNT_MAX,
            });
        }
        if !is_scheme(&row.scheme) && !is_source_scheme(&row.scheme) {
            return Err(VaultError::Name { what: "scheme" });
        }
        if self.key(row.key_id).is_some() {
            return Err(VaultError::KeyIdTaken { key_id: row.key_id });
        }
        let active = self.find(&row.scheme, row.track, row.period);
        // A source may have as many as it likes: they are told apart by name.
        let is_alone = row.state == KeyState::Active && !is_source_scheme(&row.scheme);
        if let Some(active) = active.filter(|_| is_alone) {
            return Err(VaultError::UseTaken {
                scheme: row.scheme.clone(),
                track: row.track,
                period: row.period,
                key_id: active.key_id,
            });
        }
        self.keys.push(row);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::crypto::wrap::WrapError;

    const TENANT_KEY: [u8; 32] = [9; 32];

    fn add(title: &mut TitleKeys, number: u8, scheme: &str, track: TrackClass, period: u64) -> Result<(), VaultError> {
        title.seal_new(
            &Secret32::new(TENANT_KEY),
            &NewKey {
                key_id: KeyId([number; 16]),
                key: &ContentKey::new([number ^ 0xff; 16]),
                scheme,
                track,
                period,
                starts_ms: (period > 0).then_some(period * 1_000),
                created: 1_700_000_000,
                nonce: [number; 12],
            },
        )
    }

    fn film() -> TitleKeys {
        let mut title = TitleKeys::new("acme", "film-1").unwrap();
        add(&mut title, 1, "cbcs", TrackClass::Audio, 0).unwrap();
        add(&mut title, 2, "cbcs", TrackClass::Hd, 0).unwrap();
        add(&mut title, 3, "cenc", TrackClass::Hd, 0).unwrap();
        add(&mut title, 4, "cbcs", TrackClass::Hd, 1).unwrap();
        title
    }

    /// The file of a title, as it is written at a time.
    fn text(mut title: TitleKeys, now: u64) -> String {
        title.write(&Secret32::new(TENANT_KEY), now).unwrap()
    }

    fn read(json: &str) -> Result<TitleKeys, VaultError> {
        let mut title = TitleKeys::parse(json.as_bytes())?;
        title.prove(&Secret32::new(TENANT_KEY))?;
        Ok(title)
    }

    fn opened(title: &TitleKeys) -> Result<Vec<(u8, bool)>, VaultError> {
        let keys = title.open(&Secret32::new(TENANT_KEY))?;
        let numbers = keys.iter().map(|key| {
            let number = key.key_id.0[0];
            assert_eq!(key.key.expose(), &[number ^ 0xff; 16]);
            (number, key.encrypts())
        });
        Ok(numbers.collect())
    }

    #[test]
    fn keys_open_as_they_were_sealed() {
        let title = read(&text(film(), 0)).unwrap();
        assert_eq!(title, TitleKeys { sequence: 1, ..film() });
        assert_eq!((title.tenant(), title.content()), ("acme", "film-1"));
        assert_eq!(opened(&title).unwrap(), [(1, true), (2, true), (3, true), (4, true)]);
        let found = |scheme, track, period| title.find(scheme, track, period).map(|key| key.key_id.0[0]);
        assert_eq!(found("cbcs", TrackClass::Hd, 0), Some(2));
        assert_eq!(found("cbcs", TrackClass::Hd, 1), Some(4));
        assert_eq!(found("cbcs", TrackClass::Sd, 0), None);
        assert_eq!(found("cenc", TrackClass::Audio, 0), None);
        assert_eq!(title.key(KeyId([4; 16])).unwrap().starts_ms, Some(1_000));
    }

    #[test]
    fn states_go_down_alone() {
        let mut title = film();
        let mut check = |number: u8, state, expected: Result<bool, VaultError>, open: &[(u8, bool)]| {
            assert_eq!(title.set_state(KeyId([number; 16]), state), expected);
            assert_eq!(opened(&title).unwrap(), open);
            let sequence = title.sequence + 1;
            assert_eq!(
                read(&text(title.clone(), 0)).unwrap(),
                TitleKeys {
                    sequence,
                    ..title.clone()
                }
            );
        };
        let all = [(1, true), (2, true), (3, true), (4, true)];
        let key_id = KeyId([9; 16]);
        check(9, KeyState::Retired, Err(VaultError::NoKey { key_id }), &all);
        check(2, KeyState::Active, Ok(false), &all);
        check(
            2,
            KeyState::Retired,
            Ok(true),
            &[(1, true), (2, false), (3, true), (4, true)],
        );
        check(2, KeyState::Revoked, Ok(true), &[(1, true), (3, true), (4, true)]);
        let key_id = KeyId([2; 16]);
        let back = VaultError::State {
            key_id,
            from: KeyState::Revoked,
            to: KeyState::Active,
        };
        check(2, KeyState::Active, Err(back), &[(1, true), (3, true), (4, true)]);
        check(1, KeyState::Destroyed, Ok(true), &[(3, true), (4, true)]);
        check(1, KeyState::Destroyed, Ok(false), &[(3, true), (4, true)]);
        let json = text(title.clone(), 0);
        assert_eq!(json.matches("\"sealed\"").count(), 3, "{json}");
        // The use is free again, the name is not.
        assert!(title.find("cbcs", TrackClass::Audio, 0).is_none());
        let taken = add(&mut title, 1, "cbcs", TrackClass::Audio, 0);
        assert_eq!(taken, Err(VaultError::KeyIdTaken { key_id: KeyId([1; 16]) }));
        add(&mut title, 5, "cbcs", TrackClass::Audio, 0).unwrap();
        assert_eq!(opened(&title).unwrap(), [(3, true), (4, true), (5, true)]);
    }

    #[test]
    fn one_use_has_one_active_key() {
        let mut title = film();
        let before = title.clone();
        let mut check = |number, scheme: &str, track, period, expected| {
            assert_eq!(add(&mut title, number, scheme, track, period), Err(expected));
            assert_eq!(title, before);
        };
        let taken = VaultError::UseTaken {
            scheme: "cbcs".into(),
            track: TrackClass::Hd,
            period: 0,
            key_id: KeyId([2; 16]),
        };
        check(7, "cbcs", TrackClass::Hd, 0, taken);
        check(7, "clear", TrackClass::Hd, 0, VaultError::Name { what: "scheme" });
        let key_id = KeyId([1; 16]);
        check(1, "cenc", TrackClass::Sd, 0, VaultError::Nonce { key_id });
    }

    #[test]
    fn rows_that_were_moved_or_changed_do_not_open() {
        let json = text(film(), 0);
        let check = |from: &str, to: &str| {
            assert!(json.contains(from), "{from}");
            let mut title = TitleKeys::parse(json.replacen(from, to, 1).as_bytes()).unwrap();
            assert_eq!(opened(&title), Err(VaultError::States));
            // Nor would they without the MAC.
            title.proof = Proof::Own;
            let error = opened(&title).unwrap_err();
            assert!(
                matches!(
                    error,
                    VaultError::Sealed {
                        source: WrapError::Integrity,
                        ..
                    }
                ),
                "{error}"
            );
        };
        check("acme", "acma");
        check("film-1", "film-2");
        check("AUDIO", "UHD2");
        check("cbcs", "cens");
        check("\"period\": 0", "\"period\": 9");
        check("01010101-", "01010102-");
        check("\"nonce\": \"01", "\"nonce\": \"02");
        let error = film().open(&Secret32::new([8; 32])).err().unwrap();
        assert_eq!(
            error.to_string(),
            "key 01010101-0101-0101-0101-010101010101: the key does not open: wrong key, wrong use, or damaged"
        );
    }

    #[test]
    fn a_file_that_is_not_one_is_refused() {
        let json = text(film(), 0);
        for end in 0..json.len() - 2 {
            let cut = json.get(..end).unwrap();
            assert!(TitleKeys::parse(cut.as_bytes()).is_err(), "{end}");
        }
        let check = |from: &str, to: &str, expected: &str| {
            assert!(json.contains(from), "{from}");
            let error = TitleKeys::parse(json.replacen(from, to, 1).as_bytes()).err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains(expected), "{to}: {text}");
        };
        check("\"format\": 2", "\"format\": 3", "has format 3");
        check(
            "\"period\"",
            "\"periods\"",
            "line 12, column 15: a member that is missing, not known",
        );
        check("\"state\": \"active\"", "\"state\": \"alive\"", "line 13");
        check(
            "\"state\": \"active\"",
            "\"state\": \"destroyed\"",
            "destroyed does not fit",
        );
        check("\"nonce\": \"01", "\"nonce\": \"", "nonce or sealed key");
        check("\"nonce\": \"01", "\"nonce\": \"x1", "nonce or sealed key");
        check("\"sealed\"", "\"sealed\": null, \"starts_ms\"", "another kind");
        check(
            "02020202-0202-0202-0202-020202020202",
            "01010101-0101-0101-0101-010101010101",
            "in this title already",
        );
    }

    #[test]
    fn whoever_writes_the_file_can_not_bring_a_key_back() {
        let mut title = film();
        title.set_state(KeyId([2; 16]), KeyState::Revoked).unwrap();
        let json = text(title.clone(), 1_000);
        let whole = read(&json).unwrap();
        assert_eq!((whole.sequence(), opened(&whole).unwrap().len()), (1_000, 3));
        let check = |from: &str, to: &str| {
            assert!(json.contains(from), "{from}");
            let changed = json.replacen(from, to, 1);
            let error = read(&changed).unwrap_err();
            assert_eq!(error, VaultError::States, "{to}");
            // Not proved, it is not written either.
            let mut title = TitleKeys::parse(changed.as_bytes()).unwrap();
            let written = title.write(&Secret32::new(TENANT_KEY), 0);
            assert_eq!(written, Err(VaultError::States));
        };
        check("\"revoked\"", "\"active\"");
        check("\"revoked\"", "\"retired\"");
        check("\"starts_ms\": 1000", "\"starts_ms\": 0");
        check("\"created\": 17", "\"created\": 18");
        check("\"sequence\": 1000", "\"sequence\": 1001");
        let mut shorter: TitleJson = serde_json::from_str(&json).unwrap();
        shorter.keys.remove(1);
        let shorter = serde_json::to_string(&shorter).unwrap();
        assert_eq!(read(&shorter).unwrap_err(), VaultError::States);
        // White space says nothing.
        assert_eq!(read(&json.replace("  ", "\t")).unwrap(), whole);
        let other = TitleKeys::parse(json.as_bytes()).unwrap().open(&Secret32::new([8; 32]));
        assert_eq!(other.err(), Some(VaultError::States));

        // Made to look like one of the format before, it opens for nobody.
        let mut old: TitleJson = serde_json::from_str(&json.replace("revoked", "active")).unwrap();
        (old.format, old.sequence, old.mac) = (FORMAT_BEFORE, None, None);
        let mut old = TitleKeys::parse(serde_json::to_string(&old).unwrap().as_bytes()).unwrap();
        assert_eq!(opened(&old), Err(VaultError::NoMac));
        let upgraded: Result<(), VaultError> = old.upgrade(&Secret32::new(TENANT_KEY), || Ok([7; 12]));
        assert!(matches!(upgraded, Err(VaultError::Sealed { .. })), "{upgraded:?}");
    }

    #[test]
    fn sequences_grow_with_changes_and_with_time() {
        let mut title = film();
        let mut check = |now, expected| {
            let json = title.write(&Secret32::new(TENANT_KEY), now).unwrap();
            assert_eq!(read(&json).unwrap().sequence(), expected);
        };
        check(0, 1);
        check(0, 2);
        check(100, 100);
        check(50, 101);
        check(u64::MAX, u64::MAX);
        check(0, u64::MAX);
    }

    #[test]
    fn the_format_before_is_brought_into_this_one_by_hand() {
        let mut title = TitleKeys {
            format: FORMAT_BEFORE,
            ..TitleKeys::new("acme", "film-1").unwrap()
        };
        for (number, class) in (1..=3).zip(TrackClass::ALL.into_iter().skip(1)) {
            add(&mut title, number, "cbcs", class, 0).unwrap();
        }
        title.set_state(KeyId([2; 16]), KeyState::Revoked).unwrap();
        title.set_state(KeyId([3; 16]), KeyState::Destroyed).unwrap();
        let json = write_json(&title.json());
        assert!(!json.contains("sequence") && !json.contains("mac"), "{json}");
        let mut old = TitleKeys::parse(json.as_bytes()).unwrap();
        assert!(old.is_old());
        assert_eq!(opened(&old), Err(VaultError::NoMac));
        assert_eq!(old.write(&Secret32::new(TENANT_KEY), 0), Err(VaultError::States));
        let mut nonce = 100;
        let mut draw = || -> Result<[u8; 12], VaultError> {
            nonce += 1;
            Ok([nonce; 12])
        };
        old.upgrade(&Secret32::new(TENANT_KEY), &mut draw).unwrap();
        old.upgrade(&Secret32::new(TENANT_KEY), &mut draw).unwrap();
        let states = |title: &TitleKeys| title.keys().iter().map(SealedKey::state).collect::<Vec<_>>();
        assert_eq!(states(&old), [KeyState::Active, KeyState::Revoked, KeyState::Destroyed]);
        let new = read(&text(old, 5)).unwrap();
        assert_eq!(opened(&new).unwrap(), [(1, true)]);
        let nonces: Vec<u8> = new
            .keys
            .iter()
            .filter_map(|key| key.sealed)
            .map(|(nonce, _)| nonce[0])
            .collect();
        assert_eq!(nonces, [101, 102]);
    }

    #[test]
    fn too_many_keys_are_refused() {
        let mut title = TitleKeys::new("acme", "film-1").unwrap();
        let row = film().keys.first().unwrap().clone();
        for number in 0..limits::TITLE_KEY_COUNT_MAX as u128 {
            let (key_id, period) = (KeyId(number.to_be_bytes()), u64::MAX - number as u64);
            let starts_ms = Some(u64::MAX);
            let row = row.clone();
            let scheme = "sampleaes".to_owned();
            title
                .push(SealedKey {
                    key_id,
                    period,
                    starts_ms,
                    scheme,
                    ..row
                })
                .unwrap();
        }
        let full = title.push(SealedKey {
            key_id: KeyId([0xff; 16]),
            ..row
        });
        assert!(matches!(full, Err(VaultError::Count { .. })));
        let json = text(title.clone(), 0);
        assert!(json.len() <= limits::TITLE_KEYS_SIZE_BYTES_MAX, "{}", json.len());
        assert_eq!(read(&json).unwrap(), TitleKeys { sequence: 1, ..title });
    }
}
