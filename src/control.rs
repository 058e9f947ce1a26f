//! `headwater control`: the control API until told to stop; `headwater admin`: what is done to it from outside.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use control_api::admin::Fixture;
use control_api::app::Means;
use control_api::billing::payment::{Manual, PaymentProvider};
use control_api::billing::stripe;
use control_api::config::{Config, StripeSection};
use control_api::issuer::keys::Issuers;
use control_api::license::Desk;
use control_api::secrets::SecretBox;
use control_api::serve::{self, Opened};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zeroize::Zeroizing;

use crate::cli::{AdminArguments, AdminCommand, ControlArguments, ControlPlace, CreateAdminArguments, LoadArguments};
use crate::config::Control;
use crate::keys::credentials::{Secret, read_secret, without_secrets};
use crate::remote::Remote;
use crate::{config, grant, licences, print, service, shutdown};

/// Threads that answer.
const THREAD_COUNT_MIN: usize = 2;

/// Descriptors that are not connections: files, the database, what it is told to fetch.
const OTHER_FILE_COUNT: u64 = 512;

/// Runs the control API.
pub fn run(arguments: ControlArguments) -> anyhow::Result<ExitCode> {
    let Control { api, licences } = control(&arguments.place)?;
    let mut section = api;
    section.listen = arguments.listen.unwrap_or(section.listen);
    section.require_https &= !arguments.allow_http;
    raise_file_count(section.connection_count_max);
    let desk = licences.as_ref().map(licences::api_desk).transpose()?;
    let stop = shutdown::watch_signals(None)?;
    runtime()?.block_on(async {
        let opened = open(section.check()?, desk).await?;
        let served = opened.serve(stop, |address| {
            tracing::info!(%address, "answering the API");
            service::tell("READY=1");
        });
        served.await.context("control")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Takes as many descriptors as the system gives: each connection needs one.
fn raise_file_count(connection_count: usize) {
    let most = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: most,
        maximum: most,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let needed = (connection_count as u64).saturating_add(OTHER_FILE_COUNT);
    if let Some(current) = getrlimit(Resource::Nofile).current.filter(|current| *current < needed) {
        tracing::warn!(
            current,
            needed,
            "control.connection_count_max is more than open files allow"
        );
    }
}

/// Runs `headwater admin`.
pub fn admin(arguments: AdminArguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        AdminCommand::Create(arguments) => create(&arguments)?,
        AdminCommand::RotateKeys(place) => {
            let config = control(&place)?.api.check()?;
            runtime()?.block_on(async {
                let opened = open(config, None).await?;
                let done = opened.app.rotate_token_keys().await;
                opened.close().await;
                done.map_err(said)
            })?;
            writeln!(print::out(), "a new key signs from now on")?;
        }
        AdminCommand::Load(arguments) => load(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(arguments: &LoadArguments) -> anyhow::Result<()> {
    let named = || arguments.file.display().to_string();
    let text = std::fs::read_to_string(&arguments.file).with_context(named)?;
    let fixture: Fixture = toml::from_str(&text).with_context(named)?;
    let config = control(&arguments.place)?.api.check()?;
    let rules = runtime()?.block_on(async {
        let opened = open(config, None).await?;
        let loaded = control_api::admin::load(&opened.app, &fixture).await;
        opened.close().await;
        loaded.map_err(said).with_context(named)
    })?;
    let mut out = print::out();
    for (name, id) in rules {
        writeln!(out, "geo_rule  {id}  {name}")?;
    }
    writeln!(out, "genres    {}", fixture.genre.len())?;
    Ok(())
}

fn create(arguments: &CreateAdminArguments) -> anyhow::Result<()> {
    let (password, made) = match &arguments.password_file {
        Some(path) => (read_password(path)?, false),
        None => (control_api::secrets::new_token("")?, true),
    };
    let config = control(&arguments.place)?.api.check()?;
    // Nobody could sign in to an account whose password was lost: whether anybody takes what is printed is found out first.
    // What goes wrong is no cause of the error, for a pipe that broke is no quiet end here either.
    let mut out = print::out();
    let printed = writeln!(out, "email     {}", arguments.email).and_then(|()| out.flush());
    printed.map_err(|error| anyhow::anyhow!("{error}: no account was made"))?;
    let id = runtime()?.block_on(async {
        let opened = open(config, None).await?;
        let created = control_api::admin::create(&opened.app, &arguments.name, &arguments.email, &password).await;
        opened.close().await;
        created.map_err(said).with_context(|| arguments.email.clone())
    })?;
    let mut rest = Zeroizing::new(format!("admin     {id}\n"));
    if made {
        rest.push_str(&format!("password  {}\n", *password));
    }
    let printed = out.write_all(rest.as_bytes()).and_then(|()| out.flush());
    if let (Err(_), true) = (&printed, made) {
        // The only copy: better here than lost, for the account is there.
        print::remark(format_args!("{}", rest.trim_end()));
    }
    Ok(printed?)
}

fn read_password(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(|| path.display().to_string())?);
    let line = text.lines().next().unwrap_or_default();
    ensure!(
        (8..=256).contains(&line.chars().count()),
        "{}: 8 to 256 characters make a password",
        path.display()
    );
    Ok(Zeroizing::new(line.to_owned()))
}

/// What went wrong, for people here: they may know the cause, and the message of an answer leaves the fields to its details.
fn said(error: control_api::error::ApiError) -> anyhow::Error {
    let details = error.details.iter().map(|row| format!("{} {}", row.field, row.message));
    let details = details.collect::<Vec<_>>().join("; ");
    match (error.cause, details.is_empty()) {
        (Some(cause), _) => anyhow::anyhow!("{cause}"),
        (None, false) => anyhow::anyhow!("{details}"),
        (None, true) => anyhow::anyhow!("{}", error.message),
    }
}

/// The sections of the configuration file, with what the arguments say.
pub fn control(place: &ControlPlace) -> anyhow::Result<Control> {
    let mut control = match &place.config {
        Some(path) => config::read(path)?.control.unwrap_or_default(),
        None => Control::default(),
    };
    control.api.data = place.data.clone().unwrap_or(control.api.data);
    Ok(control)
}

/// A runtime for it.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let count =
        std::thread::available_parallelism().map_or(THREAD_COUNT_MIN, |count| count.get().max(THREAD_COUNT_MIN));
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(count)
        .enable_all()
        .build()?)
}

/// The checks of a start, as far as they need no database. What a start would make stays unmade.
pub fn check(control: Control) -> anyhow::Result<Config> {
    let desk = control.licences.as_ref().map(licences::check).transpose()?;
    let config = control.api.check()?;
    means(&config, desk)?;
    let section = &config.section;
    Issuers::new(&section.settings.auth.trusted_issuers, &section.public_url)?;
    let secret_key = section.secret_key.clone();
    let secret_key = secret_key.unwrap_or_else(|| section.data.join("secret.key"));
    if secret_key.exists() {
        SecretBox::open_file(&secret_key)?;
    }
    Ok(config)
}

/// What the API has besides its database.
fn means(config: &Config, desk: Option<Desk>) -> anyhow::Result<Means> {
    let grant_keys = config.section.grant_keys.as_deref().map(grant::read_keys).transpose()?;
    let stripe = config.section.stripe.as_ref();
    let stripe = stripe
        .map(|section| payments(section).context("control.stripe"))
        .transpose()?;
    let payments: Vec<_> = stripe.into_iter().collect();
    let mut known: Vec<&str> = payments.iter().map(|provider| provider.name()).collect();
    known.push(Manual.name());
    let wanted = config.section.settings.billing.provider.as_str();
    ensure!(
        known.contains(&wanted),
        "control.settings.billing.provider: there is no \"{wanted}\", but {}",
        known.join(", ")
    );
    Ok(Means {
        grant_keys,
        desk,
        payments,
        ..Means::default()
    })
}

/// Opens the database that DATABASE_URL names, or the embedded one.
pub async fn open(config: Config, desk: Option<Desk>) -> anyhow::Result<Opened> {
    let means = means(&config, desk)?;
    let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    let opened = serve::open(config, url.as_deref(), means).await?;
    #[cfg(feature = "transcode")]
    opened.app.set_probe(Box::new(crate::transcode::queue::FilmProbe(
        crate::transcode::program()?
    )));
    Ok(opened)
}

/// Secrets of who takes the money, in a file of their own.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct StripeSecrets {
    api_key: Secret,
    signing_secret: Secret,
}

fn payments(section: &StripeSection) -> anyhow::Result<Arc<dyn PaymentProvider>> {
    let remote = Remote {
        url: &section.url,
        private_network: section.private_network,
        ca: None,
        client_certificate: None,
        client_key: None,
    };
    let (url, outbound) = remote.open()?;
    let named = || section.secrets.display().to_string();
    let text = read_secret(&section.secrets).with_context(named)?;
    let secrets: StripeSecrets = toml::from_str(&text)
        .map_err(|error| without_secrets(&text, &error))
        .with_context(named)?;
    let secrets = stripe::Secrets {
        api_key: secrets.api_key.0,
        signing_secret: secrets.signing_secret.0,
    };
    Ok(Arc::new(stripe::Stripe::new(&url, secrets, outbound)))
}
