//! `headwater origin`: serves a library until told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use origin::Origin;
use origin::config::Section;

use crate::cli::OriginArguments;
use crate::keys::kek;
use crate::{config, service, shutdown};

/// Runs the origin with the configuration file's section, arguments winning.
pub fn run(arguments: OriginArguments) -> anyhow::Result<ExitCode> {
    let inherited = service::inherited_sockets()?;
    let mut section = match &arguments.config {
        Some(path) => config::read(path)?.origin.unwrap_or_default(),
        None => Section::default(),
    };
    section.library = arguments.library.or(section.library);
    section.listen = arguments.listen.unwrap_or(section.listen);
    section.player = arguments.player.or(section.player);
    section.cache = arguments.cache.or(section.cache);
    let (origin, count) = open(section)?;
    let reloaded = origin.clone();
    let stop = shutdown::watch_signals(Some(Box::new(move || reloaded.reload())))?;
    let library = origin.config().library.clone();
    let passed = inherited.is_some();
    origin.serve_at(inherited, stop, |addresses| {
        let library = library.display();
        let address = |of: Option<std::net::SocketAddr>| of.map(tracing::field::display);
        let (address, tls) = (address(addresses.plain), address(addresses.tls));
        tracing::info!(address, tls, passed, %library, entries = count, "serving");
        service::tell("READY=1");
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The origin that `section` says, which listens nowhere yet, and how many entries its library has.
pub fn open(section: Section) -> anyhow::Result<(Arc<Origin>, usize)> {
    let mut config = section.check()?;
    if let Some(protection) = &mut config.protection {
        protection.open_kek = kek::open;
    }
    let origin = Origin::new(config)?;
    let count = origin.store().scan()?.len();
    Ok((origin, count))
}
