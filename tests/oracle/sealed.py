"""A site with a vault, grants and origins; and that its keys are nowhere but where they belong."""

import base64
import hashlib
import json
import re
import subprocess
import threading

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import served

SCHEMES = ("cbcs", "cenc", "aes128", "sampleaes")
CLASSES = ("AUDIO", "SD", "HD", "UHD1", "UHD2")
TIMEOUT_S = 120
MEDIA_SIZE_MIN = 1 << 15
# Titles whose keys are planted, so that all that follows is looked through for them.
PLANTED_COUNT = 2
# When the keys of titles that are rotated change, in seconds: two of them fall into one segment of most films.
ROTATED_AT_S = (3, 6, 7, 13)


def decrypt_whole(data, key, iv):
    """AES-128 of RFC 8216: CBC over the whole segment, padded as PKCS #7 says."""
    plain = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor().update(data)
    unpad = padding.PKCS7(128).unpadder()
    return unpad.update(plain) + unpad.finalize()


class Watcher(served.Origin):
    """An origin whose every answer is looked through for keys."""

    def __init__(self, site, name, arguments):
        self.site, self.name = site, name
        folder = site.scratch / name
        folder.mkdir()
        self.log_path = folder / "origin.log"
        self.connections = threading.local()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([site.headwater, "--log-format", "json", "origin", *arguments],
                                            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.port = self.wait_for_port()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(self, path, method="GET", **headers):
        answer = super().ask(path, method, **headers)
        # Media of other titles than those with planted keys is passed over: it is most of what is answered.
        is_near = len(answer.body) < MEDIA_SIZE_MIN or any(media_id in path for media_id in self.site.planted)
        if is_near and not re.search(r"/key/|/license/", path):
            self.site.look_through(path, answer.body + str(answer.headers).encode())
        return answer


class Site:
    """Everything that one deployment has in its folders."""

    def __init__(self, headwater, scratch):
        self.headwater, self.scratch = headwater, scratch
        self.vault, self.kek = scratch / "vault", scratch / "vault.kek"
        self.grant_key, self.foreign_key = scratch / "grant.key", scratch / "foreign.key"
        self.revoked = scratch / "revoked"
        self.needles, self.leaks, self.all_keys, self.planted = [], [], {}, []
        self.bodies = 0
        self.lock = threading.Lock()

    def run(self, *arguments):
        done = subprocess.run([self.headwater, *map(str, arguments)], capture_output=True, timeout=TIMEOUT_S, check=False)
        said = done.stderr.decode("utf-8", "replace")
        self.look_through(f"headwater {arguments[0]} stderr", done.stderr)
        if done.returncode != 0 or "panicked" in said:
            raise RuntimeError(f"headwater {arguments[:2]} ended with {done.returncode}: {said}")
        return done.stdout.decode()

    def open(self, library):
        self.library = library
        self.run("keys", "init", self.vault, "--kek", self.kek)
        self.run("grant", "new-key", self.grant_key)
        self.run("grant", "new-key", self.foreign_key)
        self.revoked.write_text("")
        listed = self.run("library", library, "--json", "--cache", self.scratch / "cache")
        return [json.loads(line) for line in listed.splitlines()]

    def make_keys(self, media_ids, rotated):
        """Keys of every title; some are planted ones that are known beforehand, some change while the title plays."""
        planted = sorted(media_ids, key=lambda media_id: "h264" not in media_id)[:PLANTED_COUNT]
        for media_id in planted:
            path = self.scratch / "planted"
            lines = []
            for scheme in SCHEMES:
                for track in CLASSES:
                    raw = hashlib.sha256(f"canary {media_id} {scheme} {track}".encode()).digest()
                    lines.append(f"{raw[16:].hex()}:{raw[:16].hex()}:{scheme}:{track}")
            path.write_text("\n".join(lines) + "\n")
            path.chmod(0o600)
            self.run("keys", "import", self.vault, media_id, "--kek", self.kek, "--key-file", path)
            path.unlink()
        self.planted = planted
        drawn = [media_id for media_id in media_ids if media_id not in set(planted)]
        if drawn:
            self.run("keys", "create", self.vault, *drawn, "--kek", self.kek)
        if rotated:
            at = ",".join(map(str, ROTATED_AT_S))
            self.run("keys", "rotate", self.vault, *rotated, "--kek", self.kek, "--at", at)
        for row in self.listed():
            self.all_keys.setdefault(row["id"], {}).update(opened(row))
        # The names that are looked for: all keys would make a run long, and a leak is one of the program, not of a key.
        for media_id in planted:
            for key in self.all_keys[media_id].values():
                self.needles += shapes(key)
        self.needles = sorted(set(self.needles))

    def has_needle(self, data):
        return any(needle in data for needle in self.needles)

    def listed(self, *media_id):
        said = self.run("keys", "list", self.vault, *media_id, "--kek", self.kek, "--show-secrets", "--json")
        return [json.loads(line) for line in said.splitlines()]

    def list_keys(self, media_id):
        """Keys of a title that came later, by scheme and key id."""
        found = {}
        for row in self.listed(media_id):
            found.update(opened(row))
        return found

    def keys(self, media_id):
        return self.all_keys[media_id]

    def grant(self, media_id, *arguments, key=None):
        said = self.run("grant", media_id, "--key-file", key or self.grant_key, "--json", *arguments)
        return json.loads(said)["token"]

    def start(self, name, clear_lead_s=0):
        config = self.scratch / f"{name}.toml"
        config.write_text(f"""[origin]
library = "{self.library}"
listen = "127.0.0.1:0"
cache = "{self.scratch / 'cache'}"
[origin.protection]
vault = "{self.vault}"
kek = "{self.kek}"
clear_lead_s = {clear_lead_s}
[origin.protection.systems.clear_key]
[origin.access]
grant_keys = "{self.grant_key}"
revoked = "{self.revoked}"
""")
        return Watcher(self, name, ["--config", config])

    def start_clear(self):
        return Watcher(self, "clear", ["--library", self.library, "--listen", "127.0.0.1:0", "--cache", self.scratch / "cache"])

    def note_key(self, url):
        """Nothing to do: answers with keys are not looked through."""

    def look_through(self, where, data):
        if not self.needles:
            return
        found = self.has_needle(data)
        with self.lock:
            self.bodies += 1
            if found:
                self.leaks.append(where)


def opened(row):
    """A listed key by its scheme and id."""
    return {(row["scheme"], bytes.fromhex(row["key_id"].replace("-", ""))): bytes.fromhex(row["key"])}


def shapes(key):
    """The ways a key may be written."""
    swapped = key[3::-1] + key[5:3:-1] + key[7:5:-1] + key[8:]
    text = key.hex()
    guid = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    plain = base64.b64encode(key).rstrip(b"=")
    web = base64.urlsafe_b64encode(key).rstrip(b"=")
    other = swapped.hex()
    dashed = f"{other[:8]}-{other[8:12]}-{other[12:16]}-{other[16:20]}-{other[20:]}"
    said = [key, swapped, plain, web, base64.b64encode(swapped).rstrip(b"="), base64.urlsafe_b64encode(swapped).rstrip(b"=")]
    pairs = [[raw[at : at + 1].hex() for at in range(16)] for raw in (key, swapped)]
    words = [text, guid, other, dashed, *(between.join(one) for one in pairs for between in (":", " ", "%", "\\x", "\\u00"))]
    for word in words:
        said += [word.encode(), word.upper().encode()]
    # Lists of numbers, and text of a character for each byte as JSON escapes it.
    for raw in (key, swapped):
        said += [between.join(map(str, raw)).encode() for between in (",", ", ")]
        said += [json.dumps(raw.decode("latin-1"))[1:-1].encode(), raw.decode("latin-1").encode()]
    return said


def check_no_leak(run):
    """What was answered and written is free of every planted key."""
    site = run.site
    run.count("answers looked through for planted keys", site.bodies)
    run.count("shapes of planted keys looked for", len(set(site.needles)))
    run.report.check("canary", "keys were planted", len(site.planted) > 0 and len(site.needles) > 0)
    run.report.check("canary", "a planted key is found where one is", site.has_needle(b"x" + site.needles[0]))
    run.report.check("canary", "no answer has a planted key", not site.leaks, lambda: str(site.leaks[:5]))
    places = [*site.vault.rglob("*"), *site.scratch.glob("*/origin.log"), *site.scratch.glob("*.toml"),
              *(site.scratch / "cache").rglob("*")]
    for path in places:
        if path.is_file():
            run.count("files looked through for planted keys")
            run.report.check("canary", "no file of vault, cache and log has a planted key",
                             not site.has_needle(path.read_bytes()), str(path))
