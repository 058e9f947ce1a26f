//! Load and abuse for a running headwater, from outside. Ends with 1 when a target is missed.
#![forbid(unsafe_code)]

mod abuse;
mod bare;
mod client;
mod control;
mod frames;
mod framing;
mod histogram;
mod load;
mod machine;
mod process;
mod soak;
mod targets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::abuse::{Attack, Plan, Report};
use crate::load::{Load, Mix};
use crate::machine::Processors;
use crate::targets::Targets;

#[derive(Parser)]
#[command(name = "load-tests", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One run of load; with --rate in an open loop, else in a closed one.
    Run(RunArguments),
    /// Bad clients of every kind, one after the other, while a canary plays.
    Abuse(AbuseArguments),
    /// A running control API: starts, heartbeats, licences, the catalogue.
    Control(control::ControlArguments),
    /// A server that does nothing but receive and send, to be asked for /N.
    Bare(BareArguments),
    /// A long run at a share of what the origin can do: nothing may grow.
    Soak(soak::SoakArguments),
}

/// Whom to ask for what.
#[derive(Args, Clone)]
struct Whom {
    /// Address and port of the origin, plain HTTP.
    #[arg(long)]
    address: SocketAddr,
    /// Titles, by media id.
    #[arg(long, required = true, value_delimiter = ',')]
    media: Vec<String>,
}

#[derive(Args)]
struct BareArguments {
    /// Address and port to listen on.
    #[arg(long)]
    listen: SocketAddr,
}

#[derive(Args)]
struct RunArguments {
    /// Address and port of the origin.
    #[arg(long)]
    address: SocketAddr,
    /// Titles, by media id.
    #[arg(long, required_unless_present = "paths", value_delimiter = ',')]
    media: Vec<String>,
    /// A file with paths to ask for instead, one a line.
    #[arg(long, conflicts_with_all = ["media", "mix"])]
    paths: Option<PathBuf>,
    /// TLS 1.3 with AES-128-GCM: a PEM file with the issuer of the origin's certificate, which is for its address.
    #[arg(long, requires = "paths")]
    ca: Option<PathBuf>,
    /// What is asked for.
    #[arg(long, value_enum, default_value = "mixed")]
    mix: Mix,
    /// Requests a second, whatever the answers do.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Target: the latency that 99 of 100 requests do not exceed.
    #[arg(long)]
    p99_ms_max: Option<f64>,
    /// Target: good answers a second.
    #[arg(long)]
    goodput_min: Option<f64>,
    /// 503 is no failure: the run is meant to overload.
    #[arg(long)]
    overload: bool,
    /// One JSON object instead of a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct AbuseArguments {
    #[command(flatten)]
    whom: Whom,
    /// Which attacks; malformed requests always come too [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    attacks: Vec<Attack>,
    /// Connections of each slow attack.
    #[arg(long, default_value_t = 500)]
    connections: usize,
    /// HTTP/2 streams reset a second.
    #[arg(long, default_value_t = 3_000)]
    resets_per_s: u64,
    /// Seconds that each attack lasts.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Requests of the canary a second.
    #[arg(long, default_value_t = 50.0)]
    canary_rate: f64,
    /// Target: the canary's latency.
    #[arg(long, default_value_t = 50.0)]
    p99_ms_max: f64,
    /// Target: seconds after which the origin has ended every bad connection.
    #[arg(long, default_value_t = 40)]
    ended_s_max: u64,
    /// How often an attack that misses a target is tried: a machine that stands still for a moment is no fault of the origin,
    /// and seldom does so each time.
    #[arg(long, default_value_t = 1)]
    tries: u32,
    /// The largest part of the processors' time that other guests of the machine may have, 0 to 1, for the canary's latency to
    /// say anything of the origin: it is not held against its target otherwise.
    #[arg(long, default_value_t = 1.0)]
    stolen_max: f64,
    /// The origin's process: its memory is watched.
    #[arg(long)]
    pid: Option<u32>,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    let missed = runtime.block_on(tasks.run_until(async {
        match cli.command {
            Command::Run(arguments) => run(arguments).await,
            Command::Abuse(arguments) => abuse(arguments).await,
            Command::Bare(arguments) => bare::serve(arguments.listen).await.map(|()| Vec::new()),
            Command::Control(arguments) => control::control(arguments).await,
            Command::Soak(arguments) => soak::soak(arguments).await,
        }
    }))?;
    for target in &missed {
        println!("MISSED: {target}");
    }
    Ok(if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(arguments: RunArguments) -> anyhow::Result<Vec<String>> {
    let targets = Rc::new(match &arguments.paths {
        Some(paths) => Targets::read(paths)?,
        None => Targets::find(arguments.address, &arguments.media).await?,
    });
    let load = Load {
        address: arguments.address,
        tls: arguments.ca.as_deref().map(client::tls_config).transpose()?,
        mix: if arguments.paths.is_some() {
            Mix::Segments
        } else {
            arguments.mix
        },
        rate: arguments.rate,
        connections: arguments.connections,
        duration: Duration::from_secs(arguments.seconds),
    };
    let outcome = load::run(load, targets).await;
    match arguments.json {
        true => println!("{}", outcome.json()),
        false => println!("{}", outcome.line()),
    }
    for reason in outcome.reasons.iter().filter(|_| !arguments.overload) {
        println!("  {reason}");
    }
    let mut missed = Vec::new();
    let refused = if arguments.overload { 0 } else { outcome.refused };
    if outcome.broken + outcome.failed + outcome.wrong + refused > 0 {
        missed.push("every answer is good".into());
    }
    let p99 = outcome.latency.quantile_ms(0.99);
    if let Some(most) = arguments.p99_ms_max.filter(|most| p99 > *most) {
        missed.push(format!("p99 {p99:.2} ms is above {most} ms"));
    }
    let goodput = outcome.goodput();
    if let Some(least) = arguments.goodput_min.filter(|least| goodput < *least) {
        missed.push(format!("{goodput:.0} good answers a second are below {least}"));
    }
    Ok(missed)
}

async fn abuse(arguments: AbuseArguments) -> anyhow::Result<Vec<String>> {
    let targets = Rc::new(Targets::find(arguments.whom.address, &arguments.whom.media).await?);
    let plan = Plan {
        address: arguments.whom.address,
        connections: arguments.connections,
        resets_per_s: arguments.resets_per_s,
        duration: Duration::from_secs(arguments.seconds),
        canary_rate: arguments.canary_rate,
        pid: arguments.pid,
    };
    let mut missed = Vec::new();
    let attacks = match arguments.attacks.as_slice() {
        [] => Attack::value_variants(),
        chosen => chosen,
    };
    for attack in attacks.iter().copied().map(Some).chain([None]) {
        let mut tries = 1..=arguments.tries.max(1);
        while let Some(number) = tries.next() {
            let before = Processors::now();
            let report = abuse::round(&plan, attack, &targets).await?;
            let stolen = before
                .zip(Processors::now())
                .map(|(before, now)| now.stolen_since(before));
            let name = report
                .attack
                .map_or("malformed requests".into(), |attack| format!("{attack:?}"));
            tell(&name, &report);
            let late = lateness(&arguments, &name, &report);
            let found = misses(&arguments, &name, &report);
            if found.is_empty() && late.is_none() {
                break;
            }
            let told: Vec<&str> = found.iter().chain(&late).map(String::as_str).collect();
            if !tries.is_empty() {
                println!("  missed at try {number}: {}", told.join("; "));
                continue;
            }
            missed.extend(found);
            match (late, stolen.filter(|stolen| *stolen > arguments.stolen_max)) {
                (Some(late), Some(stolen)) => {
                    println!(
                        "NOT JUDGED: {late}: others had {:.0} % of the processors",
                        stolen * 100.0
                    );
                }
                (late, _) => missed.extend(late),
            }
        }
    }
    Ok(missed)
}

fn tell(name: &str, report: &Report) {
    let (seen, canary) = (&report.seen, &report.canary);
    println!(
        "{name}: {} connections, {} ended by the origin after at most {:.1} s, {} acts",
        seen.opened,
        seen.ended,
        seen.longest.as_secs_f64(),
        seen.acts
    );
    println!("  canary: {}", canary.line());
    if let Some((before, worst)) = report.memory_bytes {
        println!(
            "  memory: {:.1} MB before, {:.1} MB at most",
            before as f64 / 1e6,
            worst as f64 / 1e6
        );
    }
    for reason in canary.reasons.iter().chain(&report.findings) {
        println!("  {reason}");
    }
}

/// That the canary waited for longer than it may, if it did.
fn lateness(arguments: &AbuseArguments, name: &str, report: &Report) -> Option<String> {
    let p99 = report.canary.latency.quantile_ms(0.99);
    (p99 > arguments.p99_ms_max).then(|| format!("{name}: the canary's p99 of {p99:.1} ms"))
}

/// Other targets that one round of an attack missed.
fn misses(arguments: &AbuseArguments, name: &str, report: &Report) -> Vec<String> {
    let (seen, canary) = (&report.seen, &report.canary);
    let mut missed: Vec<String> = report
        .findings
        .iter()
        .map(|finding| format!("{name}: {finding}"))
        .collect();
    let bad = canary.broken + canary.failed + canary.refused + canary.wrong;
    if bad > 0 || canary.good == 0 {
        missed.push(format!(
            "{name}: {bad} of the canary's requests failed, {} did not",
            canary.good
        ));
    }
    // An attack may outlast the round.
    let must_end = arguments.ended_s_max < arguments.seconds;
    let is_late = seen.longest.as_secs() > arguments.ended_s_max || (must_end && seen.ended == 0);
    if report.attack.is_some() && is_late {
        missed.push(format!("{name}: bad connections were not ended in time"));
    }
    missed
}
