"""Files that are damaged, or made to do damage: refused with a reason, or served as far as they go."""

import resource
import subprocess

import manifest
import served

# Processor time that opening one file may take, and wall time on a busy machine.
CPU_TIME_S_MAX = 2
WALL_TIME_S_MAX = 60
# Memory that opening and serving all of them may take.
MEMORY_BYTES_MAX = 512 << 20


def check(report, headwater, folder, scratch):
    """All files of `folder`; returns those that are played."""
    played = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and inspect(report, headwater, path):
            played.append(path)
    rows = served.listing(headwater, folder, scratch)
    for name, row in sorted(rows.items()):
        reasons = [refusal["why"] for refusal in row["refused"]]
        report.check(f"{folder.name}/{name}", "is played or refused with a reason",
                     row["playable"] or reasons and all(reasons), str(row))
    origin = served.Origin(headwater, folder, scratch)
    try:
        for name, row in sorted(rows.items()):
            crawl(report, origin, f"{folder.name}/{name}", row)
        report.check(folder.name, "the origin is still there", origin.process.poll() is None)
        peak = origin.memory_peak_bytes()
        report.check(folder.name, "memory stays bounded", peak <= MEMORY_BYTES_MAX, lambda: f"{peak >> 20} MiB")
        report.check(folder.name, "nothing panicked", "panicked" not in origin.log(),
                     lambda: origin.log()[origin.log().find("panicked") - 200 :][:600])
    finally:
        report.check(folder.name, "the origin ends when told to", origin.stop())
    return played


def inspect(report, headwater, path):
    """One file by itself; true when it is played."""
    name = f"{path.parent.name}/{path.name}"

    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_TIME_S_MAX, CPU_TIME_S_MAX + 1))

    command = [headwater, "inspect", "--json", path]
    try:
        done = subprocess.run(command, capture_output=True, timeout=WALL_TIME_S_MAX, preexec_fn=limit, check=False)
    except subprocess.TimeoutExpired:
        report.fail(name, "is looked at in time", f"{WALL_TIME_S_MAX} s")
        return False
    errors = done.stderr.decode("utf-8", "replace")
    report.check(name, "is looked at in time", done.returncode >= 0, lambda: f"signal {-done.returncode}")
    report.check(name, "does not panic", "panicked" not in errors and done.returncode != 101, errors)
    if done.returncode == 0:
        return True
    report.check(name, "is refused with a reason", b'"why":"' in done.stdout and b'"why":""' not in done.stdout,
                 done.stdout.decode("utf-8", "replace"))
    report.row(name, "refused", *[""] * 10)
    return False


def crawl(report, origin, name, row):
    """Every URL that the entry points of one file lead to: there, or said to be damaged."""
    pending = sorted(row["entries"].get(entry) for entry in ("hls", "hls_ts", "dash") if entry in row["entries"])
    if not pending:
        answer = origin.ask(f"/vod/{row['id']}/master.m3u8")
        report.check(name, "is refused over HTTP too", answer.status in (404, 422), lambda: str(answer.status))
        return
    seen = set()
    damaged = 0
    while pending:
        url = pending.pop()
        if url in seen:
            continue
        seen.add(url)
        answer = origin.ask(url)
        is_damaged = answer.status == 500 and b"DAMAGED_MEDIA" in answer.body
        damaged += is_damaged
        report.check(f"{name} {url}", "is there, or damaged", answer.status == 200 or is_damaged,
                     lambda: f"{answer.status} {answer.body[:200]}")
        if answer.status == 200 and url.endswith((".m3u8", ".mpd")):
            pending += manifest.links(url, answer.body.decode())
    report.row(name, "played", *[""] * 9, len(seen), f"{damaged} damaged")

