//! A long run at a share of what the origin can do: memory, descriptors and latency must stay as they are.

use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;

use crate::Whom;
use crate::load::{Load, Mix, Outcome, run};
use crate::process::Held;
use crate::targets::Targets;

/// Growth below this is the allocator's, whatever the share: 1 MiB.
const MEMORY_SLACK_BYTES: u64 = 1 << 20;
/// Connections come and go.
const DESCRIPTOR_SLACK: u64 = 10;

#[derive(Args)]
pub struct SoakArguments {
    #[command(flatten)]
    whom: Whom,
    /// The origin's process.
    #[arg(long)]
    pid: u32,
    /// Seconds in all; a sixth of them is warm-up.
    #[arg(long, default_value_t = 1_800)]
    seconds: u64,
    /// Share of the measured peak, in percent.
    #[arg(long, default_value_t = 70)]
    load_percent: u32,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Target: growth of memory after warm-up, in percent.
    #[arg(long, default_value_t = 1.0)]
    memory_percent_max: f64,
    /// Target: growth of p99 from the first to the last part, in percent; of less than half a millisecond never.
    #[arg(long, default_value_t = 10.0)]
    p99_percent_max: f64,
}

/// Parts that the run after warm-up is looked at in.
const PARTS: u32 = 10;

/// The run in parts, warm-up first, and what the process held at the end of each.
async fn run_parts(
    arguments: &SoakArguments,
    rate: f64,
    targets: &Rc<Targets>,
) -> anyhow::Result<Vec<(Outcome, Held)>> {
    let all = Duration::from_secs(arguments.seconds);
    let load = |duration| Load {
        address: arguments.whom.address,
        tls: None,
        mix: Mix::Mixed,
        rate: Some(rate),
        connections: arguments.connections,
        duration,
    };
    let warm = run(load(all / 6), targets.clone()).await;
    println!("warm-up: {}", warm.line());
    let mut parts = vec![(warm, settled(arguments.pid).await?)];
    for part in 1..=PARTS {
        let outcome = run(load(all * 5 / 6 / PARTS), targets.clone()).await;
        let held = settled(arguments.pid).await?;
        println!(
            "part {part}: {:.2} MB, {} descriptors; {}",
            held.memory_bytes as f64 / 1e6,
            held.descriptors,
            outcome.line()
        );
        parts.push((outcome, held));
    }
    Ok(parts)
}

/// How often a process is looked at until its descriptors are as many as the last time, and the time before.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const LOOK_COUNT_MAX: u32 = 50;

/// What the process holds once it has let go of the connections that ended with the load.
async fn settled(pid: u32) -> anyhow::Result<Held> {
    let mut held = Held::by(pid)?;
    let mut equal = 0;
    for _ in 0..LOOK_COUNT_MAX {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = Held::by(pid)?;
        equal = if now.descriptors == held.descriptors {
            equal + 1
        } else {
            0
        };
        held = now;
        if equal == 2 {
            break;
        }
    }
    Ok(held)
}

/// Finds the peak, runs at a share of it; which targets were missed.
pub async fn soak(arguments: SoakArguments) -> anyhow::Result<Vec<String>> {
    let targets = Rc::new(Targets::find(arguments.whom.address, &arguments.whom.media).await?);
    let peak = Load {
        address: arguments.whom.address,
        tls: None,
        mix: Mix::Mixed,
        rate: None,
        connections: arguments.connections,
        duration: Duration::from_secs((arguments.seconds / 12).clamp(3, 20)),
    };
    let peak = run(peak, targets.clone()).await;
    println!("peak: {}", peak.line());
    let rate = peak.goodput() * f64::from(arguments.load_percent) / 100.0;
    println!("{} % of it: {rate:.0} requests a second", arguments.load_percent);
    let begun = Instant::now();
    let parts = run_parts(&arguments, rate, &targets).await?;
    println!("{:.0} s", begun.elapsed().as_secs_f64());
    Ok(judge(&arguments, &parts))
}

fn judge(arguments: &SoakArguments, parts: &[(Outcome, Held)]) -> Vec<String> {
    let mut missed = Vec::new();
    for (outcome, _) in parts {
        let bad = outcome.failed + outcome.refused + outcome.broken + outcome.wrong;
        if bad > 0 {
            missed.push(format!("{bad} requests failed: {}", outcome.reasons.join("; ")));
        }
    }
    let (Some((_, before)), Some((_, after))) = (parts.first(), parts.last()) else {
        return vec!["nothing was measured".into()];
    };
    let allowed = before.memory_bytes as f64 * (1.0 + arguments.memory_percent_max / 100.0);
    if after.memory_bytes as f64 > allowed.max((before.memory_bytes + MEMORY_SLACK_BYTES) as f64) {
        missed.push(format!(
            "memory grew from {} to {} bytes",
            before.memory_bytes, after.memory_bytes
        ));
    }
    if after.descriptors > before.descriptors + DESCRIPTOR_SLACK {
        missed.push(format!(
            "descriptors grew from {} to {}",
            before.descriptors, after.descriptors
        ));
    }
    // Compared by medians of the parts' p99: one disturbed part is not a drift.
    let (_, rest) = parts.split_at(1);
    let p99 = |parts: &[(Outcome, Held)]| {
        let mut all: Vec<f64> = parts
            .iter()
            .map(|(outcome, _)| outcome.latency.quantile_ms(0.99))
            .collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    };
    let (early, late) = rest.split_at(rest.len() / 2);
    let (early, late) = (p99(early), p99(late));
    if late > early * (1.0 + arguments.p99_percent_max / 100.0) && late - early > 0.5 {
        missed.push(format!("p99 drifted from {early:.2} to {late:.2} ms"));
    }
    missed
}
