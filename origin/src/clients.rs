//! How many connections each client has: none may have them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// One client: an IPv4 address, or the /64 of an IPv6 address, which one host may have whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(u64);

impl Client {
    /// The client behind `address`.
    pub fn new(address: IpAddr) -> Client {
        match address.to_canonical() {
            // In 0000::/32, which is nobody's.
            IpAddr::V4(address) => Client(u64::from(address.to_bits())),
            IpAddr::V6(address) => Client((address.to_bits() >> 64) as u64),
        }
    }
}

/// The connections of all clients, for all threads. Asked once a connection.
#[derive(Debug)]
pub struct Clients {
    connections_max: Option<u32>,
    connections: Mutex<HashMap<Client, u32>>,
}

impl Clients {
    /// Nobody yet; no client may have more than `connections_max`.
    pub fn new(connections_max: Option<u32>) -> Arc<Clients> {
        Arc::new(Clients {
            connections_max,
            connections: Mutex::default(),
        })
    }

    /// A place for one more connection of `address`; `None` when it has enough.
    pub fn enter(self: &Arc<Clients>, address: IpAddr) -> Option<Place> {
        let Some(most) = self.connections_max else {
            return Some(Place(None));
        };
        let client = Client::new(address);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place(Some((self.clone(), client))))
    }
}

/// A client's right to one connection, given back when dropped.
#[derive(Debug)]
pub struct Place(Option<(Arc<Clients>, Client)>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some((clients, client)) = self.0.take() else {
            return;
        };
        let mut connections = clients.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                connections.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart() {
        let check = |a: &str, b: &str, same: bool| {
            let client = |text: &str| Client::new(text.parse().unwrap());
            assert_eq!(client(a) == client(b), same, "{a} {b}");
        };
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true);
        check("2001:db8:0:1::1", "2001:db8:0:2::1", false);
    }

    #[test]
    fn a_client_has_only_so_many() {
        let clients = Clients::new(Some(2));
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = clients.enter(one).unwrap();
        let _second = clients.enter(one).unwrap();
        assert!(clients.enter(one).is_none());
        let _other = clients.enter(other).unwrap();
        drop(first);
        let _third = clients.enter(one).unwrap();
        assert!(clients.enter(one).is_none());
        drop((_second, _third, _other));
        assert!(clients.connections.lock().unwrap().is_empty());
        let unlimited = Clients::new(None);
        let all: Vec<_> = (0..10_000).map(|_| unlimited.enter(one).unwrap()).collect();
        assert!(unlimited.connections.lock().unwrap().is_empty());
        drop(all);
    }
}
