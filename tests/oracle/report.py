"""What was checked: every check is counted, every failure kept with its reason."""

import threading
import traceback
from contextlib import contextmanager


class Report:
    """Checks of all workers together."""

    def __init__(self):
        self.passed = 0
        self.failures = []
        self.rows = []
        self.rules = {}
        self._lock = threading.Lock()

    def check(self, subject, what, holds, detail=""):
        """Counts one check; `detail` (text, or a function that makes it) says why it failed."""
        with self._lock:
            if holds:
                self.passed += 1
            else:
                self.failures.append((subject, what, detail() if callable(detail) else detail))
        return holds

    def fail(self, subject, what, detail):
        self.check(subject, what, False, detail)

    @contextmanager
    def step(self, subject, what):
        """An exception inside is a failure of `what`, not the end of the run."""
        try:
            yield
        except Exception as error:  # noqa: BLE001: whatever a reader meets in bytes it does not believe
            last = traceback.extract_tb(error.__traceback__)[-1]
            self.fail(subject, what, f"{type(error).__name__}: {error} ({last.name}, line {last.lineno})")

    def row(self, *cells):
        with self._lock:
            self.rows.append(cells)

    def apply_rule(self, name):
        """Notes that a documented difference between ffmpeg and the truth was met."""
        with self._lock:
            self.rules[name] = self.rules.get(name, 0) + 1


def print_table(heads, rows):
    """Columns as wide as they need to be; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in [heads, *cells]) for at in range(len(heads))]
    for row in [heads, *cells]:
        line = (cell.rjust(width) if cell[:1].isdigit() or cell[:1] == "-" else cell.ljust(width) for cell, width in zip(row, widths))
        print("  ".join(line).rstrip())
