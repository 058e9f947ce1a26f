//! Address: which servers may be asked, by URL and by where their names lead.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Those that belong to the whole internet; loopback only where a URL says so in digits.
    #[default]
    Public,
    /// The operator's own networks too.
    Private,
}

/// Why a URL is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL with a host.
    #[error("not a URL with a host")]
    NotOne,
    /// No TLS, and not this very machine.
    #[error("must be https; http is for 127.0.0.1 and [::1] alone")]
    Scheme,
    /// Something that belongs into a file with secrets.
    #[error("must not hold a user or a password")]
    User,
    /// An address that does not belong to the whole internet.
    #[error("leads into a private network, which is not allowed unless the configuration says so")]
    Private,
}

/// Reads a URL that requests go to. `http` is taken for loopback addresses in digits alone: a name can change.
pub fn check_url(text: &str, reach: Reach) -> Result<Uri, UrlError> {
    let url: Uri = text.parse().map_err(|_| UrlError::NotOne)?;
    let authority = url.authority().ok_or(UrlError::NotOne)?;
    if authority.as_str().contains('@') {
        return Err(UrlError::User);
    }
    let host = authority.host();
    let digits = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address: Option<IpAddr> = digits.unwrap_or(host).parse().ok();
    if host.is_empty() || (address.is_none() && is_odd_number(host)) {
        return Err(UrlError::NotOne);
    }
    let loopback = address.is_some_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if loopback => {}
        Some(_) => return Err(UrlError::Scheme),
        None => return Err(UrlError::NotOne),
    }
    match address {
        Some(address) if !loopback && reach == Reach::Public && !is_public(address) => Err(UrlError::Private),
        _ => Ok(url),
    }
}

/// `0x7f.1`, `2130706433`, `127.1`: forms of addresses that resolvers take for such and people for names.
fn is_odd_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
}

/// `url` with `name=value` at the end of its query. `None` when it is too long for one.
pub fn with_query(url: &Uri, name: &str, value: &str) -> Option<Uri> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut path = path.to_owned();
    path.push(if path.contains('?') { '&' } else { '?' });
    push_encoded(&mut path, name);
    path.push('=');
    push_encoded(&mut path, value);
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// What RFC 3986 leaves unreserved, and the marks that vendors write bare in their examples.
fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' | b'(' | b')' | b',' | b':' => {
                out.push(char::from(byte));
            }
            _ => *out += &format!("%{byte:02X}"),
        }
    }
}

/// Whether an address belongs to the whole internet: not private, loopback, link-local, shared (CGNAT), multicast,
/// unspecified, reserved or for documentation, in none of the forms that IPv4 addresses have in IPv6.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let reserved = match a {
        0 | 10 | 127 | 224..=255 => true,
        100 => (64..128).contains(&b),
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // ::, ::1, and IPv4 addresses written in one way or another.
        (0, 0) => (c, d, e, f) == (0, 0, 0, 0xffff) && embedded(g, h),
        // NAT64, whose well-known prefix is global and whose local one is not.
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && embedded(g, h),
        (0x2002, _) => embedded(b, c),
        // Teredo, benchmarks, documentation and others of the special block 2001::/23; documentation again.
        (0x2001, 0..=0x01ff) | (0x2001, 0x0db8) => false,
        (0x3fff, 0..=0x0fff) => false,
        // Unicast that is given out at all.
        (0x2000..=0x3fff, _) => true,
        _ => false,
    }
}

/// Resolves names, and gives out what may be connected to. Connections are made to these very addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    pub(super) reach: Reach,
}

type Addresses = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for Guard {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = self.reach;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let all: Vec<SocketAddr> = found.collect();
            allowed(reach, all).map(Vec::into_iter)
        })
    }
}

/// One address that may not be reached spoils the name: it would be a way to try until one works.
fn allowed(reach: Reach, addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let may = |address: &SocketAddr| reach == Reach::Private || is_public(address.ip());
    match addresses.iter().all(may) {
        true => Ok(addresses),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "a private address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_whole_internet_are_told_from_others() {
        let check = |text: &str, expected| {
            let address: IpAddr = text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            assert_eq!(is_public(address), expected, "{text}");
        };
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            check(public, true);
        }
        for other in [
            "0.0.0.0",
            "10.0.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "100.64.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "4000::1",
        ] {
            check(other, false);
        }
    }

    #[test]
    fn urls_are_https_or_this_machine() {
        let check = |text: &str, reach, expected: Option<UrlError>| {
            assert_eq!(check_url(text, reach).err(), expected, "{text}");
        };
        check("https://license.example/x?y=1", Reach::Public, None);
        check("https://8.8.8.8/x", Reach::Public, None);
        check("http://127.0.0.1:9/x", Reach::Public, None);
        check("http://[::1]:9/x", Reach::Public, None);
        check("https://127.0.0.1:9/x", Reach::Public, None);
        check("https://10.0.0.1/x", Reach::Private, None);
        check("https://10.0.0.1/x", Reach::Public, Some(UrlError::Private));
        check("https://[fd00::1]/x", Reach::Public, Some(UrlError::Private));
        check("https://[::ffff:10.0.0.1]/x", Reach::Public, Some(UrlError::Private));
        check("http://10.0.0.1/x", Reach::Private, Some(UrlError::Scheme));
        check("http://license.example/x", Reach::Public, Some(UrlError::Scheme));
        check("http://localhost/x", Reach::Public, Some(UrlError::Scheme));
        check("ftp://license.example/x", Reach::Public, Some(UrlError::Scheme));
        check(
            "https://user:word@license.example/",
            Reach::Public,
            Some(UrlError::User),
        );
        for wrong in [
            "",
            "/x",
            "license.example",
            "https://",
            "https:///x",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://127.1/",
        ] {
            check(wrong, Reach::Private, Some(UrlError::NotOne));
        }
    }

    #[test]
    fn one_private_address_spoils_a_name() {
        let addresses =
            |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().filter_map(|text| text.parse().ok()).collect() };
        let check = |reach, texts: &[&str], expected| {
            assert_eq!(allowed(reach, addresses(texts)).is_ok(), expected, "{texts:?}");
        };
        check(Reach::Public, &["8.8.8.8:0", "[2606:4700::1]:0"], true);
        check(Reach::Public, &["8.8.8.8:0", "127.0.0.1:0"], false);
        check(Reach::Public, &["[::1]:0"], false);
        check(Reach::Private, &["8.8.8.8:0", "127.0.0.1:0"], true);
    }

    #[test]
    fn queries_are_added_and_encoded() {
        let check = |url: &str, value: &str, expected: &str| {
            let url: Uri = url.parse().unwrap_or_default();
            assert_eq!(
                with_query(&url, "q", value).map(|url| url.to_string()).as_deref(),
                Some(expected)
            );
        };
        check("https://a.example", "1", "https://a.example/?q=1");
        check("https://a.example/x", "(a:b,c)", "https://a.example/x?q=(a:b,c)");
        check(
            "https://a.example/x?y=1",
            "a+b/c= &é",
            "https://a.example/x?y=1&q=a%2Bb%2Fc%3D%20%26%C3%A9",
        );
    }
}
