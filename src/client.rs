//! `headwater api`: the control API for people: sign in, upload, publish, watch.

mod account;
mod transfer;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use control_api::outbound::{Ask, Outbound, Reach, Repeat, Reply, Url, check_url};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{ClientArguments, ClientCommand};
use crate::print;

use self::account::Session;

/// Runs `headwater api`.
pub fn run(arguments: ClientArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let path = account::session_path(arguments.session)?;
    runtime.block_on(async {
        match arguments.command {
            ClientCommand::Login(arguments) => account::login(&path, &arguments).await,
            ClientCommand::Upload(arguments) => transfer::upload(&mut Client::open(&path)?, &arguments).await,
            ClientCommand::Publish { movie } => publish(&mut Client::open(&path)?, &movie).await,
            ClientCommand::Watch { id } => watch(&mut Client::open(&path)?, &id).await,
            ClientCommand::Logout => account::logout(Client::open(&path)?).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the API said no to.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}{details}")]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    code: String,
    message: String,
    details: String,
}

impl Refusal {
    /// Of whoever stands before the API: the API itself says why.
    fn of(status: u16) -> Refusal {
        Refusal {
            status,
            code: format!("HTTP {status}"),
            message: "not from the control API".to_owned(),
            details: String::new(),
        }
    }
}

/// What the API said no to, where that is why something failed.
pub fn refusal(error: &anyhow::Error) -> Option<&Refusal> {
    error.downcast_ref()
}

/// Somebody who is signed in.
pub struct Client {
    session: Session,
    outbound: Outbound,
    /// Tells this machine from others where streams are started.
    device: Option<String>,
}

impl Client {
    fn open(path: &Path) -> anyhow::Result<Client> {
        Ok(Client {
            session: Session::read(path)?,
            outbound: outbound()?,
            device: None,
        })
    }

    /// Asks for what is there.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let url = api_url(&self.session.url, path)?;
        let reply = self.send(&mut Ask::get(url, Repeat::WhenUnanswered)).await?;
        answer(&reply)
    }

    /// Has something done.
    pub async fn post(&mut self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut ask = post(&self.session.url, path, body, Repeat::WhenUnsent)?;
        answer(&self.send(&mut ask).await?)
    }

    /// Has something made, once however often it is asked for with the same `key`, by whichever process: that an answer is lost
    /// does no harm.
    pub async fn make(&mut self, path: &str, key: &str, body: &Value) -> anyhow::Result<Value> {
        let mut ask = post(&self.session.url, path, Some(body), Repeat::WhenUnanswered)?;
        ask.secret_header("idempotency-key", key)
            .context("the name of what is asked for is no header")?;
        answer(&self.send(&mut ask).await?)
    }

    /// Has something done that is done once however often it is asked for.
    pub async fn post_again(&mut self, path: &str) -> anyhow::Result<Value> {
        let mut ask = post(&self.session.url, path, Some(&json!({})), Repeat::WhenUnanswered)?;
        answer(&self.send(&mut ask).await?)
    }

    /// Sends, and once more with new tokens where the old ones do not hold any more.
    pub async fn send(&mut self, ask: &mut Ask) -> anyhow::Result<Reply> {
        self.sign(ask)?;
        // What goes wrong on the way does not say where to.
        let base = self.session.url.clone();
        let reply = self.outbound.send(ask).await.with_context(|| base.clone())?;
        if reply.status != 401 {
            return Ok(reply);
        }
        self.session.refresh(&self.outbound).await?;
        self.sign(ask)?;
        self.outbound.send(ask).await.context(base)
    }

    fn sign(&self, ask: &mut Ask) -> anyhow::Result<()> {
        if let Some(device) = &self.device {
            ask.secret_header("x-device-id", device)
                .context("a device without an id")?;
        }
        ask.bearer(self.session.access_token())
            .context("the sign-in is broken; sign in anew")
    }
}

/// What reaches the API. Names that lead into one's own network are as good as others.
fn outbound() -> anyhow::Result<Outbound> {
    Ok(Outbound::new(Reach::Private, None, None)?)
}

fn api_url(base: &str, path: &str) -> anyhow::Result<Url> {
    let text = format!("{}/api/v1{path}", base.trim_end_matches('/'));
    check_url(&text, Reach::Private).with_context(|| base.to_owned())
}

fn post(base: &str, path: &str, body: Option<&Value>, repeat: Repeat) -> anyhow::Result<Ask> {
    let bytes = body.map_or(Vec::new(), |body| body.to_string().into_bytes());
    let mut ask = Ask::post(api_url(base, path)?, Zeroizing::new(bytes), repeat);
    if body.is_some() {
        ask.header("content-type", "application/json");
    }
    Ok(ask)
}

/// The body of a good reply, or what was refused.
fn answer(reply: &Reply) -> anyhow::Result<Value> {
    let body = match reply.body.is_empty() {
        true => Some(Value::Null),
        false => serde_json::from_slice::<Value>(&reply.body).ok(),
    };
    if reply.status < 300 {
        return body.context("the answer is not the control API's");
    }
    let body = body.unwrap_or_default();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let rows = body["details"].as_array().into_iter().flatten();
    let details = rows.map(|row| format!("\n  {}: {}", text(row, "field"), text(row, "message")));
    let refusal = match body["code"].as_str() {
        Some(code) => Refusal {
            status: reply.status,
            code: code.to_owned(),
            message: text(&body, "message"),
            details: details.collect(),
        },
        None => Refusal::of(reply.status),
    };
    Err(refusal.into())
}

fn text(body: &Value, name: &str) -> anyhow::Result<String> {
    let found = body[name].as_str().map(str::to_owned);
    found.with_context(|| format!("the answer has no {name}"))
}

async fn publish(client: &mut Client, movie: &str) -> anyhow::Result<()> {
    let body = client.post(&format!("/admin/movies/{movie}/publish"), None).await?;
    writeln!(print::out(), "{:<9} {movie}", text(&body, "status")?)?;
    Ok(())
}

/// Prints where a film plays. A movie's start takes one of the account's streams until it has been silent for 90 s.
async fn watch(client: &mut Client, id: &str) -> anyhow::Result<()> {
    let signed = client.post(&format!("/media/{id}/sign"), Some(&json!({}))).await;
    let body = match signed {
        Err(error) if refusal(&error).is_some_and(|refusal| refusal.status == 404) => {
            client.device = Some(account::device(client).await?);
            client.post(&format!("/movies/{id}/stream"), None).await?
        }
        other => other?,
    };
    for (name, member) in [("hls", "hls_url"), ("dash", "dash_url"), ("until", "expires_at")] {
        writeln!(print::out(), "{name:<9} {}", text(&body, member)?)?;
    }
    Ok(())
}
