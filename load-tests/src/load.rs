//! Load: open loop (so many requests a second, whatever the answers do) or closed loop (the next when one is answered).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{Answer, Client};
use crate::histogram::Histogram;
use crate::targets::Targets;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mix {
    /// Segments alone.
    Segments,
    /// Entry points, playlists and headers.
    Manifests,
    /// As players do: of twenty requests seventeen are for segments.
    Mixed,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Load {
    /// Whom to ask.
    pub address: SocketAddr,
    /// Over TLS, with these settings.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// What for.
    pub mix: Mix,
    /// Requests a second; `None` for a closed loop.
    pub rate: Option<f64>,
    /// Connections: all are kept busy in a closed loop; in an open loop requests wait when none is free.
    pub connections: usize,
    /// For how long.
    pub duration: Duration,
}

/// What came of a run.
#[derive(Clone, Default)]
pub struct Outcome {
    /// From the instant a request was due until its answer was read whole.
    pub latency: Histogram,
    /// Answers below 400.
    pub good: u64,
    /// Answers 503: refused for load.
    pub refused: u64,
    /// Other answers of 500 and above.
    pub failed: u64,
    /// Other answers of 400 and above.
    pub wrong: u64,
    /// Requests without a whole answer.
    pub broken: u64,
    /// The first few reasons.
    pub reasons: Vec<String>,
    /// Bytes of bodies.
    pub size: u64,
    /// Connections that ended while idle and were opened anew.
    pub reopened: u64,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// All requests.
    pub fn count(&self) -> u64 {
        self.good + self.refused + self.failed + self.wrong + self.broken
    }

    /// Good answers a second.
    pub fn goodput(&self) -> f64 {
        self.good as f64 / self.took.as_secs_f64().max(1e-9)
    }

    fn note(&mut self, reason: String) {
        if self.reasons.len() < 10 {
            self.reasons.push(reason);
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        format!(
            "{} requests in {:.1} s, {:.0}/s good, {:.1} MB/s; p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.1} ms; 503 {}, \
             other 5xx {}, 4xx {}, broken {}, reopened {}",
            self.count(),
            self.took.as_secs_f64(),
            self.goodput(),
            self.size as f64 / 1e6 / self.took.as_secs_f64().max(1e-9),
            self.latency.quantile_ms(0.5),
            self.latency.quantile_ms(0.99),
            self.latency.quantile_ms(0.999),
            self.latency.max_ms(),
            self.refused,
            self.failed,
            self.wrong,
            self.broken,
            self.reopened,
        )
    }

    /// As one JSON object.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "requests": self.count(), "seconds": self.took.as_secs_f64(), "good_per_s": self.goodput(),
            "bytes": self.size, "p50_ms": self.latency.quantile_ms(0.5), "p99_ms": self.latency.quantile_ms(0.99),
            "p999_ms": self.latency.quantile_ms(0.999), "max_ms": self.latency.max_ms(), "refused": self.refused,
            "failed": self.failed, "wrong": self.wrong, "broken": self.broken, "reopened": self.reopened,
        })
    }
}

/// What the connections of a run share.
struct Run {
    load: Load,
    targets: Rc<Targets>,
    start: Instant,
    next: Cell<u64>,
    outcome: RefCell<Outcome>,
}

impl Run {
    /// The path of request `number`, the same in every run.
    fn path(&self, number: u64) -> &str {
        // A multiplicative hash spreads neighbours.
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let pick = |count: usize| (spread >> 20) as usize % count.max(1);
        let manifest = match self.load.mix {
            Mix::Segments => false,
            Mix::Manifests => true,
            Mix::Mixed => number % 20 >= 17,
        };
        let of = &self.targets;
        let path = match manifest {
            false => of.segments.get(pick(of.segments.len())).map(|(path, _)| path),
            true if number % 4 == 3 && !of.inits.is_empty() => of.inits.get(pick(of.inits.len())),
            true => of.manifests.get(pick(of.manifests.len())),
        };
        path.map_or("/healthz", String::as_str)
    }

    async fn connection(self: Rc<Run>) {
        let mut client = Client::over(self.load.address, self.load.tls.clone());
        loop {
            let number = self.next.get();
            self.next.set(number + 1);
            let due = match self.load.rate {
                Some(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
                None => Instant::now(),
            };
            if due.saturating_duration_since(self.start) >= self.load.duration {
                break;
            }
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            let tried = client.get(self.path(number)).await;
            if !self.note(number, due, tried) {
                // A server that is not there is not asked a million times.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.outcome.borrow_mut().reopened += client.reopened;
    }

    /// Counts what came of request `number`, which was due then; whether there was an answer.
    fn note(&self, number: u64, due: Instant, tried: anyhow::Result<Answer>) -> bool {
        let mut outcome = self.outcome.borrow_mut();
        let answer = match tried {
            Ok(answer) => answer,
            Err(error) => {
                outcome.broken += 1;
                outcome.note(format!("{error:#}"));
                return false;
            }
        };
        match answer.status {
            503 => outcome.refused += 1,
            500.. => outcome.failed += 1,
            400.. => outcome.wrong += 1,
            _ => {
                outcome.good += 1;
                outcome.latency.add(due.elapsed());
            }
        }
        outcome.size += answer.size;
        if answer.status >= 400 {
            outcome.note(format!("{} is answered {}", self.path(number), answer.status));
        }
        true
    }
}

/// Runs `load` over `targets`. Within a `LocalSet`.
pub async fn run(load: Load, targets: Rc<Targets>) -> Outcome {
    let connections = load.connections;
    let run = Rc::new(Run {
        load,
        targets,
        start: Instant::now(),
        next: Cell::new(0),
        outcome: RefCell::default(),
    });
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..connections {
        running.spawn_local(run.clone().connection());
    }
    while running.join_next().await.is_some() {}
    let mut outcome = run.outcome.take();
    outcome.took = run.start.elapsed();
    outcome
}
