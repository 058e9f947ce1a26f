#!/usr/bin/env python3
"""./dev test: builds every test of the workspace and runs two of their programs at once.

cargo runs one program after the other, and many wait for other software or have fewer tests than the machine has cores.
What measures time or memory runs alone, at the end.

A program has a limit: past it, what it and its children wait for is printed, and it fails. It also fails if processes that it
started are still there once all programs have ended.

A test that can not look at something says SKIPPED or NOT SHOWN and passes; each such line is listed at the end, and written to
the file that an argument names.
"""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

AT_ONCE = 2
# Several times what the slowest of them takes on two cores.
LIMIT_S = 600
# How long what programs started may take to end after the last of them: some clear away large folders.
PATIENCE_S = 60
# Programs that hold what they see against a clock.
ALONE = {("origin", "front")}
# The longest of them, so that none is left over at the end; any order is right.
FIRST = ["packager", "api", "license", "cmaf", "codec_media", "sample_entry_ffprobe"]
# In the environment of a program and of all that it starts.
MARK = "HEADWATER_TEST_PROGRAM"
GAP = re.compile("SKIPPED|NOT SHOWN")
# What passing tests printed, and their names: all that libtest adds where it is told `--show-output`.
SHOWN = re.compile(rb"\nsuccesses:\n.*\nsuccesses:\n(?:    [^\n]*\n)*", re.DOTALL)
# Stands before what a test printed.
TEST = re.compile("---- (.+) stdout ----")


def build():
    """The (package, name, program, folder) of every test program, or None where one does not build."""
    command = ["cargo", "test", "--locked", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]
    programs = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cargo:
        for line in cargo.stdout:
            message = json.loads(line)
            if message["reason"] != "compiler-artifact" or not message["profile"]["test"] or not message["executable"]:
                continue
            folder = os.path.dirname(message["manifest_path"])
            package = os.path.basename(folder)
            programs.append((package, message["target"]["name"], message["executable"], folder))
    return programs if cargo.returncode == 0 else None


def read(path):
    """What the kernel says at `path`; nothing where its process is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def started_by(mark):
    """The processes whose environment has `mark`, but for the dead."""
    wanted = f"{MARK}={mark}".encode()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = [pid for pid in pids if wanted in read(f"/proc/{pid}/environ").split(b"\0")]
    return [pid for pid in found if not read(f"/proc/{pid}/stat").rpartition(b") ")[2].startswith(b"Z")]


def command_of(pid):
    return read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def waits(pid):
    """What each thread of a process waits for; libtest names the thread of a test after it."""
    lines = [f"  {pid} {command_of(pid)[:200]}"]
    threads = []
    with contextlib.suppress(OSError):
        threads = os.listdir(f"/proc/{pid}/task")
    for thread in threads:
        place = f"/proc/{pid}/task/{thread}"
        name, wait = read(f"{place}/comm").decode(errors="replace").strip(), read(f"{place}/wchan").decode()
        lines.append(f"      {thread} {name}: {wait}")
    return "\n".join(lines)


def end(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def gaps_in(said):
    """Each line by which a program tells that it did not look at something, with the test that printed it if libtest says so."""
    found, test = [], ""
    for line in said.decode(errors="replace").splitlines():
        if heading := TEST.fullmatch(line):
            test = f", {heading[1]}"
        elif GAP.search(line):
            found.append(f"{test}: {line.strip()}")
    return list(dict.fromkeys(found))


class Run:
    """What has been run, what of it failed, and what was not looked at."""

    def __init__(self):
        self.failed = []
        self.gaps = []
        self.marks = []
        self.printing = threading.Lock()

    def one(self, package, name, program, folder):
        """Runs a program to its end and prints what it said, but for what its passing tests did."""
        begun = time.monotonic()
        mark = f"{package} {name} of {os.getpid()}"
        # The folder is as cargo calls it.
        environment = {**os.environ, "CARGO_MANIFEST_DIR": folder, MARK: mark}
        self.marks.append(mark)
        wrong = []
        # A file, since whoever is left behind would hold a pipe open.
        with tempfile.TemporaryFile() as output:
            command = [program, "--show-output"]
            child = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                if child.wait(LIMIT_S) != 0:
                    wrong.append(f"status {child.returncode}")
            except subprocess.TimeoutExpired:
                wrong.append(f"not done after {LIMIT_S} s; what it waits for:")
                wrong += [waits(pid) for pid in started_by(mark)]
                end(started_by(mark))
                child.wait()
            output.seek(0)
            said = output.read()
        took_s = time.monotonic() - begun
        with self.printing:
            print(f"\n     {package} {name}: {'FAILED' if wrong else 'passed'} in {took_s:.1f} s", flush=True)
            sys.stdout.buffer.write(SHOWN.sub(b"", said, count=1))
            sys.stdout.flush()
            self.gaps += [f"{package} {name}{gap}" for gap in gaps_in(said)]
            if wrong:
                self.failed.append(f"{package} {name} ({program}): " + "\n".join(wrong))

    def all(self, programs, at_once):
        """Runs `programs`, `at_once` of them at any time."""
        waiting = queue.SimpleQueue()
        for program in programs:
            waiting.put(program)

        def work():
            while True:
                try:
                    program = waiting.get_nowait()
                except queue.Empty:
                    return
                self.one(*program)

        threads = [threading.Thread(target=work) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def nobody_is_left(self):
        """Ends what programs left running; they have failed."""
        deadline = time.monotonic() + PATIENCE_S
        for mark in self.marks:
            while (left := started_by(mark)) and time.monotonic() < deadline:
                time.sleep(0.1)
            if left:
                self.failed.append(f"{mark}: left running:\n" + "\n".join(waits(pid) for pid in left))
                end(left)


def main():
    programs = build()
    if programs is None:
        return 1
    begun = time.monotonic()
    programs.sort(key=lambda program: FIRST.index(program[1]) if program[1] in FIRST else len(FIRST))
    run = Run()
    run.all([program for program in programs if program[:2] not in ALONE], AT_ONCE)
    run.all([program for program in programs if program[:2] in ALONE], 1)
    run.nobody_is_left()
    if run.gaps:
        print("\nNOT EVERYTHING WAS LOOKED AT:")
    for gap in run.gaps:
        print(f"  {gap}")
    print()
    for failed in run.failed:
        print(f"failed: {failed}")
    gaps = f"{len(run.gaps)} times SKIPPED or NOT SHOWN"
    print(f"{len(programs)} programs in {time.monotonic() - begun:.0f} s, {len(run.failed)} failed, {gaps}")
    for path in sys.argv[1:]:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{gap}\n" for gap in run.gaps)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
