#!/usr/bin/env python3
"""./dev test: builds every test of the workspace and runs two of their programs at once.

cargo runs one program after the other, and many wait for other software or have fewer tests than the machine has cores.
What measures time or memory runs alone, at the end.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time

AT_ONCE = 2
# Programs that hold what they see against a clock.
ALONE = {("origin", "front")}
# The longest of them, so that none is left over at the end; any order is right.
FIRST = ["packager", "api", "license", "cmaf", "codec_media", "sample_entry_ffprobe"]


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


class Run:
    """What has been run, and what of it failed."""

    def __init__(self):
        self.failed = []
        self.printing = threading.Lock()

    def one(self, package, name, program, folder):
        """Runs a program to its end and prints all it said."""
        begun = time.monotonic()
        # As cargo calls them.
        environment = {**os.environ, "CARGO_MANIFEST_DIR": folder}
        done = subprocess.run([program], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        took_s = time.monotonic() - begun
        with self.printing:
            print(f"\n     {package} {name}: {'passed' if done.returncode == 0 else 'FAILED'} in {took_s:.1f} s", flush=True)
            sys.stdout.buffer.write(done.stdout)
            sys.stdout.flush()
            if done.returncode != 0:
                self.failed.append(f"{package} {name} ({program}): status {done.returncode}")

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


def main():
    programs = build()
    if programs is None:
        return 1
    begun = time.monotonic()
    programs.sort(key=lambda program: FIRST.index(program[1]) if program[1] in FIRST else len(FIRST))
    run = Run()
    run.all([program for program in programs if program[:2] not in ALONE], AT_ONCE)
    run.all([program for program in programs if program[:2] in ALONE], 1)
    print(f"\n{len(programs)} programs in {time.monotonic() - begun:.0f} s, {len(run.failed)} failed")
    for failed in run.failed:
        print(f"failed: {failed}")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
