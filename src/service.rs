//! The service manager (systemd or one like it): sockets that it passes, and what it is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::Context;
use listenfd::ListenFd;
use origin::Inherited;

/// Name of a passed socket for TLS (`FileDescriptorName=`); any other is for plain HTTP.
const TLS_SOCKET: &str = "https";

/// The sockets that were passed to this process (`LISTEN_FDS`), if any.
pub fn inherited_sockets() -> anyhow::Result<Option<Inherited>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default();
        let listener = passed.take_tcp_listener(index);
        let listener = listener.with_context(|| format!("socket {index} \"{name}\" that was passed"))?;
        let place = match name {
            TLS_SOCKET => &mut inherited.tls,
            _ => &mut inherited.plain,
        };
        if place.is_some() {
            anyhow::bail!("two sockets were passed for the same: one \"http\" and one \"{TLS_SOCKET}\" are taken");
        }
        *place = listener;
    }
    Ok((inherited.plain.is_some() || inherited.tls.is_some()).then_some(inherited))
}

/// Tells the service manager `state`, where there is one that wants to know (`NOTIFY_SOCKET`).
pub fn tell(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let told = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    }
    .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, state, "the service manager could not be told");
    }
}
