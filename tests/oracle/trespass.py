"""What nobody may have without a grant, and what every holder of one gets alike."""

import base64
import json
import random
import re
import time

# A file of ended sessions, or a key out of use, must be heeded within this time.
NOTICED_S = 8
# Of the segments looked at, one in so many is asked for in slices too.
SLICED_EVERY = 5
SEED = 20161101


def check_slices(title, url, whole):
    """Ranges are slices, HEAD says the size, and every process gives the same bytes."""
    # Tokens differ from run to run: what is chosen may not hang on them.
    place = re.sub(r"/~[^/]*", "", url)
    dice = random.Random(f"{SEED} {place}")
    if dice.randrange(SLICED_EVERY) or not whole:
        return
    origin, name = title.protected, f"{title.row['path']} {title.scheme} {place.rsplit('/', 2)[1:]}"
    check = title.run.report.check
    head = origin.ask(url, "HEAD")
    check(name, "HEAD has the size", head.status == 200 and head.headers["content-length"] == str(len(whole)),
          lambda: f"{head.status} {head.headers['content-length']}, {len(whole)} bytes")
    check(name, "the same bytes are there twice", origin.ask(url).body == whole)
    other = title.second.ask(url)
    check(name, "another process has the same bytes", other.status == 200 and other.body == whole, lambda: str(other.status))
    size = len(whole)
    spans = [(0, 0), (size - 1, size - 1)]
    for _ in range(4):
        first = dice.randrange(size)
        spans.append((first, dice.randrange(first, size)))
    for first, last in spans:
        part = origin.ask(url, Range=f"bytes={first}-{last}")
        check(name, "a range is a slice of the whole", part.status == 206 and part.body == whole[first : last + 1],
              lambda: f"{first}-{last} of {size}: {part.status}, {len(part.body)} bytes")
    tail = origin.ask(url, Range=f"bytes=-{min(17, size)}")
    check(name, "the tail is a slice of the whole", tail.status == 206 and tail.body == whole[-min(17, size) :])
    title.run.count(f"{title.scheme} segments asked for in slices")


def first_files(origin, base, scheme):
    """The first of each kind that a title has: playlists, header, segment."""
    entry = "ts/master.m3u8" if scheme in ("aes128", "sampleaes") else "master.m3u8"
    text = origin.ask(f"{base}/{entry}?scheme={scheme}").body.decode()
    found = re.search(r"(v[0-9a-f]{16}/[\w-]+/[va]\d+)/index\.m3u8", text)
    if not found:
        return [f"{entry}?scheme={scheme}"]
    folder = found.group(1)
    playlist = origin.ask(f"{base}/{folder}/index.m3u8").body.decode()
    segment = next(line for line in playlist.splitlines() if line and line[0] != "#")
    key = re.search(r'URI="\.\./\.\./(key/[0-9a-f-]+)"', playlist)
    files = [f"{entry}?scheme={scheme}", f"{folder}/index.m3u8", f"{folder}/{segment}"]
    if "m4s" in segment:
        files += [f"{folder}/init.mp4", f"manifest.mpd?scheme={scheme}"]
    if key:
        files.append(f"{folder.split('/')[0]}/{key.group(1)}")
    return files


def check(run, rows):
    rows = [row for row in rows if row["entries"].get("hls_ts") and row["entries"].get("hls")]
    if not rows:
        run.skipped.append("no title to ask for without a grant")
        return
    # A planted title, so that answers that refuse are looked through for keys that are known.
    planted = [row for row in rows if row["id"] in run.site.planted]
    victims = [row for row in planted if opens(run, row)] or [row for row in rows if opens(run, row)]
    if not victims:
        run.skipped.append("no title that every scheme opens")
        return
    with run.report.step("grants", "are checked to the end"):
        matrix(run, victims[0], next(row for row in rows if row is not victims[0]) if len(rows) > 1 else None)
    with run.report.step("licence", "is checked to the end"):
        licence(run, victims[0])
    with run.report.step("sessions", "are checked to the end"):
        ended_session(run, victims[0])
    with run.report.step("revoked key", "is checked to the end"):
        revoked_key(run, victims[-1])
    for origin in run.ends[1:]:
        for path in ("/metrics", "/healthz", "/"):
            origin.ask(path)


def opens(run, row):
    base = f"/vod/{row['id']}/~{run.site.grant(row['id'])}"
    return all(len(first_files(run.ends[1], base, scheme)) > 1 for scheme in ("cbcs", "cenc", "aes128", "sampleaes"))


def matrix(run, row, other):
    """Every kind of file with every kind of grant that does not open it."""
    site, origin = run.site, run.ends[1]
    base = f"/vod/{row['id']}"
    good = site.grant(row["id"])
    other_id = other["id"] if other else "another-title"
    short = site.grant(row["id"], "--expires", "1s")
    tampered = [good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :] for at in (8, len(good) // 2, len(good) - 8)]
    bad = {"of another key": site.grant(row["id"], key=site.foreign_key), "of another title": site.grant(other_id),
           "not yet valid": site.grant(row["id"], "--not-before", "30m"), "cut": good[:-5], "expired": short, "empty": "",
           **{f"tampered {at}": token for at, token in enumerate(tampered)}}
    files = {scheme: first_files(origin, f"{base}/~{good}", scheme) for scheme in ("cbcs", "cenc", "aes128", "sampleaes")}
    # A second grant outlives the second it is for, and what the clock's rounding adds.
    time.sleep(2.5)
    for scheme, paths in files.items():
        only = site.grant(row["id"], "--scheme", "clear")
        for path in paths:
            subject = f"{row['path']} {scheme} {re.sub('[0-9a-f-]{16,}', '…', path)}"
            tell = lambda answer: f"{answer.status} {answer.body[:120]}"
            answer = origin.ask(f"{base}/~{good}/{path}")
            run.report.check(subject, "is there for a grant", answer.status == 200, tell(answer))
            answer = origin.ask(f"{base}/{path}")
            run.report.check(subject, "is refused without a grant", answer.status == 401, tell(answer))
            answer = origin.ask(f"{base}/{path}", Authorization=f"Bearer {good}")
            run.report.check(subject, "is there for a grant in a header", answer.status == 200, tell(answer))
            caching = answer.headers["cache-control"] or ""
            run.report.check(subject, "shared caches do not keep what a header opened",
                             "private" in caching or "no-store" in caching, caching)
            for kind, token in {**bad, "for the clear form": only}.items():
                answer = origin.ask(f"{base}/~{token}/{path}")
                # What a good grant does not open is not there; one that is none at all may be no path either.
                hidden = kind in ("empty", "for the clear form") and answer.status == 404
                refused = answer.status in (401, 403) or hidden
                run.report.check(subject, f"is refused for a grant {kind}", refused, tell(answer))
                stale = "no-store" in (answer.headers["cache-control"] or "")
                run.report.check(subject, "a refusal is not kept", stale, str(answer.headers["cache-control"]))
                run.count("refusals")
    clear_forms(run, row, good)


def clear_forms(run, row, token):
    """The clear form's files are nowhere, whoever asks."""
    clear, origin = run.ends[0], run.ends[1]
    for entry in ("master.m3u8", "ts/master.m3u8"):
        text = clear.ask(f"/vod/{row['id']}/{entry}").body.decode()
        for folder in sorted(set(re.findall(r"(v[0-9a-f]{16}/[\w-]+/\w+)/index\.m3u8", text))):
            playlist = clear.ask(f"/vod/{row['id']}/{folder}/index.m3u8").body.decode()
            names = [line for line in playlist.splitlines() if line and line[0] != "#"]
            for name in ("index.m3u8", "iframes.m3u8", "init.mp4", "media.mp4", names[0], names[-1], "iframe-1.m4s",
                         "iframe-1.ts", "t0.m4s"):
                answer = origin.ask(f"/vod/{row['id']}/~{token}/{folder}/{name}")
                run.report.check(f"{row['path']} {folder.split('/')[1:]} {name}", "has no clear form", answer.status == 404,
                                 lambda: f"{answer.status}, {len(answer.body)} bytes")
                # The version of the clear form under the names of the protected ones.
                for form in ("cmaf-cbcs", "cmaf-cenc", "ts-aes128", "ts-sampleaes"):
                    version, _, track = folder.split("/")
                    answer = origin.ask(f"/vod/{row['id']}/~{token}/{version}/{form}/{track}/{name}")
                    run.report.check(f"{row['path']} {form} {track} {name}", "is not there by the clear version",
                                     answer.status == 404, lambda: str(answer.status))
                run.count("clear files asked for and not found")


def licence(run, row):
    """Clear Key licences are for holders of a grant, and have the vault's keys."""
    origin, site = run.ends[1], run.site
    keys = {key_id: key for (scheme, key_id), key in site.keys(row["id"]).items() if scheme in ("cbcs", "cenc")}
    encode = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    body = json.dumps({"kids": [encode(key_id) for key_id in keys], "type": "temporary"})
    import http.client

    def post(path):
        connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=20)
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        status, data = answer.status, answer.read()
        connection.close()
        return status, data

    status, data = post(f"/vod/{row['id']}/~{site.grant(row['id'])}/license/clearkey")
    got = {}
    if status == 200:
        got = {entry["kid"]: entry["k"] for entry in json.loads(data)["keys"]}
    want = {encode(key_id): encode(key) for key_id, key in keys.items()}
    run.report.check(f"{row['path']} licence", "has the keys of the vault", got == want, f"{status}, {len(got)} of {len(want)}")
    for kind, base, right in (("without a grant", f"/vod/{row['id']}", (401,)),
                              ("for a foreign grant",
                               f"/vod/{row['id']}/~{site.grant(row['id'], key=site.foreign_key)}", (403,))):
        status, data = post(f"{base}/license/clearkey")
        run.report.check(f"{row['path']} licence", f"is refused {kind}", status in right, str(status))
        site.look_through(f"licence {kind}", data)


def within(run, subject, what, holds):
    """`holds` becomes true in time; answers how long it took."""
    begun = time.monotonic()
    while not holds() and time.monotonic() - begun < NOTICED_S:
        time.sleep(0.25)
    run.report.check(subject, what, holds(), f"not within {NOTICED_S} s")


def ended_session(run, row):
    site, origin = run.site, run.ends[1]
    session = "0f-session of a viewer"
    base = f"/vod/{row['id']}/~{site.grant(row['id'], '--session', session)}/master.m3u8?scheme=cbcs"
    other = f"/vod/{row['id']}/~{site.grant(row['id'], '--session', 'another')}/master.m3u8?scheme=cbcs"
    run.report.check("sessions", "are open until they end", origin.ask(base).status == 200)
    site.revoked.write_text(f"# ended\n{session.encode().hex()}\n")
    within(run, "sessions", "end when their file says so", lambda: origin.ask(base).status == 403)
    run.report.check("sessions", "others go on", origin.ask(other).status == 200)
    site.revoked.write_text("no hexadecimal digits\n")
    time.sleep(3)
    run.report.check("sessions", "stay ended when the file is damaged", origin.ask(base).status == 403)


def outcome_count(origin, outcome):
    text = origin.ask("/metrics").body.decode()
    return sum(int(float(count)) for count in re.findall(rf'outcome="{outcome}"[^\n]*}} (\S+)', text))


def revoked_key(run, row):
    """A key that is taken back is out of use soon, and somebody is told."""
    site, origin = run.site, run.ends[1]
    base = f"/vod/{row['id']}/~{site.grant(row['id'])}"
    entry, *files = first_files(origin, base, "cbcs")
    segment = next(file for file in files if file.endswith("m4s"))
    run.report.check("revoked key", "title plays before", origin.ask(f"{base}/{segment}").status == 200)
    before = outcome_count(origin, "no_key")
    for scheme, key_id in site.keys(row["id"]):
        if scheme == "cbcs":
            text = key_id.hex()
            name = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
            site.run("keys", "revoke", site.vault, name)
    within(run, "revoked key", "its segments are gone", lambda: origin.ask(f"{base}/{segment}").status == 404)
    within(run, "revoked key", "its entry is gone", lambda: origin.ask(f"{base}/{entry}").status == 404)
    within(run, "revoked key", "is told in the metrics", lambda: outcome_count(origin, "no_key") > before)
    run.report.check("revoked key", "other schemes of the title go on",
                     origin.ask(f"{base}/master.m3u8?scheme=cenc").status == 200)
