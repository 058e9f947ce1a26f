"""MPDs against the published schema of ISO/IEC 23009-1, where the environment names a copy of it.

Its licence does not let it be part of this repository."""

import os
import shutil
import subprocess

VARIABLE = "HEADWATER_DASH_SCHEMA"
ADDRESSINGS = ("timeline", "time", "number", "ondemand")
TEXTS = ("wvtt", "stpp", "vtt")
# An MPD without what every MPD must have, and what xmllint leaves with when it says so.
EMPTY_MPD = b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>'
INVALID = 3


class Schema:
    """The schema that the environment names; `skipped` says why there is none."""

    def __init__(self, report):
        self.report = report
        self.path = os.environ.get(VARIABLE)
        self.skipped = None
        if not self.path:
            self.skipped = (f"{VARIABLE}=.../DASH-MPD.xsd names a copy of it, with the schemas it imports beside it "
                            "or in an XML catalog; xmllint is in libxml2-utils")
        elif not shutil.which("xmllint"):
            self.skipped = f"{VARIABLE} is set, but there is no xmllint (Debian: libxml2-utils)"
        else:
            done = self.lint(EMPTY_MPD)
            right = done.returncode == INVALID and b"profiles" in done.stderr
            report.check("published schema", "tells a wrong MPD from a right one", right,
                         lambda: done.stderr.decode("utf-8", "replace"))

    def lint(self, mpd):
        return subprocess.run(["xmllint", "--nonet", "--noout", "--schema", self.path, "-"], input=mpd,
                              capture_output=True, check=False)

    def check(self, subject, mpd):
        done = self.lint(mpd)
        self.report.check(subject, "is valid by the published schema", done.returncode == 0,
                          lambda: done.stderr.decode("utf-8", "replace"))

    def check_served(self, origin, name, media_id):
        """The MPD in every addressing and text coding."""
        if self.skipped:
            return
        for addressing in ADDRESSINGS:
            for text in TEXTS:
                url = f"/vod/{media_id}/manifest.mpd?addressing={addressing}&text={text}"
                answer = origin.ask(url)
                subject = f"{name} served {url}"
                if self.report.check(subject, "is answered", answer.status == 200, lambda: str(answer.status)):
                    self.check(subject, answer.body)
