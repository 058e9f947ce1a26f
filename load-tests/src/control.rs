//! Control: load for a running control API, by viewers whose sign-ins and devices were made beforehand.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::client::{Answer, Client};
use crate::histogram::Histogram;
use crate::process::Held;

/// Connections that make viewers ready.
const PREPARATION_COUNT: usize = 16;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// A stream start by a viewer on one of their devices, at random.
    Start,
    /// A heartbeat of a live session, of each in turn.
    Heartbeat,
    /// A Clear Key licence for a live session.
    Licence,
    /// A page of the catalogue.
    Catalogue,
    /// A movie.
    Title,
    /// A heartbeat of every session once; then how much the process has grown.
    Memory,
}

#[derive(Args)]
pub struct ControlArguments {
    /// Address and port of the control API, plain HTTP.
    #[arg(long)]
    address: SocketAddr,
    /// A line a device: its id, and a refresh token of its viewer that was not used yet, or the access token that a run
    /// before has put in its place.
    #[arg(long)]
    viewers: PathBuf,
    /// A line a live session: its id, and the line of its viewer's device, from 0.
    #[arg(long)]
    sessions: Option<PathBuf>,
    /// What is asked for.
    #[arg(long, value_enum)]
    act: Act,
    /// A movie.
    #[arg(long)]
    content: String,
    /// What asks for a licence: the key ids as Clear Key has them, in base64.
    #[arg(long, default_value = "")]
    challenge: String,
    /// Requests a second, whatever the answers do; a closed loop without.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The API's process: its memory is watched.
    #[arg(long)]
    pid: Option<u32>,
    /// Target: good answers a second.
    #[arg(long)]
    goodput_min: Option<f64>,
    /// Target: the latency that 99 of 100 requests do not exceed.
    #[arg(long)]
    p99_ms_max: Option<f64>,
    /// Target: bytes that a live session takes.
    #[arg(long)]
    session_bytes_max: Option<u64>,
    /// Where ids of sessions that were started are written, as `--sessions` reads them.
    #[arg(long)]
    write_sessions: Option<PathBuf>,
}

/// A device of somebody who is signed in.
struct Viewer {
    device: String,
    token: String,
}

/// What the connections of a run share.
struct Run {
    address: SocketAddr,
    act: Act,
    viewers: Vec<Viewer>,
    /// Live sessions with the lines of their viewers.
    sessions: Vec<(String, usize)>,
    content: String,
    challenge: String,
    rate: Option<f64>,
    /// Requests at most.
    count_max: u64,
    duration: Duration,
    start: Instant,
    next: Cell<u64>,
    latency: RefCell<Histogram>,
    good: Cell<u64>,
    /// Statuses of 400 and above and how often each came; 0 for no answer.
    bad: RefCell<std::collections::BTreeMap<u16, u64>>,
    reason: RefCell<String>,
    started: RefCell<Vec<(String, usize)>>,
}

/// Runs it; what was missed.
pub async fn control(arguments: ControlArguments) -> anyhow::Result<Vec<String>> {
    let viewers = sign_in(&arguments).await?;
    let sessions = match &arguments.sessions {
        Some(path) => read_sessions(path, viewers.len())?,
        None => Vec::new(),
    };
    let needs_sessions = matches!(arguments.act, Act::Heartbeat | Act::Licence | Act::Memory);
    ensure!(!needs_sessions || !sessions.is_empty(), "--sessions has none");
    let before = arguments.pid.map(Held::by).transpose()?;
    let whole = arguments.act == Act::Memory;
    let run = Rc::new(Run {
        address: arguments.address,
        act: arguments.act,
        count_max: if whole { sessions.len() as u64 } else { u64::MAX },
        duration: Duration::from_secs(if whole { 600 } else { arguments.seconds }),
        viewers,
        sessions,
        content: arguments.content.clone(),
        challenge: arguments.challenge.clone(),
        rate: arguments.rate,
        start: Instant::now(),
        next: Cell::new(0),
        latency: RefCell::default(),
        good: Cell::new(0),
        bad: RefCell::default(),
        reason: RefCell::default(),
        started: RefCell::default(),
    });
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..arguments.connections {
        running.spawn_local(run.clone().connection());
    }
    while running.join_next().await.is_some() {}
    let took = run.start.elapsed().as_secs_f64();
    report(&arguments, &run, took, before)
}

fn report(arguments: &ControlArguments, run: &Run, took_s: f64, before: Option<Held>) -> anyhow::Result<Vec<String>> {
    let (good, latency, bad) = (run.good.get(), run.latency.borrow(), run.bad.borrow());
    let goodput = good as f64 / took_s.max(1e-9);
    let act = format!("{:?}", run.act).to_lowercase();
    let pace = run
        .rate
        .map_or("closed loop".to_owned(), |rate| format!("{rate:.0}/s asked"));
    println!(
        "{act} ({pace}, {} connections): {good} good in {took_s:.1} s, {goodput:.0}/s; p50 {:.2} p99 {:.2} p99.9 {:.2} max \
         {:.1} ms; others {:?}",
        arguments.connections,
        latency.quantile_ms(0.5),
        latency.quantile_ms(0.99),
        latency.quantile_ms(0.999),
        latency.max_ms(),
        *bad,
    );
    if !run.reason.borrow().is_empty() {
        println!("  {}", run.reason.borrow());
    }
    let mut missed = Vec::new();
    if let (Some(pid), Some(before)) = (arguments.pid, before) {
        let grown = Held::by(pid)?.memory_bytes.saturating_sub(before.memory_bytes);
        println!(
            "  memory: {:.1} MB before, grown by {:.1} MB",
            before.memory_bytes as f64 / 1e6,
            grown as f64 / 1e6
        );
        if run.act == Act::Memory {
            let each = grown / good.max(1);
            println!("  a live session: {each} bytes");
            if arguments.session_bytes_max.is_some_and(|most| each > most) {
                missed.push(format!("{act}: {each} bytes a session"));
            }
        }
    }
    if let Some(path) = &arguments.write_sessions {
        let started = run.started.borrow();
        let text: String = started.iter().map(|(id, line)| format!("{id} {line}\n")).collect();
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    let total = good + bad.values().sum::<u64>();
    if (total - good) * 1_000 > total {
        missed.push(format!("{act}: {} of {total} answers are bad", total - good));
    }
    if let Some(least) = arguments.goodput_min.filter(|least| goodput < *least) {
        missed.push(format!("{act}: {goodput:.0} good answers a second are below {least}"));
    }
    let p99 = latency.quantile_ms(0.99);
    if let Some(most) = arguments.p99_ms_max.filter(|most| p99 > *most) {
        missed.push(format!("{act}: p99 {p99:.2} ms is above {most} ms"));
    }
    Ok(missed)
}

fn read_sessions(path: &std::path::Path, viewer_count: usize) -> anyhow::Result<Vec<(String, usize)>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().map(|line| {
        let (id, viewer) = line.split_once(' ').context("a line of sessions without a viewer")?;
        let viewer: usize = viewer.parse().context("a viewer that is no number")?;
        ensure!(viewer < viewer_count, "a session of nobody");
        Ok((id.to_owned(), viewer))
    });
    lines.collect()
}

/// Exchanges refresh tokens for access tokens, and writes those down for the next run: a refresh token holds once.
async fn sign_in(arguments: &ControlArguments) -> anyhow::Result<Vec<Viewer>> {
    let named = || arguments.viewers.display().to_string();
    let text = std::fs::read_to_string(&arguments.viewers).with_context(named)?;
    let lines = text
        .lines()
        .map(|line| line.split_once(' ').context("a line of viewers without a token"));
    let lines: Vec<(&str, &str)> = lines.collect::<anyhow::Result<_>>()?;
    ensure!(!lines.is_empty(), "--viewers has none");
    // Several devices of one viewer share a token.
    let mut tokens: std::collections::BTreeMap<&str, Option<String>> =
        lines.iter().map(|(_, token)| (*token, None)).collect();
    let wanted: Vec<&str> = tokens.keys().copied().filter(|token| !is_access_token(token)).collect();
    if !wanted.is_empty() {
        let next = Rc::new(Cell::new(0));
        let wanted: Rc<Vec<String>> = Rc::new(wanted.into_iter().map(str::to_owned).collect());
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..PREPARATION_COUNT {
            running.spawn_local(exchange(arguments.address, Rc::clone(&wanted), Rc::clone(&next)));
        }
        while let Some(done) = running.join_next().await {
            for (at, access) in done?? {
                if let Some(place) = wanted.get(at).and_then(|token| tokens.get_mut(token.as_str())) {
                    *place = Some(access);
                }
            }
        }
    }
    let viewers: Vec<Viewer> = lines
        .iter()
        .map(|(device, token)| Viewer {
            device: (*device).to_owned(),
            token: tokens
                .get(token)
                .cloned()
                .flatten()
                .unwrap_or_else(|| (*token).to_owned()),
        })
        .collect();
    let text: String = viewers
        .iter()
        .map(|viewer| format!("{} {}\n", viewer.device, viewer.token))
        .collect();
    std::fs::write(&arguments.viewers, text).with_context(named)?;
    Ok(viewers)
}

/// A JSON Web Token has dots.
fn is_access_token(token: &str) -> bool {
    token.contains('.')
}

async fn exchange(
    address: SocketAddr,
    wanted: Rc<Vec<String>>,
    next: Rc<Cell<usize>>,
) -> anyhow::Result<Vec<(usize, String)>> {
    let (mut client, mut had) = (Client::new(address), Vec::new());
    loop {
        let at = next.get();
        next.set(at + 1);
        let Some(token) = wanted.get(at) else {
            return Ok(had);
        };
        let path = "/api/v1/auth/refresh";
        let body = serde_json::json!({ "refresh_token": token }).to_string();
        let mut reply = Vec::new();
        let answer = client.send(path, &post(path, "", &body), Some(&mut reply)).await?;
        let reply: Value = serde_json::from_slice(&reply).unwrap_or_default();
        match reply.get("access_token").and_then(Value::as_str) {
            Some(access) => had.push((at, access.to_owned())),
            None => bail!("a sign-in was refused: {} {reply}", answer.status),
        }
    }
}

fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let size = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: load\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

impl Run {
    /// Request `number`, the same in every run: its path, its bytes, and the viewer's line.
    fn request(&self, number: u64) -> (&'static str, Vec<u8>, usize) {
        // A multiplicative hash spreads neighbours.
        let spread = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize;
        let in_turn = number as usize % self.sessions.len().max(1);
        let session = self.sessions.get(in_turn);
        let line = match (self.act, session) {
            (Act::Heartbeat | Act::Licence | Act::Memory, Some((_, line))) => *line,
            _ => spread % self.viewers.len().max(1),
        };
        let Some(viewer) = self.viewers.get(line) else {
            return ("", Vec::new(), line);
        };
        let (device, token, content) = (&viewer.device, &viewer.token, &self.content);
        let session = session.map_or("", |(id, _)| id.as_str());
        let (path, bytes) = match self.act {
            Act::Start => {
                let path = format!("/api/v1/movies/{content}/stream");
                let headers = format!("authorization: Bearer {token}\r\nx-device-id: {device}\r\n");
                ("start", post(&path, &headers, "{}"))
            }
            Act::Heartbeat | Act::Memory => {
                let headers = format!("authorization: Bearer {token}\r\n");
                let body = format!(
                    "{{\"session_id\":\"{session}\",\"position_seconds\":{}}}",
                    number % 5_000
                );
                ("heartbeat", post("/api/v1/playback/heartbeat", &headers, &body))
            }
            Act::Licence => {
                let headers = format!("authorization: Bearer {token}\r\nx-device-id: {device}\r\n");
                let challenge = &self.challenge;
                let body = format!(
                    "{{\"content_id\":\"{content}\",\"content_type\":\"movie\",\"drm_system\":\"clearkey\",\
                     \"license_request_bytes\":\"{challenge}\",\"session_id\":\"{session}\"}}"
                );
                ("licence", post("/api/v1/drm/license", &headers, &body))
            }
            Act::Catalogue => {
                let head = format!("authorization: Bearer {token}\r\n\r\n");
                let text = format!("GET /api/v1/movies?limit=20 HTTP/1.1\r\nhost: load\r\n{head}");
                ("catalogue", text.into_bytes())
            }
            Act::Title => {
                let head = format!("authorization: Bearer {token}\r\n\r\n");
                let text = format!("GET /api/v1/movies/{content} HTTP/1.1\r\nhost: load\r\n{head}");
                ("title", text.into_bytes())
            }
        };
        (path, bytes, line)
    }

    async fn connection(self: Rc<Run>) {
        let (mut client, mut body) = (Client::new(self.address), Vec::new());
        loop {
            let number = self.next.get();
            self.next.set(number + 1);
            let due = match self.rate {
                Some(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
                None => Instant::now(),
            };
            if number >= self.count_max || due.saturating_duration_since(self.start) >= self.duration {
                break;
            }
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            let (path, request, line) = self.request(number);
            body.clear();
            let tried = client.send(path, &request, Some(&mut body)).await;
            self.note(due, tried, &body, line);
        }
    }

    fn note(&self, due: Instant, tried: anyhow::Result<Answer>, body: &[u8], line: usize) {
        let status = match tried {
            Ok(answer) if answer.status < 400 => {
                self.good.set(self.good.get() + 1);
                self.latency.borrow_mut().add(due.elapsed());
                if self.act == Act::Start {
                    self.started.borrow_mut().extend(session_of(body).map(|id| (id, line)));
                }
                return;
            }
            Ok(answer) => answer.status,
            Err(error) => {
                *self.reason.borrow_mut() = format!("{error:#}");
                0
            }
        };
        *self.bad.borrow_mut().entry(status).or_default() += 1;
        if status != 0 {
            *self.reason.borrow_mut() = format!("{status}: {}", String::from_utf8_lossy(body));
        }
    }
}

/// The id in the reply of a start, without reading all of it.
fn session_of(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("\"session_id\":\"")?;
    Some(rest.get(..36)?.to_owned())
}
