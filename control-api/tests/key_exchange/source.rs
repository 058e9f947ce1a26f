//! Source of keys in memory, and a server on loopback with it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use control_api::key_exchange::{
    Contract, Credentials, Key, KeySet, KeySource, KeySourceError, TrackType, Wanted, WantedKey, router,
};
use packager::crypto::{ContentKey, KeyId};
use sha2::{Digest, Sha256};

/// Whose title, and which.
type Title = (String, String);

/// Keys made from what they are for, so that a test can tell them.
#[derive(Default)]
pub struct Memory {
    titles: Mutex<BTreeMap<Title, Vec<Key>>>,
}

fn digest(parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize()[..16].try_into().unwrap()
}

impl Memory {
    fn one(&self, contract: &Contract, wanted: &WantedKey) -> Result<Key, KeySourceError> {
        let title = (contract.tenant.clone(), contract.content_id.clone());
        let mut titles = self.titles.lock().unwrap();
        let keys = titles.entry(title).or_default();
        let same_use = |key: &Key| {
            key.scheme == wanted.scheme && key.track_type == wanted.track_type && key.period == wanted.period
        };
        let found = keys.iter().find(|key| match wanted.key_id {
            Some(id) => key.key_id == id && key.period == wanted.period,
            None => same_use(key),
        });
        if let Some(key) = found {
            let conflict = key.scheme.is_some() && wanted.scheme.is_some() && key.scheme != wanted.scheme;
            return if conflict {
                Err(KeySourceError::KeyInUse(key.key_id))
            } else {
                Ok(key.clone())
            };
        }
        let scheme = wanted.scheme.map_or("any", |scheme| scheme.name());
        let period = wanted.period.to_string();
        let parts = [
            &contract.tenant,
            &contract.content_id,
            scheme,
            wanted.track_type.name(),
            &period,
        ];
        let key_id = wanted.key_id.unwrap_or_else(|| KeyId(digest(&parts)));
        let key = Key {
            key_id,
            key: ContentKey::new(digest(&[&key_id.hex(), &contract.content_id, &period])),
            scheme: wanted.scheme,
            track_type: wanted.track_type.clone(),
            period: wanted.period,
            iv: wanted.iv,
        };
        keys.push(key.clone());
        Ok(key)
    }

    /// The keys of a title that there are.
    pub fn existing(&self, tenant: &str, content_id: &str) -> Vec<Key> {
        let title = (tenant.to_owned(), content_id.to_owned());
        self.titles.lock().unwrap().get(&title).cloned().unwrap_or_default()
    }
}

impl KeySource for Memory {
    fn keys(&self, contract: &Contract) -> Result<KeySet, KeySourceError> {
        let keys = match &contract.wanted {
            Wanted::Existing => self.existing(&contract.tenant, &contract.content_id),
            Wanted::Keys(wanted) => {
                let keys = wanted.iter().map(|wanted| self.one(contract, wanted));
                keys.collect::<Result<_, _>>()?
            }
        };
        Ok(KeySet { keys })
    }

    fn store(&self, tenant: &str, content_id: &str, keys: &KeySet) -> Result<(), KeySourceError> {
        let mut titles = self.titles.lock().unwrap();
        let held = titles.entry((tenant.to_owned(), content_id.to_owned())).or_default();
        for key in &keys.keys {
            match held.iter().find(|other| other.key_id == key.key_id) {
                Some(other) if other.key.expose() != key.key.expose() => {
                    return Err(KeySourceError::KeyInUse(key.key_id));
                }
                Some(_) => {}
                None => held.push(key.clone()),
            }
        }
        Ok(())
    }
}

/// A key that is asked for by name.
pub fn wanted(key_id: KeyId, scheme: packager::crypto::ProtectionScheme, track_type: &str, period: u64) -> WantedKey {
    WantedKey {
        key_id: Some(key_id),
        scheme: Some(scheme),
        track_type: TrackType::parse(track_type).unwrap(),
        period,
        iv: None,
    }
}

/// A server on loopback, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub source: Arc<Memory>,
    _runtime: tokio::runtime::Runtime,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }
}

impl Server {
    pub fn start(credentials: Credentials) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let source = Arc::new(Memory::default());
        let router = router(source.clone(), credentials);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Server {
            address,
            source,
            _runtime: runtime,
        }
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: keys\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}
