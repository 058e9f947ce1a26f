#!/usr/bin/env python3
"""Steps of the walk of tests/e2e.d/control: walk.py API FOLDER STEP [ARGUMENT…]. What steps tell each other is in FOLDER."""

import hashlib
import http.client
import json
import pathlib
import sys
import time
import urllib.parse

API, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
HOST = urllib.parse.urlsplit(API).netloc
TUS = {"Tus-Resumable": "1.0.0"}


def remember(name, value):
    (FOLDER / name).write_text(value)


def recall(name):
    return (FOLDER / name).read_text()


def ask(method, path, body=None, headers=None, expect=(200,), who="operator"):
    connection = http.client.HTTPConnection(HOST, timeout=30)
    headers = dict(headers or {})
    if who and (FOLDER / who).exists():
        headers["Authorization"] = "Bearer " + recall(who)
    if isinstance(body, (dict, list)):
        body, headers["Content-Type"] = json.dumps(body), "application/json"
    connection.request(method, "/api/v1" + path, body, headers)
    reply = connection.getresponse()
    data = reply.read()
    if reply.status not in expect:
        sys.exit(f"{method} {path}: {reply.status} {data.decode(errors='replace')}")
    return reply, json.loads(data) if data and "json" in reply.headers.get("Content-Type", "") else data


def sign_in(email, password):
    _, body = ask("POST", "/auth/login", {"email": email, "password": password}, who=None)
    remember("operator", body["access_token"])


def create():
    movie = {"title": "Der Film", "status": "draft", "drm_required": False, "runtime_minutes": 1, "content_rating": "PG"}
    _, body = ask("POST", "/admin/movies", movie, expect=(201,))
    remember("movie", body["id"])


def announce():
    film = (FOLDER / "film.mp4").read_bytes()
    target = {"content_type": "movie", "content_id": recall("movie")}
    announced = {"asset_type": "video_master", "filename": "film.mp4", "content_type": "video/mp4",
                 "size_bytes": len(film), "transport": "tus", "target": target}
    _, body = ask("POST", "/uploads", announced, expect=(201,))
    remember("upload", body["id"])
    remember("tus", urllib.parse.urlsplit(body["upload_url"]).path)


def tuspy(base, **options):
    from tusclient.client import TusClient
    client = TusClient(base, headers={"Authorization": "Bearer " + recall("operator")})
    return client.uploader(str(FOLDER / "film.mp4"), url=base + recall("tus"), **options)


def upload_half(cut_port):
    """All is promised, and the wire breaks in the middle of it."""
    from tusclient.exceptions import TusCommunicationError
    size = (FOLDER / "film.mp4").stat().st_size
    try:
        tuspy(f"http://127.0.0.1:{cut_port}").upload()
        sys.exit("the wire did not break")
    except TusCommunicationError:
        pass
    deadline = time.monotonic() + 10
    while True:
        reply, _ = ask("HEAD", recall("tus").removeprefix("/api/v1"), headers=TUS)
        offset = int(reply.headers["Upload-Offset"])
        if size // 3 < offset < size:
            break
        if time.monotonic() > deadline:
            sys.exit(f"{offset} of {size} bytes were kept of a broken connection")
        time.sleep(0.05)
    remember("half", str(offset))


def upload_rest():
    film, path = (FOLDER / "film.mp4").read_bytes(), recall("tus").removeprefix("/api/v1")
    uploader = tuspy(API, chunk_size=256 << 10)
    if uploader.offset != int(recall("half")):
        sys.exit(f"after a restart {uploader.offset} bytes are known")
    ask("POST", f"/uploads/{recall('upload')}/complete", expect=(409,))
    headers = {**TUS, "Content-Type": "application/offset+octet-stream"}
    before = uploader.offset - 1
    ask("PATCH", path, film[before:], {**headers, "Upload-Offset": str(before)}, expect=(409,))
    uploader.upload()
    if uploader.get_offset() != len(film):
        sys.exit(f"{uploader.get_offset()} bytes were acknowledged")


def complete():
    film = (FOLDER / "film.mp4").read_bytes()
    path = f"/uploads/{recall('upload')}/complete"
    _, body = ask("POST", path, {"sha256": hashlib.sha256(film).hexdigest()}, expect=(202,))
    _, again = ask("POST", path)
    if again["asset_id"] != body["asset_id"]:
        sys.exit("completed twice")
    remember("asset", body["asset_id"])


def encoded():
    finished(recall("upload"))


def finished(upload):
    path = f"/uploads/{upload}"
    deadline = time.monotonic() + 90
    while True:
        _, body = ask("GET", path)
        if body["status"] in ("completed", "failed"):
            break
        if time.monotonic() > deadline:
            sys.exit(f"not encoded: {body}")
        time.sleep(0.2)
    if body["status"] != "completed":
        sys.exit(f"not encoded: {body}")


def publish():
    _, body = ask("POST", f"/admin/movies/{recall('movie')}/publish")
    if (body["status"], body["quality"]) != ("published", "SD"):
        sys.exit(f"published as {body}")


def second(url, began_at):
    """What tus-js-client uploaded is what it was, and it went on where it had been given up."""
    film = (FOLDER / "second.mp4").read_bytes()
    if not int(began_at) >= len(film) // 2:
        sys.exit(f"tus-js-client began at {began_at} of {len(film)} bytes again")
    upload = url.rsplit("/", 1)[1]
    path = f"/uploads/{upload}/complete"
    _, body = ask("POST", path, {"sha256": hashlib.sha256(film).hexdigest()}, expect=(200, 202))
    remember("second", body["asset_id"])
    finished(upload)
    ask("DELETE", f"/media/{body['asset_id']}", expect=(204,))


def register():
    viewer = {"name": "Viewer", "email": "viewer@example.org", "password": "a long password"}
    _, body = ask("POST", "/auth/register", viewer, expect=(200, 201), who=None)
    remember("viewer", body["access_token"])
    for name in ("device", "device-2", "device-3"):
        device = {"name": name, "device_type": "desktop", "platform": "linux",
                  "fingerprint": hashlib.sha256(name.encode()).hexdigest()}
        _, body = ask("POST", "/devices", device, expect=(200, 201), who="viewer")
        remember(name, body["id"])


def subscribe():
    begin("device", 403, "SUBSCRIPTION_REQUIRED")
    plan = {"name": "Two", "price": 4.99, "currency": "EUR", "billing_cycle": "monthly", "max_profiles": 2,
            "max_concurrent_streams": 2, "max_devices": 5, "max_quality": "FHD", "has_downloads": False, "tier": 1}
    _, body = ask("POST", "/admin/plans", plan, expect=(201,))
    _, body = ask("POST", "/subscriptions", {"plan_id": body["id"]}, expect=(201,), who="viewer")
    if body["status"] != "active":
        sys.exit(f"subscribed as {body}")


def begin(device, status=201, code=None):
    _, body = ask("POST", f"/movies/{recall('movie')}/stream", headers={"X-Device-Id": recall(device)}, expect=(status,),
                  who="viewer")
    if code and body["code"] != code:
        sys.exit(f"a start on {device} answers {body}, not {code}")
    return body


def start():
    body = begin("device")
    remember("session", body["session_id"])
    for name in ("hls", "dash"):
        remember(name, body[name + "_url"])
    beat()


def protect():
    end("session")
    path = f"/admin/movies/{recall('movie')}"
    _, body = ask("GET", path)
    _, body = ask("PUT", path, {**body, "drm_required": True})
    start()


def licensed():
    """What Chromium played, it had a licence of ours for."""
    _, body = ask("GET", "/admin/audit-logs?action=drm.license_issued")
    if not any(row["metadata"]["session_id"] == recall("session") for row in body["data"]):
        sys.exit(f"no licence was given: {body}")


def slots():
    """Two streams are what the plan has."""
    body = begin("device-2")
    begin("device-3", 409, "CONCURRENCY_LIMIT_REACHED")
    remember("session-2", body["session_id"])
    end("session-2")
    remember("session-3", begin("device-3")["session_id"])
    end("session-3")
    beat()


def end(name):
    ask("DELETE", f"/playback/sessions/{recall(name)}", expect=(204,), who="viewer")


def beat():
    ask("POST", "/playback/heartbeat", {"session_id": recall("session"), "position_seconds": 1}, who="viewer")


def remove(asset):
    ask("DELETE", f"/media/{asset}", expect=(204,))


def unpublish():
    ask("POST", f"/admin/movies/{recall('movie')}/unpublish")
    beat()
    begin("device-2", 404, "NOT_FOUND")


def delete():
    end("session")
    ask("DELETE", f"/media/{recall('asset')}", expect=(204,))


STEPS = {"sign-in": sign_in, "create": create, "upload-half": upload_half, "upload-rest": upload_rest, "complete": complete,
         "announce": announce, "encoded": encoded, "second": second, "publish": publish, "register": register,
         "subscribe": subscribe, "start": start, "protect": protect, "beat": beat, "licensed": licensed, "slots": slots,
         "remove": remove, "unpublish": unpublish, "delete": delete}
STEPS[sys.argv[3]](*sys.argv[4:])
