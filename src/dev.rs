//! `headwater dev`: all roles in one process, on one folder, for one's own machine.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use origin::Origin;
use origin::protect::Titles;

use crate::cli::DevArguments;
use crate::{control, grant, keys, licences, print, shutdown};

/// Runs the origin and the control API until told to stop.
pub fn run(arguments: DevArguments) -> anyhow::Result<ExitCode> {
    let data = &arguments.data;
    let library = arguments.library.clone().unwrap_or_else(|| data.join("library"));
    for folder in [data, &library] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let (keys, revoked) = (grant_keys(data.join("grant.key"))?, data.join("revoked"));
    if !revoked.exists() {
        std::fs::write(&revoked, "").with_context(|| revoked.display().to_string())?;
    }
    let (vault, kek) = (data.join("vault"), data.join("vault.kek"));
    keys::make_vault(&vault, &kek)?;
    let desk = licences::dev_desk(&vault, &kek)?;
    let origin = Origin::new(
        origin::config::Section {
            library: Some(library.clone()),
            listen: arguments.origin_listen.clone(),
            access: Some(origin::config::AccessSection {
                grant_keys: keys.clone(),
                revoked: Some(revoked.clone()),
            }),
            protection: Some(origin::config::ProtectionSection {
                vault: vault.clone(),
                kek: kek.clone(),
                titles: Titles::Keyed,
                scheme: None,
                ts: None,
                clear_lead_s: 0,
                sample_groups: false,
                output: Default::default(),
                systems: Default::default(),
            }),
            ..origin::config::Section::default()
        }
        .check()?,
    )?;
    let mut section = control_api::config::Section {
        listen: arguments.listen.clone(),
        data: data.clone(),
        public_url: format!("http://{}", arguments.listen),
        delivery_url: format!("http://{}", arguments.origin_listen),
        grant_keys: Some(keys),
        revoked: Some(revoked),
        require_https: false,
        ..control_api::config::Section::default()
    };
    // What only works on one's own machine is what it is for.
    section.settings.drm.allow_clearkey = true;
    let stop = shutdown::watch_signals(None)?;
    let stop_origin = stop.clone();
    let serving = std::thread::Builder::new()
        .name("origin".into())
        .spawn(move || origin.serve(stop_origin, |address| tracing::info!(%address, "serving media")))?;
    control::runtime()?.block_on(async {
        let opened = control::open(section.check()?, Some(desk)).await?;
        #[cfg(feature = "transcode")]
        let worker = tokio::spawn(crate::transcode::queue::serve(
            opened.app.clone(),
            crate::transcode::queue::Settings {
                library,
                ladder: transcoder::ladder::Ladder::default(),
                preference: transcoder::encoder::Preference::default(),
                segment_duration_ms: crate::transcode::queue::SEGMENT_DURATION_MS,
                worker_count: None,
                chunk_duration_ms: None,
                program: crate::transcode::program()?,
            },
            stop.clone(),
        ));
        // Its job is given back while there is a database.
        #[cfg(feature = "transcode")]
        let stop = after(worker, stop);
        let told = opened.serve(stop, |address| {
            let data = arguments.data.display();
            let printed = writeln!(
                print::out(),
                "API       http://{address}/api/v1/docs\nan admin  headwater admin create --data {data} --email you@example.org"
            );
            // What serves goes on: the log has the address, too.
            if let Err(error) = printed {
                tracing::warn!(%error, %address, "where the API is was not printed");
            }
        });
        told.await.context("control")
    })?;
    match serving.join() {
        Ok(served) => served.context("origin")?,
        Err(_) => anyhow::bail!("the origin ended badly"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A flag that turns true once `stop` did and `worker` has ended.
#[cfg(feature = "transcode")]
fn after(
    worker: tokio::task::JoinHandle<()>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> tokio::sync::watch::Receiver<bool> {
    let (sender, receiver) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        // A watcher that is gone will never say so.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
        if let Err(error) = worker.await {
            tracing::error!(%error, "the worker ended badly");
        }
        // The receiver may be gone already, then there is nothing left to stop.
        let _ = sender.send(true);
    });
    receiver
}

/// The file of grant keys, made where there is none.
fn grant_keys(path: PathBuf) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        grant::new_key(&path).with_context(|| path.display().to_string())?;
    }
    Ok(path)
}
