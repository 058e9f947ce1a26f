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


def upload_half():
    film = (FOLDER / "film.mp4").read_bytes()
    target = {"content_type": "movie", "content_id": recall("movie")}
    announced = {"asset_type": "video_master", "filename": "film.mp4", "content_type": "video/mp4",
                 "size_bytes": len(film), "transport": "tus", "target": target}
    _, body = ask("POST", "/uploads", announced, expect=(201,))
    path = urllib.parse.urlsplit(body["upload_url"]).path.removeprefix("/api/v1")
    remember("upload", body["id"])
    remember("tus", path)
    half = len(film) // 2
    # All is promised, half is sent, and the connection breaks.
    connection = http.client.HTTPConnection(HOST, timeout=30)
    connection.putrequest("PATCH", "/api/v1" + path)
    headers = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream",
               "Content-Length": str(len(film)), "Authorization": "Bearer " + recall("operator")}
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(film[:half])
    connection.close()
    deadline = time.monotonic() + 10
    while True:
        reply, _ = ask("HEAD", path, headers=TUS)
        if int(reply.headers["Upload-Offset"]) == half:
            break
        if time.monotonic() > deadline:
            sys.exit(f"{reply.headers['Upload-Offset']} of {half} bytes were kept of a broken connection")
        time.sleep(0.05)
    remember("half", str(half))


def upload_rest():
    film, path = (FOLDER / "film.mp4").read_bytes(), recall("tus")
    reply, _ = ask("HEAD", path, headers=TUS)
    offset = int(reply.headers["Upload-Offset"])
    if offset != int(recall("half")):
        sys.exit(f"after a restart {offset} bytes are known")
    ask("POST", f"/uploads/{recall('upload')}/complete", expect=(409,))
    headers = {**TUS, "Content-Type": "application/offset+octet-stream"}
    ask("PATCH", path, film[offset - 1:], {**headers, "Upload-Offset": str(offset - 1)}, expect=(409,))
    reply, _ = ask("PATCH", path, film[offset:], {**headers, "Upload-Offset": str(offset)}, expect=(204,))
    if int(reply.headers["Upload-Offset"]) != len(film):
        sys.exit(f"{reply.headers['Upload-Offset']} bytes were acknowledged")


def complete():
    film = (FOLDER / "film.mp4").read_bytes()
    path = f"/uploads/{recall('upload')}/complete"
    _, body = ask("POST", path, {"sha256": hashlib.sha256(film).hexdigest()}, expect=(202,))
    _, again = ask("POST", path)
    if again["asset_id"] != body["asset_id"]:
        sys.exit("completed twice")
    remember("asset", body["asset_id"])


def encoded():
    path, seen = f"/uploads/{recall('upload')}", set()
    deadline = time.monotonic() + 45
    while True:
        _, body = ask("GET", path)
        seen.add((body["transcode_status"], body["progress_percent"]))
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


def start():
    viewer = {"name": "Viewer", "email": "viewer@example.org", "password": "a long password"}
    _, body = ask("POST", "/auth/register", viewer, expect=(200, 201), who=None)
    remember("viewer", body["access_token"])
    device = {"name": "Player", "device_type": "desktop", "platform": "linux",
              "fingerprint": hashlib.sha256(b"player").hexdigest()}
    _, body = ask("POST", "/devices", device, expect=(200, 201), who="viewer")
    remember("device", body["id"])
    _, body = ask("POST", f"/movies/{recall('movie')}/stream", headers={"X-Device-Id": body["id"]}, expect=(201,),
                  who="viewer")
    remember("session", body["session_id"])
    remember("hls", body["hls_url"])
    beat()


def beat():
    ask("POST", "/playback/heartbeat", {"session_id": recall("session"), "position_seconds": 1}, who="viewer")


def unpublish():
    ask("POST", f"/admin/movies/{recall('movie')}/unpublish")
    beat()
    ask("POST", f"/movies/{recall('movie')}/stream", headers={"X-Device-Id": recall("device")}, expect=(404,), who="viewer")


def delete():
    ask("DELETE", f"/playback/sessions/{recall('session')}", expect=(204,), who="viewer")
    ask("DELETE", f"/media/{recall('asset')}", expect=(204,))


STEPS = {"sign-in": sign_in, "create": create, "upload-half": upload_half, "upload-rest": upload_rest, "complete": complete,
         "encoded": encoded, "publish": publish, "start": start, "unpublish": unpublish, "delete": delete}
STEPS[sys.argv[3]](*sys.argv[4:])
