//! Uploads: bytes come by tus, by signed PUT and by form, survive what breaks, and become assets once (UP).

use std::path::PathBuf;

use axum::http::Method;
use chrono::TimeDelta;
use control_api::auth::Role;
use control_api::db::DEFAULT_TENANT;
use control_api::import;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Api, Ask, Client, settings};
use crate::movies::movie;

/// A film as far as its first bytes tell, of this size.
pub fn film(size: usize) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18ftypisom\0\0\0\0isommp42\0\0\0\x08free".to_vec();
    bytes.extend((0..size.saturating_sub(bytes.len())).map(|at| (at * 7 % 251) as u8));
    bytes
}

fn announced(size: usize) -> Value {
    json!({ "asset_type": "video_master", "filename": "film.mp4", "content_type": "video/mp4", "size_bytes": size })
}

fn text(body: &Value, name: &str) -> String {
    body[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {body}"))
        .to_owned()
}

/// The path below the API of an address in a reply.
fn path(url: &str) -> String {
    url.split_once("/api/v1").unwrap().1.to_owned()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A tus upload of so many bytes; its path.
async fn tus(client: &Client<'_>, size: usize, metadata: &str) -> String {
    let got = client
        .post("/uploads/tus")
        .header("tus-resumable", "1.0.0")
        .header("upload-length", &size.to_string())
        .header("upload-metadata", metadata)
        .send()
        .await
        .is(201);
    assert_eq!(got.header("tus-resumable"), "1.0.0");
    assert!(got.header("upload-expires").ends_with("GMT"));
    path(got.header("location"))
}

fn patch<'a>(client: &Client<'a>, path: &str, offset: usize, bytes: &[u8]) -> Ask<'a> {
    client
        .patch(path)
        .header("tus-resumable", "1.0.0")
        .header("upload-offset", &offset.to_string())
        .bytes("application/offset+octet-stream", bytes)
}

async fn offset(client: &Client<'_>, path: &str) -> String {
    let got = client
        .ask(Method::HEAD, path)
        .header("tus-resumable", "1.0.0")
        .send()
        .await
        .is(200);
    assert_eq!(got.header("cache-control"), "no-store");
    got.header("upload-offset").to_owned()
}

/// A program of somebody's: its key outlives what tests do to the clock.
async fn program<'a>(client: &Client<'a>, access: &str) -> Client<'a> {
    let body = json!({ "name": access, "access": access });
    let made = client.post("/api-keys").json(body).expect(201).await;
    client.with_credentials(made["key"].as_str().unwrap())
}

fn source(api: &Api, id: &str) -> PathBuf {
    api.app.config.section.data.join("sources").join(id)
}

fn id_of(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn up_1_and_14_signed_puts_resume_and_their_address_ends() {
    let api = Api::start().await;
    let (user, stranger) = (program(&api.user().await, "own").await, api.stranger());
    let bytes = film(100_000);
    let mut wanted = announced(bytes.len());
    wanted["auto_complete"] = json!(false);
    let body = user.post("/uploads").json(wanted).expect(201).await;
    let (id, url) = (text(&body, "id"), path(&text(&body, "upload_url")));
    assert_eq!(body["status"], "awaiting_upload");
    let ask = |range: &str, bytes: &[u8]| {
        stranger
            .put(&url)
            .header("content-range", range)
            .bytes("video/mp4", bytes)
    };
    let got = ask("bytes */100000", b"").send().await.is(308);
    assert_eq!(got.header("range"), "");
    let got = ask("bytes 0-39999/100000", &bytes[..40_000]).send().await.is(308);
    assert_eq!(got.header("range"), "bytes=0-39999");
    ask("bytes 50000-99999/100000", &bytes[50_000..])
        .refused("UPLOAD_OFFSET_MISMATCH")
        .await;
    ask("bytes 40000-99999/200000", &bytes[40_000..])
        .refused("INVALID_PARAMETER")
        .await;
    ask("bytes oops", b"").refused("INVALID_PARAMETER").await;
    // What came before the connection broke counts.
    ask("bytes 40000-99999/100000", &bytes[40_000..70_000])
        .breaking()
        .refused("BAD_REQUEST")
        .await;
    let got = ask("bytes */100000", b"").send().await.is(308);
    assert_eq!(got.header("range"), "bytes=0-69999");
    // Neither signature nor time can be changed.
    let forged = url.replace("sig=", "sig=00");
    stranger
        .put(&forged)
        .bytes("video/mp4", &bytes)
        .refused("SIGNATURE_INVALID")
        .await;
    let other = user.post("/uploads").json(announced(10)).expect(201).await;
    let foreign = url.replace(&id, &text(&other, "id"));
    stranger
        .put(&foreign)
        .bytes("video/mp4", &bytes)
        .refused("SIGNATURE_INVALID")
        .await;
    api.app.advance(TimeDelta::minutes(61));
    ask("bytes 70000-99999/100000", &bytes[70_000..])
        .refused("SIGNATURE_INVALID")
        .await;
    let fresh = user.get(&format!("/uploads/{id}")).expect(200).await;
    let url = path(&text(&fresh, "upload_url"));
    let rest = stranger.put(&url).header("content-range", "bytes 70000-99999/100000");
    rest.bytes("video/mp4", &bytes[70_000..]).send().await.is(200);
    assert_eq!(std::fs::read(source(&api, &id)).unwrap(), bytes);
    let done = user.post(&format!("/uploads/{id}/complete")).expect(202).await;
    assert_eq!(
        (&done["status"], &done["transcode_status"]),
        (&json!("processing"), &json!("queued"))
    );
    assert_eq!(done["upload_url"], Value::Null);
    stranger.put(&url).bytes("video/mp4", &bytes).send().await.is(200);
    // A size that nobody announced is learnt from the whole file, and a whole file begins anew.
    let mut unsized_body = announced(1);
    unsized_body.as_object_mut().unwrap().remove("size_bytes");
    unsized_body["auto_complete"] = json!(false);
    let body = user.post("/uploads").json(unsized_body).expect(201).await;
    let url = path(&text(&body, "upload_url"));
    stranger
        .put(&url)
        .bytes("video/mp4", &bytes[..9])
        .breaking()
        .refused("BAD_REQUEST")
        .await;
    stranger.put(&url).bytes("video/mp4", &bytes).send().await.is(200);
    assert_eq!(std::fs::read(source(&api, &text(&body, "id"))).unwrap(), bytes);
    user.post(&format!("/uploads/{}/complete", text(&body, "id")))
        .expect(202)
        .await;
}

#[tokio::test]
async fn up_2_and_3_completion_happens_once() {
    let api = Api::start().await;
    let user = api.user().await;
    let bytes = film(5_000);
    let path = tus(
        &user,
        bytes.len(),
        &format!("filename {},title {}", base64(b"a/Der Film.mp4"), base64(b"Titel")),
    )
    .await;
    let complete = format!("/uploads/{}/complete", id_of(&path));
    user.post(&complete).refused("UPLOAD_INCOMPLETE").await;
    patch(&user, &path, 0, &bytes).send().await.is(204);
    let replies = futures_util::future::join_all((0..20).map(|_| user.post(&complete).send())).await;
    let statuses: Vec<u16> = replies.iter().map(|got| got.status).collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 202).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| [200, 202].contains(status)),
        "{statuses:?}"
    );
    let upload = user.post(&complete).expect(200).await;
    assert_eq!(upload["filename"], "Der Film.mp4");
    assert!(text(&upload["links"], "player_url").ends_with(&text(&upload, "asset_id")));
    assert_eq!(api.value::<i64>("select count(*) from assets").await, 1);
    assert_eq!(
        api.value::<i64>("select count(*) from encoding_jobs where status = 'queued'")
            .await,
        1
    );
    assert_eq!(api.value::<String>("select title from assets").await, "Titel");
    let hash: Vec<u8> = api.value("select sha256 from assets").await;
    assert_eq!(hash, Sha256::digest(&bytes).to_vec());
    assert_eq!(
        api.value::<i64>(&format!(
            "select storage_used_bytes from users where id = '{}'",
            user.user_id
        ))
        .await,
        5_000
    );
    assert_eq!(api.events().await, ["media.uploaded"]);
    assert_eq!(api.audit().await, ["upload.created", "media.uploaded"]);
}

#[tokio::test]
async fn up_3_and_9_what_is_no_film_is_refused() {
    let api = Api::start().await;
    let user = api.user().await;
    let bytes = b"MZ this is no film".to_vec();
    let path = tus(&user, bytes.len(), "").await;
    patch(&user, &path, 0, &bytes).send().await.is(204);
    let complete = format!("/uploads/{}/complete", id_of(&path));
    user.post(&complete).refused("INVALID_MEDIA").await;
    user.post(&complete).refused("INVALID_MEDIA").await;
    let upload = user.get(&format!("/uploads/{}", id_of(&path))).expect(200).await;
    assert_eq!(upload["status"], "failed");
    assert!(text(&upload, "error_message").contains("container"));
    assert_eq!(api.events().await, ["media.failed"]);
    assert!(!source(&api, &id_of(&path)).exists());
    assert_eq!(api.value::<i64>("select count(*) from assets").await, 0);
    // A hash that the client knows is held against the bytes.
    let bytes = film(500);
    let path = tus(&user, bytes.len(), "").await;
    patch(&user, &path, 0, &bytes).send().await.is(204);
    let wrong = json!({ "sha256": "00".repeat(32) });
    let complete = format!("/uploads/{}/complete", id_of(&path));
    user.post(&complete).json(wrong).refused("INVALID_MEDIA").await;
    // Subtitles need no ladder.
    let vtt = b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n";
    let metadata = format!("asset_type {},filetype {}", base64(b"subtitle"), base64(b"text/vtt"));
    let path = tus(&user, vtt.len(), &metadata).await;
    patch(&user, &path, 0, vtt).send().await.is(204);
    let upload = user
        .post(&format!("/uploads/{}/complete", id_of(&path)))
        .expect(202)
        .await;
    assert_eq!(
        (&upload["status"], &upload["transcode_status"]),
        (&json!("completed"), &json!("not_required"))
    );
    assert_eq!(api.value::<String>("select status from assets").await, "ready");
    assert_eq!(api.events().await[2..], ["media.uploaded", "media.published"]);
}

#[tokio::test]
async fn up_4_uploads_are_cancelled_until_their_ladder_is_there() {
    let api = Api::start().await;
    let (user, other) = (api.user().await, api.user().await);
    let bytes = film(1_000);
    let path = tus(&user, bytes.len(), "").await;
    let place = format!("/uploads/{}", id_of(&path));
    other.delete(&place).refused("NOT_FOUND").await;
    patch(&user, &path, 0, &bytes[..10]).send().await.is(204);
    user.delete(&place).expect(204).await;
    user.get(&place).refused("UPLOAD_GONE").await;
    user.delete(&place).refused("UPLOAD_GONE").await;
    assert!(!source(&api, &id_of(&path)).exists());
    // While its ladder is being made: the job and the asset go, too.
    let path = tus(&user, bytes.len(), "").await;
    let place = format!("/uploads/{}", id_of(&path));
    patch(&user, &path, 0, &bytes).send().await.is(204);
    user.post(&format!("{place}/complete")).expect(202).await;
    let job = control_api::encoding::claim(&api.app, "worker").await.unwrap().unwrap();
    user.delete(&place).expect(204).await;
    assert!(!control_api::encoding::beat(&api.app, &job, 100).await.unwrap());
    assert!(!source(&api, &id_of(&path)).exists());
    assert_eq!(api.value::<i64>("select count(*) from assets").await, 0);
    assert_eq!(api.value::<i64>("select count(*) from blobs").await, 0);
    assert_eq!(api.value::<i64>("select max(storage_used_bytes) from users").await, 0);
    // Once it is there, no more.
    let path = tus(&user, bytes.len(), "").await;
    let place = format!("/uploads/{}", id_of(&path));
    patch(&user, &path, 0, &bytes).send().await.is(204);
    user.post(&format!("{place}/complete")).expect(202).await;
    let job = control_api::encoding::claim(&api.app, "worker").await.unwrap().unwrap();
    assert!(
        control_api::encoding::finish(&api.app, &job, &Default::default())
            .await
            .unwrap()
    );
    user.delete(&place).refused("UPLOAD_NOT_CANCELLABLE").await;
}

fn form(file: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(
        b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"film.mp4\"\r\ncontent-type: video/mp4\r\n\r\n",
    );
    body.extend_from_slice(file);
    for (name, value) in fields {
        let field = format!("\r\n--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}");
        body.extend_from_slice(field.as_bytes());
    }
    body.extend_from_slice(b"\r\n--b--\r\n");
    body
}

#[tokio::test]
async fn up_5_forms_are_bounded_for_people() {
    let mut settings = settings();
    settings.media.upload_max_bytes_panel = 10_000;
    let api = Api::with(settings).await;
    let moderator = api.moderator().await;
    let title = moderator.post("/admin/movies").json(movie("One")).expect(201).await;
    let target = json!({ "content_type": "movie", "content_id": title["id"] }).to_string();
    let send = async |client: &Client<'_>, body: Vec<u8>| {
        let ask = client
            .post("/uploads/direct")
            .bytes("multipart/form-data; boundary=b", &body);
        ask.send().await
    };
    let body = form(&film(10_000), &[("title", "Titel"), ("target", &target)]);
    let upload = send(&moderator, body).await.is(202).json();
    assert_eq!(
        (&upload["title"], &upload["size_bytes"]),
        (&json!("Titel"), &json!(10_000))
    );
    assert_eq!(upload["target"]["content_id"], title["id"]);
    assert_eq!(
        api.value::<String>("select delivery_policy from assets").await,
        "session"
    );
    let before: i64 = api.value("select count(*) from assets").await;
    assert_eq!(
        send(&moderator, form(&film(10_001), &[])).await.json()["code"],
        "FILE_TOO_LARGE"
    );
    assert_eq!(
        send(&moderator, form(b"", &[])).await.json()["code"],
        "VALIDATION_ERROR"
    );
    assert_eq!(
        send(&moderator, form(&film(100), &[("x", "y")])).await.json()["code"],
        "VALIDATION_ERROR"
    );
    assert_eq!(
        send(&moderator, form(b"no film", &[])).await.json()["code"],
        "INVALID_MEDIA"
    );
    assert_eq!(
        send(&moderator, b"--b--\r\n".to_vec()).await.json()["code"],
        "VALIDATION_ERROR"
    );
    assert_eq!(
        send(&moderator, b"no form".to_vec()).await.json()["code"],
        "BAD_REQUEST"
    );
    moderator
        .post("/uploads/direct")
        .bytes("text/plain", b"")
        .refused("UNSUPPORTED_MEDIA_TYPE")
        .await;
    let half = form(&film(5_000), &[]);
    let broken = moderator
        .post("/uploads/direct")
        .bytes("multipart/form-data; boundary=b", &half[..2_000]);
    broken.breaking().refused("BAD_REQUEST").await;
    let user = api.user().await;
    assert_eq!(
        send(&user, form(&film(100), &[("target", &target)])).await.json()["code"],
        "UPLOAD_NOT_ALLOWED"
    );
    // Of what was refused, nothing is left.
    assert_eq!(api.value::<i64>("select count(*) from assets").await, before);
    assert_eq!(std::fs::read_dir(source(&api, "")).unwrap().count(), 1);
    // Keys are not bound by the panel's limit.
    let program = program(&user, "own").await;
    send(&program, form(&film(20_000), &[])).await.is(202);
}

#[tokio::test]
async fn up_6_tus_says_what_it_speaks_and_refuses_by_name() {
    let api = Api::start().await;
    let (user, other) = (api.user().await, api.user().await);
    let got = api.stranger().ask(Method::OPTIONS, "/uploads/tus").send().await.is(204);
    assert_eq!(got.header("tus-version"), "1.0.0");
    assert_eq!(
        got.header("tus-extension"),
        "creation,creation-with-upload,termination,expiration,checksum"
    );
    assert!(got.header("tus-max-size").parse::<u64>().unwrap() > 1 << 30);
    api.stranger().post("/uploads/tus").refused("UNAUTHORIZED").await;
    let unversioned = user
        .post("/uploads/tus")
        .header("upload-length", "10")
        .send()
        .await
        .is(412);
    assert_eq!(unversioned.json()["code"], "TUS_VERSION_UNSUPPORTED");
    assert_eq!(
        (unversioned.header("tus-version"), unversioned.header("tus-resumable")),
        ("1.0.0", "1.0.0")
    );
    let create = |length: &str, metadata: &str| {
        let ask = user.post("/uploads/tus").header("tus-resumable", "1.0.0");
        ask.header("upload-length", length).header("upload-metadata", metadata)
    };
    create("0", "").refused("VALIDATION_ERROR").await;
    create("ten", "").refused("INVALID_PARAMETER").await;
    create("9223372036854775807", "").refused("FILE_TOO_LARGE").await;
    create("10", "filename %%%").refused("INVALID_PARAMETER").await;
    create("10", &format!("asset_type {}", base64(b"hologram")))
        .refused("VALIDATION_ERROR")
        .await;
    create("10", &format!("filename {}", base64(b"..")))
        .refused("VALIDATION_ERROR")
        .await;
    let named = format!("client_upload_uuid {}", base64(b"mine"));
    create("10", &named).expect(201).await;
    create("10", &named).refused("CONFLICT").await;
    let found = user
        .get("/uploads?active=true&client_upload_uuid=mine")
        .expect(200)
        .await;
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    let path = tus(&user, 1_000, "").await;
    other
        .ask(Method::HEAD, &path)
        .header("tus-resumable", "1.0.0")
        .send()
        .await
        .is(404);
    patch(&other, &path, 0, b"x").refused("NOT_FOUND").await;
    user.patch(&path)
        .header("tus-resumable", "1.0.0")
        .header("upload-offset", "0")
        .bytes("video/mp4", b"x")
        .refused("UNSUPPORTED_MEDIA_TYPE")
        .await;
    patch(&user, &path, 5, b"x").refused("UPLOAD_OFFSET_MISMATCH").await;
    patch(&user, &path, 0, &film(1_001)).refused("FILE_TOO_LARGE").await;
    assert_eq!(offset(&user, &path).await, "0");
    user.patch(&path)
        .header("upload-offset", "0")
        .bytes("application/offset+octet-stream", b"x")
        .refused("TUS_VERSION_UNSUPPORTED")
        .await;
    let tenant = api.tenant("other").await;
    let foreigner = api.user_of(tenant, Role::User).await;
    patch(&foreigner, &path, 0, b"x").refused("WRONG_TENANT").await;
    // The first bytes may come with the announcement.
    let bytes = film(1_000);
    let got = create("1000", "")
        .bytes("application/offset+octet-stream", &bytes[..300])
        .send()
        .await
        .is(201);
    assert_eq!(got.header("upload-offset"), "300");
    let path = self::path(got.header("location"));
    let got = patch(&user, &path, 300, &bytes[300..]).send().await.is(204);
    assert_eq!(got.header("upload-offset"), "1000");
    assert_eq!(std::fs::read(source(&api, &id_of(&path))).unwrap(), bytes);
}

#[tokio::test]
async fn up_6_a_broken_connection_and_a_restart_lose_nothing() {
    let api = Api::start().await;
    let user = api.user().await;
    let bytes = film(3 << 20);
    let path = tus(&user, bytes.len(), "").await;
    patch(&user, &path, 0, &bytes[..1_500_000])
        .breaking()
        .refused("BAD_REQUEST")
        .await;
    assert_eq!(offset(&user, &path).await, "1500000");
    // Another process on the same database and folder knows as much.
    let again = api.beside().await;
    let there = user.at(&again);
    assert_eq!(offset(&there, &path).await, "1500000");
    patch(&there, &path, 1_500_000, &bytes[1_500_000..2_000_000])
        .send()
        .await
        .is(204);
    patch(&user, &path, 1_500_000, &bytes[1_500_000..])
        .refused("UPLOAD_OFFSET_MISMATCH")
        .await;
    patch(&user, &path, 2_000_000, &bytes[2_000_000..]).send().await.is(204);
    assert_eq!(std::fs::read(source(&api, &id_of(&path))).unwrap(), bytes);
    there
        .post(&format!("/uploads/{}/complete", id_of(&path)))
        .expect(202)
        .await;
}

#[tokio::test]
async fn up_6_one_writes_at_a_time() {
    let api = Api::start().await;
    let user = api.user().await;
    let beside = api.beside().await;
    let bytes = film(100);
    let path = tus(&user, bytes.len(), "").await;
    // Many at once, through two processes: one of them writes each part.
    for at in (0..100).step_by(10) {
        let part = &bytes[at..at + 10];
        let there = user.at(&beside);
        let asks = (0..6).map(|number| {
            let client = if number % 2 == 0 { &user } else { &there };
            patch(client, &path, at, part).send()
        });
        let replies = futures_util::future::join_all(asks).await;
        let good = replies.iter().filter(|got| got.status == 204).count();
        assert_eq!(
            good,
            1,
            "{:?}",
            replies.iter().map(|got| got.status).collect::<Vec<_>>()
        );
        assert!(replies.iter().all(|got| [204, 409, 423].contains(&got.status)));
    }
    assert_eq!(std::fs::read(source(&api, &id_of(&path))).unwrap(), bytes);
    // Who holds the file keeps others out.
    let path = tus(&user, bytes.len(), "").await;
    patch(&user, &path, 0, &bytes[..10]).send().await.is(204);
    let held = std::fs::File::open(source(&api, &id_of(&path))).unwrap();
    held.lock().unwrap();
    patch(&user, &path, 10, &bytes[10..]).refused("UPLOAD_LOCKED").await;
    held.unlock().unwrap();
    patch(&user, &path, 10, &bytes[10..]).send().await.is(204);
}

#[tokio::test]
async fn up_6_checksums_hold_or_nothing_is_stored() {
    let api = Api::start().await;
    let user = api.user().await;
    let bytes = film(2_000);
    let path = tus(&user, bytes.len(), "").await;
    let digest = |bytes: &[u8]| format!("sha256 {}", base64(&Sha256::digest(bytes)));
    let sum = |offset: usize, part: &[u8], sum: &str| patch(&user, &path, offset, part).header("upload-checksum", sum);
    sum(0, &bytes[..1_000], &digest(b"other"))
        .refused("UPLOAD_CHECKSUM_MISMATCH")
        .await;
    sum(0, &bytes[..1_000], "md5 AAAA").refused("INVALID_PARAMETER").await;
    sum(0, &bytes[..500], &digest(&bytes[..1_000]))
        .breaking()
        .refused("BAD_REQUEST")
        .await;
    assert_eq!(offset(&user, &path).await, "0");
    sum(0, &bytes[..1_000], &digest(&bytes[..1_000])).send().await.is(204);
    let sha1 = "sha1 ".to_owned() + &base64(&<sha1::Sha1 as sha1::Digest>::digest(&bytes[1_000..]));
    sum(1_000, &bytes[1_000..], &sha1).send().await.is(204);
    assert_eq!(std::fs::read(source(&api, &id_of(&path))).unwrap(), bytes);
}

#[tokio::test]
async fn up_7_given_up_uploads_are_gone() {
    let api = Api::start().await;
    let user = api.user().await;
    let bytes = film(1_000);
    let path = tus(&user, bytes.len(), "").await;
    patch(&user, &path, 0, &bytes[..500]).send().await.is(204);
    user.delete(&path).refused("TUS_VERSION_UNSUPPORTED").await;
    user.delete(&path).header("tus-resumable", "1.0.0").expect(204).await;
    assert!(!source(&api, &id_of(&path)).exists());
    user.ask(Method::HEAD, &path)
        .header("tus-resumable", "1.0.0")
        .send()
        .await
        .is(410);
    patch(&user, &path, 500, &bytes[500..]).refused("UPLOAD_GONE").await;
    user.delete(&path)
        .header("tus-resumable", "1.0.0")
        .refused("UPLOAD_GONE")
        .await;
    let path = tus(&user, bytes.len(), "").await;
    patch(&user, &path, 0, &bytes).send().await.is(204);
    user.post(&format!("/uploads/{}/complete", id_of(&path)))
        .expect(202)
        .await;
    user.delete(&path)
        .header("tus-resumable", "1.0.0")
        .refused("UPLOAD_NOT_CANCELLABLE")
        .await;
}

#[tokio::test]
async fn up_8_quotas_hold_for_what_is_announced_and_what_comes() {
    let api = Api::start().await;
    let user = api.user().await;
    api.sql(&format!(
        "update users set storage_quota_bytes = 10000 where id = '{}'",
        user.user_id
    ))
    .await;
    user.post("/uploads")
        .json(announced(10_001))
        .refused("STORAGE_QUOTA_EXCEEDED")
        .await;
    // Announced at once, they share the room.
    let asks = (0..8).map(|_| user.post("/uploads").json(announced(3_000)).send());
    let replies = futures_util::future::join_all(asks).await;
    assert_eq!(replies.iter().filter(|got| got.status == 201).count(), 3);
    let left = json!({ "asset_type": "video_master", "filename": "f", "content_type": "video/mp4" });
    let body = user.post("/uploads").json(left).expect(201).await;
    let url = path(&text(&body, "upload_url"));
    let put = |bytes: &[u8]| api.stranger().put(&url).bytes("video/mp4", bytes);
    put(&film(1_001)).refused("STORAGE_QUOTA_EXCEEDED").await;
    put(&film(1_000)).send().await.is(200);
    user.post("/uploads")
        .json(announced(1))
        .refused("STORAGE_QUOTA_EXCEEDED")
        .await;
    // What became an asset counts on; what was cancelled no more.
    user.post(&format!("/uploads/{}/complete", text(&body, "id")))
        .expect(202)
        .await;
    user.post("/uploads")
        .json(announced(1))
        .refused("STORAGE_QUOTA_EXCEEDED")
        .await;
    user.delete(&format!("/uploads/{}", text(&body, "id")))
        .expect(204)
        .await;
    user.post("/uploads").json(announced(1_000)).expect(201).await;
    // The tenant's own quota binds everybody in it.
    api.sql("update tenants set storage_quota_bytes = 15000").await;
    let other = api.user().await;
    other
        .post("/uploads")
        .json(announced(5_001))
        .refused("STORAGE_QUOTA_EXCEEDED")
        .await;
    other.post("/uploads").json(announced(5_000)).expect(201).await;
}

#[tokio::test]
async fn up_10_targets_are_for_moderators() {
    let api = Api::start().await;
    let (user, moderator) = (api.user().await, api.moderator().await);
    let title = moderator.post("/admin/movies").json(movie("One")).expect(201).await;
    let mut body = announced(100);
    body["target"] = json!({ "content_type": "movie", "content_id": title["id"] });
    user.post("/uploads")
        .json(body.clone())
        .refused("UPLOAD_NOT_ALLOWED")
        .await;
    let upload = moderator.post("/uploads").json(body.clone()).expect(201).await;
    assert_eq!(upload["target"]["content_id"], title["id"]);
    body["target"]["content_id"] = json!("01900000-0000-7000-8000-000000000000");
    moderator.post("/uploads").json(body).refused("VALIDATION_ERROR").await;
    api.sql(&format!(
        "update users set can_upload = false where id = '{}'",
        user.user_id
    ))
    .await;
    user.post("/uploads")
        .json(announced(100))
        .refused("UPLOAD_NOT_ALLOWED")
        .await;
    let tus = user
        .post("/uploads/tus")
        .header("tus-resumable", "1.0.0")
        .header("upload-length", "10");
    tus.refused("UPLOAD_NOT_ALLOWED").await;
}

#[tokio::test]
async fn up_13_unfinished_uploads_end_a_day_after_their_last_byte() {
    let api = Api::start().await;
    let user = program(&api.user().await, "own").await;
    let bytes = film(1_000);
    let path = tus(&user, bytes.len(), "").await;
    api.app.advance(TimeDelta::hours(23));
    patch(&user, &path, 0, &bytes[..500]).send().await.is(204);
    api.app.advance(TimeDelta::hours(23));
    import::tidy(&api.app).await.unwrap();
    assert_eq!(offset(&user, &path).await, "500");
    assert_eq!(
        user.get("/uploads?active=true").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    api.app.advance(TimeDelta::hours(2));
    patch(&user, &path, 500, &bytes[500..]).refused("UPLOAD_GONE").await;
    assert!(
        user.get("/uploads?active=true").expect(200).await["data"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert!(source(&api, &id_of(&path)).exists());
    import::tidy(&api.app).await.unwrap();
    assert!(!source(&api, &id_of(&path)).exists());
    user.get(&format!("/uploads/{}", id_of(&path)))
        .refused("UPLOAD_GONE")
        .await;
}

#[tokio::test]
async fn up_15_programs_need_not_say_that_they_are_done() {
    let api = Api::start().await;
    let user = api.user().await;
    let program = program(&user, "own").await;
    let bytes = film(1_000);
    let body = program.post("/uploads").json(announced(1_000)).expect(201).await;
    assert_eq!(body["auto_complete"], true);
    let url = path(&text(&body, "upload_url"));
    api.stranger().put(&url).bytes("video/mp4", &bytes).send().await.is(200);
    let upload = program
        .get(&format!("/uploads/{}", text(&body, "id")))
        .expect(200)
        .await;
    assert_eq!(upload["status"], "processing");
    // By tus, where it is asked for; what is no film says so in the upload.
    let path = tus(&user, 7, &format!("auto_complete {}", base64(b"true"))).await;
    patch(&user, &path, 0, b"no film").send().await.is(204);
    let upload = user.get(&format!("/uploads/{}", id_of(&path))).expect(200).await;
    assert_eq!(upload["status"], "failed");
}

#[tokio::test]
async fn up_2_an_import_that_was_broken_off_is_done_later() {
    let api = Api::start().await;
    let user = api.user().await;
    let bytes = film(1_000);
    let path = tus(&user, bytes.len(), "").await;
    patch(&user, &path, 0, &bytes).send().await.is(204);
    // As a process leaves it that dies between the last byte and the asset.
    api.sql("update uploads set status = 'uploaded'").await;
    import::tidy(&api.app).await.unwrap();
    assert_eq!(api.value::<i64>("select count(*) from assets").await, 0);
    api.app.advance(TimeDelta::minutes(3));
    import::tidy(&api.app).await.unwrap();
    import::tidy(&api.app).await.unwrap();
    assert_eq!(api.value::<i64>("select count(*) from assets").await, 1);
    let upload = user
        .post(&format!("/uploads/{}/complete", id_of(&path)))
        .expect(200)
        .await;
    assert_eq!(upload["status"], "processing");
}

#[tokio::test]
async fn ak_8_keys_for_the_tenant_reach_everybodys_uploads() {
    let api = Api::start().await;
    let (user, moderator) = (api.user().await, api.moderator().await);
    let body = user.post("/uploads").json(announced(100)).expect(201).await;
    let place = format!("/uploads/{}", text(&body, "id"));
    let (own, tenant) = (program(&moderator, "own").await, program(&moderator, "tenant").await);
    own.get(&place).refused("NOT_FOUND").await;
    tenant.get(&place).expect(200).await;
    assert_eq!(
        tenant.get("/uploads").expect(200).await["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(
        own.get("/uploads").expect(200).await["data"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        api.value::<uuid::Uuid>("select tenant_id from uploads").await,
        DEFAULT_TENANT.0
    );
}

#[tokio::test]
async fn dl_9_what_an_account_had_on_disk_goes_with_it() {
    let api = Api::start().await;
    let (user, heir) = (api.user().await, api.user().await);
    let bytes = film(1_000);
    let send = async |client: &Client<'_>, count: usize| {
        let path = tus(client, bytes.len(), "").await;
        patch(client, &path, 0, &bytes[..count]).send().await.is(204);
        id_of(&path)
    };
    let (begun, whole, imported) = (
        send(&user, 10).await,
        send(&user, 1_000).await,
        send(&user, 1_000).await,
    );
    user.post(&format!("/uploads/{imported}/complete")).expect(202).await;
    let asset: uuid::Uuid = api.value("select id from assets").await;
    let other = send(&heir, 10).await;
    let sure = json!({ "current_password": crate::harness::PASSWORD, "confirmation": "DELETE_ACCOUNT" });
    user.delete("/account").json(sure).expect(204).await;
    import::tidy(&api.app).await.unwrap();
    for id in [&begun, &whole, &imported] {
        assert!(!source(&api, id).exists(), "{id}");
    }
    assert!(source(&api, &other).exists());
    // The worker removes the ladder.
    assert_eq!(api.value::<uuid::Uuid>("select id from removed_media").await, asset);
    assert_eq!(api.value::<i64>("select count(*) from blobs").await, 0);
    // What somebody else gets is kept.
    let admin = api.admin().await;
    let next = api.user().await;
    let path = format!("/admin/users/{}?transfer_to={}", heir.user_id, next.user_id);
    admin.delete(&path).expect(204).await;
    import::tidy(&api.app).await.unwrap();
    assert!(source(&api, &other).exists());
}
