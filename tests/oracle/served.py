"""An origin on loopback, and what it must answer so that every cache and player is content."""

import gzip
import http.client
import json
import random
import re
import subprocess
import threading
import time
from urllib.parse import quote

TIMEOUT_S = 60
QUERY_OF_ADDRESSING = {"timeline-number": "", "timeline-time": "?addressing=time", "number": "?addressing=number",
                       "ondemand": "?addressing=ondemand"}
# Range requests for each of at most so many files of a tree.
RANGED_FILE_COUNT_MAX = 12
SEED = 20080623


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body


class Origin:
    """One running origin; answers are asked for over one connection a thread."""

    def __init__(self, headwater, library, scratch):
        self.log_path = scratch / "origin.log"
        self.connections = threading.local()
        command = [headwater, "origin", "--library", library, "--listen", "127.0.0.1:0", "--cache", scratch / "cache"]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.port = self.wait_for_port()

    def wait_for_port(self):
        """The port it says it listens on; a start takes as long as the machine is busy."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"origin ended with {self.process.returncode}: {self.log()}")
            plain = re.sub(r"\x1b\[[0-9;]*m", "", self.log())
            found = re.search(r"127\.0\.0\.1:(\d+)", plain)
            if found:
                return int(found.group(1))
            time.sleep(0.05)
        raise RuntimeError(f"origin does not listen: {self.log()}")

    def log(self):
        return self.log_path.read_text("utf-8", "replace")

    def ask(self, path, method="GET", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        for attempt in (1, 2):
            connection = getattr(self.connections, "one", None)
            fresh = connection is None
            if fresh:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
                self.connections.one = connection
            try:
                connection.request(method, quote(path, safe="/?=&.-_"), headers=headers)
                response = connection.getresponse()
                return Answer(response, response.read())
            except (http.client.HTTPException, ConnectionError):
                # A kept connection may have been closed while it was idle; a new one must answer.
                connection.close()
                self.connections.one = None
                if fresh or attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def memory_peak_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

    def stop(self):
        """True when it ends by itself within ten seconds of SIGTERM."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return self.process.returncode == 0


def listing(headwater, library, scratch):
    """Path to row of `headwater library`."""
    command = [headwater, "library", library, "--json", "--cache", scratch / "cache"]
    done = subprocess.run(command, capture_output=True, timeout=10 * TIMEOUT_S, check=False)
    errors = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0 or "panicked" in errors:
        raise RuntimeError(f"headwater library ended with {done.returncode}: {errors}")
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return {row["path"]: row for row in rows}


def check_tree(report, origin, name, media_id, root, addressing):
    """Every file of a packaged tree is what the origin answers with, however it is asked for."""
    dice = random.Random(f"{SEED} {name}")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    ranged = set(dice.sample(files, min(RANGED_FILE_COUNT_MAX, len(files))))
    for path in files:
        relative = str(path.relative_to(root))
        url = f"/vod/{media_id}/{relative}"
        if relative == "manifest.mpd":
            url += QUERY_OF_ADDRESSING[addressing]
        check_file(report, origin, f"{name} served {relative}", url, path.read_bytes(), dice if path in ranged else None)


def check_file(report, origin, subject, url, packaged, dice):
    answer = origin.ask(url)
    if not report.check(subject, "is answered", answer.status == 200, lambda: f"{answer.status} {answer.body[:200]}"):
        return
    report.check(subject, "is what was packaged", answer.body == packaged,
                 lambda: f"{len(answer.body)} bytes, packaged {len(packaged)}")
    report.check(subject, "Content-Length is the size", answer.headers["content-length"] == str(len(packaged)),
                 lambda: str(answer.headers["content-length"]))
    etag = answer.headers["etag"]
    if not report.check(subject, "has a strong validator", bool(etag) and etag.startswith('"'), str(etag)) or dice is None:
        return
    head = origin.ask(url, "HEAD")
    same = ("content-length", "content-type", "etag", "cache-control")
    report.check(subject, "HEAD says what GET says",
                 head.status == 200 and not head.body and all(head.headers[n] == answer.headers[n] for n in same),
                 lambda: f"{head.status} {[(n, head.headers[n], answer.headers[n]) for n in same]}")
    again = origin.ask(url, If_None_Match=etag)
    report.check(subject, "is not sent again", again.status == 304 and not again.body, lambda: str(again.status))
    check_ranges(report, origin, subject, url, packaged, etag, dice)
    packed = origin.ask(url, Accept_Encoding="gzip")
    if packed.headers["content-encoding"] == "gzip":
        report.check(subject, "is the same when unpacked", gzip.decompress(packed.body) == packaged)
        report.check(subject, "is another representation when packed", packed.headers["etag"] != etag)
    elif url.split("?")[0].endswith((".m3u8", ".mpd")) and len(packaged) > 1024:
        report.fail(subject, "long text is packed when asked for", str(packed.headers["content-encoding"]))


def check_ranges(report, origin, subject, url, packaged, etag, dice):
    size = len(packaged)
    first = dice.randrange(size)
    last = dice.randrange(first, size)
    suffix = dice.randrange(1, size + 1)
    for wanted, start, end in (
        (f"bytes={first}-{last}", first, last + 1),
        (f"bytes={first}-", first, size),
        (f"bytes=-{suffix}", size - suffix, size),
        (f"bytes={first}-{size + 10}", first, size),
    ):
        part = origin.ask(url, Range=wanted)
        right = part.status == 206 and part.body == packaged[start:end]
        right = right and part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        report.check(subject, "a range is that part", right,
                     lambda: f"{wanted}: {part.status} {part.headers['content-range']}, {len(part.body)} bytes")
    beyond = origin.ask(url, Range=f"bytes={size}-")
    report.check(subject, "a range past the end is refused",
                 beyond.status == 416 and beyond.headers["content-range"] == f"bytes */{size}", lambda: str(beyond.status))
    kept = origin.ask(url, Range=f"bytes={first}-{last}", If_Range=etag)
    report.check(subject, "a range of the same version is sent", kept.status == 206, lambda: str(kept.status))
    changed = origin.ask(url, Range=f"bytes={first}-{last}", If_Range='"other"')
    report.check(subject, "of another version the whole is sent", changed.status == 200 and changed.body == packaged,
                 lambda: str(changed.status))
