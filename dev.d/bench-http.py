"""Measures two servers in turn with wrk and writes what each costs: a Markdown table and plots.

Called by bench-http.sh: bench-http.py PLAN.json OUTPUT. The plan names the servers, their paths and how often to ask.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time

plan = json.load(open(sys.argv[1], encoding="utf-8"))
output = sys.argv[2]
os.makedirs(output, exist_ok=True)

SCRIPT = os.path.join(plan["folder"], "paths.lua")
with open(SCRIPT, "w", encoding="utf-8") as file:
    file.write("""-- Asks for the paths of a file, one after another, and tells the outcome on one line.
local paths, at = {}, 0
function init(args)
  for path in io.lines(args[1]) do paths[#paths + 1] = wrk.format("GET", path) end
  at = math.random(#paths)
end
function request()
  at = at % #paths + 1
  return paths[at]
end
function done(summary, latency)
  local failed = 0
  for _, count in pairs(summary.errors) do failed = failed + count end
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end
""")


def cpu_ns(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as stat:
                total += int(stat.read().split()[0])
        except FileNotFoundError:
            pass  # A helper thread that ended meanwhile.
    return total


def busy_s():
    """Seconds that the server's core and the client's were at work, since the machine started."""
    with open("/proc/stat", encoding="ascii") as stat:
        rows = [line.split() for line in stat if re.match(r"cpu[01] ", line)]
    # user, nice, system, then idle and waiting for disks, then interrupts of both kinds.
    return sum(int(row[field]) for row in rows for field in (1, 2, 3, 6, 7)) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"^VmRSS:\s*(\d+)", status.read(), re.M).group(1))


def run(server, paths, connections, seconds):
    """One run against one server: of wrk, or over TLS of our own client, for wrk's opens what it gets more slowly than either
    server seals it."""
    before, busy = cpu_ns(server["pid"]), busy_s()
    if "ca" in server:
        return run_sealed(server, paths, connections, seconds, before, busy)
    command = ["taskset", "--cpu-list", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    out = subprocess.run(command + ["-s", SCRIPT, server["base"], "--", paths], capture_output=True, text=True, check=True)
    after, busy = cpu_ns(server["pid"]), busy_s() - busy
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", out.stdout)
    requests, size, duration_us, p50_us, p99_us, failed = map(int, found.groups())
    if failed or not requests:
        sys.exit(f"{server['base']} {paths}: {failed} of {requests} failed\n{out.stdout}")
    return {
        "rate": requests / duration_us * 1e6,
        "cpu_us": (after - before) / 1e3 / requests,
        "cpu_s_gb": (after - before) / size,
        "both_s_gb": busy * 1e9 / size,
        "p50_ms": p50_us / 1e3,
        "p99_ms": p99_us / 1e3,
        "rss_mb": resident_kb(server["pid"]) / 1e3,
    }


def run_sealed(server, paths, connections, seconds, before, busy):
    command = ["taskset", "--cpu-list", "1", plan["load_tests"], "run", "--address", server["base"], "--ca", server["ca"]]
    command += ["--paths", paths, "--connections", str(connections), "--seconds", str(seconds), "--json"]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    after, busy = cpu_ns(server["pid"]), busy_s() - busy
    if out.returncode != 0:
        sys.exit(f"{server['base']} {paths}: {out.stdout}{out.stderr}")
    said = json.loads(out.stdout.splitlines()[0])
    return {
        "rate": said["requests"] / said["seconds"],
        "cpu_us": (after - before) / 1e3 / said["requests"],
        "cpu_s_gb": (after - before) / said["bytes"],
        "both_s_gb": busy * 1e9 / said["bytes"],
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
        "rss_mb": resident_kb(server["pid"]) / 1e3,
    }


def spread(runs, key, digits):
    values = sorted(run[key] for run in runs)
    return f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f}–{values[-1]:.{digits}f})"


def median(runs, key):
    return statistics.median(run[key] for run in runs)


# So small an answer costs what a request costs: a server that only receives and sends shows the machine's limit.
BARE_SIZE_BYTES_MAX = 100_000

results = []
for form in plan["forms"]:
    ours, theirs = plan["servers"][form["ours"]], plan["servers"][form["theirs"]]
    bare = plan["servers"]["bare"] if form["size"] < BARE_SIZE_BYTES_MAX else None
    bare_paths = os.path.join(plan["folder"], "bare.paths")
    with open(bare_paths, "w", encoding="utf-8") as file:
        file.write(f"/{form['size']}\n")
    for _ in range(form.get("warm", 1)):
        run(ours, form["our_paths"], 4, form.get("warm_seconds", 1))
        run(theirs, form["their_paths"], 4, 1)
    for connections in plan["connections"]:
        runs = {"ours": [], "theirs": [], "bare": []}
        for _ in range(plan["rounds"]):
            runs["ours"].append(run(ours, form["our_paths"], connections, plan["seconds"]))
            runs["theirs"].append(run(theirs, form["their_paths"], connections, plan["seconds"]))
            if bare:
                runs["bare"].append(run(bare, bare_paths, connections, plan["seconds"]))
        results.append({"form": form["name"], "connections": connections, "size": form["size"], "goal": form["goal"], **runs})
        rate = median(runs["ours"], "rate") / median(runs["theirs"], "rate")
        cpu = median(runs["ours"], "cpu_us") / median(runs["theirs"], "cpu_us")
        print(f"{form['name']:24} {connections:4} connections: requests {rate:.2f}, CPU {cpu:.2f}", flush=True)
        time.sleep(0.2)

with open(os.path.join(output, "results.json"), "w", encoding="utf-8") as file:
    json.dump(results, file, indent=1)

lines = [
    "| form | size | connections | headwater req/s | nginx req/s | ratio | headwater CPU s/GB | nginx CPU s/GB | ratio | goal "
    "| both cores s/GB | nginx both | ratio | p50, p99 ms | nginx p50, p99 ms | RSS MB |",
    "|---" * 16 + "|",
]
for result in results:
    ours, theirs = result["ours"], result["theirs"]
    rate = median(ours, "rate") / median(theirs, "rate")
    # Per request, so that the size of headers does not count.
    cpu = median(ours, "cpu_us") / median(theirs, "cpu_us")
    latency = [f"{median(runs, 'p50_ms'):.2f}, {median(runs, 'p99_ms'):.1f}" for runs in (ours, theirs)]
    lines.append(
        f"| {result['form']} | {result['size'] / 1e3:.0f} KB | {result['connections']} | {spread(ours, 'rate', 0)} "
        f"| {spread(theirs, 'rate', 0)} | **{rate:.2f}** | {spread(ours, 'cpu_s_gb', 3)} | {spread(theirs, 'cpu_s_gb', 3)} "
        f"| **{cpu:.2f}** | {result['goal']} | {median(ours, 'both_s_gb'):.3f} | {median(theirs, 'both_s_gb'):.3f} "
        f"| {median(ours, 'both_s_gb') / median(theirs, 'both_s_gb'):.2f} | {latency[0]} | {latency[1]} | {median(ours, 'rss_mb'):.0f} |"
    )
lines += [
    "",
    "What a request costs at least here: a server that receives and sends as many bytes and does nothing else (`load-tests bare`).",
    "",
    "| form | size | connections | bare req/s | headwater's part | nginx's part |",
    "|---|---|---|---|---|---|",
]
for result in results:
    if result["bare"]:
        parts = [f"{median(result[who], 'rate') / median(result['bare'], 'rate'):.2f}" for who in ("ours", "theirs")]
        lines.append(
            f"| {result['form']} | {result['size'] / 1e3:.0f} KB | {result['connections']} | {spread(result['bare'], 'rate', 0)} "
            f"| **{parts[0]}** | {parts[1]} |"
        )
with open(os.path.join(output, "table.md"), "w", encoding="utf-8") as file:
    file.write("\n".join(lines) + "\n")


def plot(name, title, key):
    """Bars of both servers by form and connections; the nginx median of a group is the line at 1."""
    forms = list(dict.fromkeys(result["form"] for result in results))
    width, row, left = 880, 74, 190
    height = 46 + row * len(forms)
    top = max(max(median(result["ours"], key) / median(result["theirs"], key) for result in results), 1.2)
    scale = (width - left - 70) / top
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/><text x="12" y="20" font-size="14">{title}</text>',
    ]
    for number, form in enumerate(forms):
        y = 40 + number * row
        parts.append(f'<text x="12" y="{y + 30}">{form}</text>')
        for bar, result in enumerate(result for result in results if result["form"] == form):
            ratios = sorted(run[key] / median(result["theirs"], key) for run in result["ours"])
            value, at = statistics.median(ratios), y + bar * 15
            parts.append(f'<text x="{left - 8}" y="{at + 10}" text-anchor="end" fill="#555">{result["connections"]}</text>')
            parts.append(f'<rect x="{left}" y="{at}" width="{value * scale:.1f}" height="12" fill="#3b7dd8"/>')
            low, high = (left + ratio * scale for ratio in (ratios[0], ratios[-1]))
            parts.append(f'<path d="M{low:.1f} {at + 6}H{high:.1f}" stroke="#123" stroke-width="2"/>')
            parts.append(f'<text x="{max(high, left) + 6:.1f}" y="{at + 10}">{value:.2f}</text>')
    one = left + scale
    parts.append(f'<path d="M{one:.1f} 34V{height - 6}" stroke="#c33" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{one + 4:.1f}" y="32" fill="#c33">nginx</text></svg>')
    with open(os.path.join(output, name), "w", encoding="utf-8") as svg:
        svg.write("\n".join(parts) + "\n")


plot("requests.svg", "Requests in a second, nginx static = 1, by form and connections; more is better", "rate")
plot("cpu.svg", "Server CPU per request, nginx static = 1, by form and connections; less is better", "cpu_us")
