//! Starting, beating, ending (PL, EN).

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta};
use control_api::config::Section;
use control_api::{jobs, live};
use packager::grant::{Grant, GrantRequest};
use serde_json::{Value, json};

use crate::account::{device, futures};
use crate::harness::{Api, Client, grant_keys, settings};
use crate::movies::{attach, movie, published, subscribe};

/// A viewer with a plan and a device, and a movie to watch.
pub struct Scene<'a> {
    /// Who watches.
    pub viewer: Client<'a>,
    /// Who made the movie.
    pub moderator: Client<'a>,
    /// The movie.
    pub movie: String,
}

/// The same user on another device.
pub async fn on_device<'a>(user: &Client<'a>, number: u32) -> Client<'a> {
    let made = user.post("/devices").json(device(number)).expect(201).await;
    user.with_header("x-device-id", made["id"].as_str().unwrap())
}

/// Somebody who may watch a movie.
pub async fn scene(api: &Api, streams: i32) -> Scene<'_> {
    let (moderator, user) = (api.moderator().await, api.user().await);
    subscribe(api, user.user_id, 1, streams).await;
    let movie = published(api, &moderator, movie("Film")).await;
    let viewer = on_device(&user, 1).await;
    Scene {
        viewer,
        moderator,
        movie,
    }
}

impl Scene<'_> {
    /// Where it starts.
    pub fn path(&self) -> String {
        format!("/movies/{}/stream", self.movie)
    }

    /// Starts it.
    pub async fn start(&self) -> Value {
        self.viewer.post(&self.path()).expect(201).await
    }

    async fn beat(&self, session: &Value, position: u32) -> crate::harness::Got {
        let body = json!({ "session_id": session["session_id"], "position_seconds": position });
        self.viewer.post("/playback/heartbeat").json(body).send().await
    }
}

fn reason(got: &crate::harness::Got) -> String {
    format!(
        "{} {}",
        got.status,
        got.json()["details"][0]["message"].as_str().unwrap_or_default()
    )
}

#[tokio::test]
async fn pl_1_a_start_gives_urls_that_the_origin_opens() {
    let api = Api::start().await;
    let scene = scene(&api, 2).await;
    let body = scene.start().await;
    assert_eq!(
        (
            body["heartbeat_interval_seconds"].as_i64(),
            body["max_quality"].as_str()
        ),
        (Some(30), Some("FHD"))
    );
    let url = body["hls_url"].as_str().unwrap();
    let grant = grant_of(&api, &body);
    let path = url.strip_prefix("http://127.0.0.1:8080").unwrap();
    let asset: uuid::Uuid = api.value("select id from assets").await;
    assert!(
        path.starts_with(&format!("/vod/{asset}/~")) && path.ends_with("/master.m3u8"),
        "{path}"
    );
    let token = path.split('~').nth(1).unwrap().split('/').next().unwrap();
    let now = api.app.now().timestamp() as u64;
    let request = |path: &'static str| GrantRequest { path, ..request(now) };
    assert_eq!(grant.height_max, Some(1080));
    assert_eq!(
        grant.session.as_deref(),
        body["session_id"]
            .as_str()
            .and_then(|id| uuid::Uuid::try_parse(id).ok())
            .as_ref()
            .map(|id| &id.as_bytes()[..])
    );
    assert!(Grant::verify(token, &grant_keys(), &request("/vod/other/master.m3u8")).is_err());
    assert_eq!(api.events().await.last().unwrap(), "stream.started");
}

/// The grant in the URLs of a start, as it opens a segment.
pub fn grant_of(api: &Api, started: &Value) -> Grant {
    let url = started["hls_url"].as_str().unwrap();
    let (folder, rest) = url.split_once("/~").unwrap();
    let asset = folder.rsplit('/').next().unwrap();
    let path = format!("/vod/{asset}/v1/cmaf/v1/1.m4s");
    let request = GrantRequest {
        path: &path,
        ..request(api.app.now().timestamp() as u64)
    };
    Grant::verify(rest.split('/').next().unwrap(), &grant_keys(), &request).unwrap()
}

fn request(now: u64) -> GrantRequest<'static> {
    GrantRequest {
        method: "GET",
        scheme: None,
        host: None,
        path: "/",
        audience: None,
        issuer: None,
        now,
    }
}

#[tokio::test]
async fn pl_2_to_8_refusals_by_name() {
    let api = Api::start().await;
    let scene = scene(&api, 2).await;
    let (viewer, path) = (&scene.viewer, scene.path());
    viewer
        .with_header("x-device-id", "unknown")
        .post(&path)
        .refused("DEVICE_NOT_REGISTERED")
        .await;
    let other = api.user().await;
    subscribe(&api, other.user_id, 1, 1).await;
    other.post(&path).refused("DEVICE_ID_REQUIRED").await;
    let foreign = on_device(&api.user().await, 3).await;
    foreign.post(&path).refused("SUBSCRIPTION_REQUIRED").await;
    viewer
        .with_header("x-profile-id", &uuid::Uuid::now_v7().to_string())
        .post(&path)
        .refused("INVALID_PROFILE")
        .await;
    let kids = viewer
        .post("/profiles")
        .json(json!({ "name": "Kids", "is_kids": true }))
        .expect(201)
        .await;
    let child = viewer.with_header("x-profile-id", kids["id"].as_str().unwrap());
    child.post(&path).refused("PROFILE_RESTRICTED").await;
    viewer
        .post(&path)
        .json(json!({ "max_quality": "UHD" }))
        .refused("QUALITY_NOT_ENTITLED")
        .await;
    assert_eq!(
        viewer
            .post(&path)
            .json(json!({ "max_quality": "SD" }))
            .expect(201)
            .await["max_quality"],
        "SD"
    );
    viewer
        .post(&format!("/movies/{}/stream", uuid::Uuid::now_v7()))
        .refused("NOT_FOUND")
        .await;
    api.sql("update movies set is_premium = true").await;
    viewer.post(&path).refused("PLAN_UPGRADE_REQUIRED").await;
    api.sql("update movies set is_premium = false, available_from = now() + interval '1 hour'")
        .await;
    viewer.post(&path).refused("NOT_YET_AVAILABLE").await;
    api.sql("update movies set available_from = null, available_until = now() - interval '1 hour'")
        .await;
    viewer.post(&path).refused("AVAILABILITY_ENDED").await;
    api.sql("update movies set available_until = null").await;
    api.sql("update assets set playable = false, status = 'transcoding'")
        .await;
    viewer.post(&path).refused("MEDIA_NOT_READY").await;
    api.sql("update assets set playable = true, status = 'ready'").await;
    viewer.post(&path).expect(201).await;
}

#[tokio::test]
async fn pl_3_urls_do_not_outlive_the_window() {
    let api = Api::start().await;
    let scene = scene(&api, 2).await;
    api.sql("update movies set available_until = now() + interval '5 minutes'")
        .await;
    let body = scene.start().await;
    let end = DateTime::parse_from_rfc3339(body["expires_at"].as_str().unwrap())
        .unwrap()
        .to_utc();
    assert!(end <= api.app.now() + TimeDelta::minutes(5));
    for minute in 1..6 {
        api.app.advance(TimeDelta::seconds(60));
        let got = scene.beat(&body, minute * 60).await;
        if minute == 5 {
            assert_eq!(reason(&got), "410 window_closed");
        } else {
            assert_eq!(got.status, 200, "{minute}");
        }
    }
}

#[tokio::test]
async fn pl_9_and_10_slots_are_counted_and_a_device_has_one() {
    let api = Api::start().await;
    let scene = scene(&api, 2).await;
    let first = scene.start().await;
    let second = on_device(&scene.viewer, 2).await;
    let third = on_device(&scene.viewer, 3).await;
    second.post(&scene.path()).expect(201).await;
    third.post(&scene.path()).refused("CONCURRENCY_LIMIT_REACHED").await;
    assert_eq!(api.events().await.last().unwrap(), "stream.concurrency_exceeded");
    // The same device again: its first session is over.
    let again = scene.start().await;
    assert_eq!(reason(&scene.beat(&first, 1).await), "410 superseded");
    assert_eq!(scene.beat(&again, 1).await.status, 200);
    let listed = scene.viewer.get("/playback/sessions").expect(200).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    let path = format!("/playback/sessions/{}", again["session_id"].as_str().unwrap());
    scene.viewer.delete(&path).expect(204).await;
    third.post(&scene.path()).expect(201).await;
}

#[tokio::test]
async fn pl_9_two_processes_never_give_more_than_there_are() {
    let api = Api::start().await;
    let beside = api.beside().await;
    let scene = scene(&api, 3).await;
    let mut devices = Vec::new();
    for number in 2..14 {
        devices.push(on_device(&scene.viewer, number).await);
    }
    for _ in 0..5 {
        let asks = devices.iter().enumerate().map(|(at, client)| {
            let client = if at % 2 == 0 {
                client.clone()
            } else {
                client.at(&beside)
            };
            let path = scene.path();
            async move { client.post(&path).send().await }
        });
        let statuses = futures(asks).await;
        assert_eq!(
            statuses.iter().filter(|status| **status == 201).count(),
            3,
            "{statuses:?}"
        );
        assert_eq!(api.value::<i64>("select count(*) from stream_sessions").await, 3);
        api.sql("select stream_end(array(select id from stream_sessions), 'admin', now())")
            .await;
    }
}

#[tokio::test]
async fn pl_11_and_12_beats_keep_alive_and_renew() {
    let api = Api::start().await;
    let scene = scene(&api, 1).await;
    let body = scene.start().await;
    let mut renewed = 0;
    for beat in 1..=20 {
        api.app.advance(TimeDelta::seconds(30));
        let got = scene.beat(&body, beat * 30).await.is(200).json();
        if !got["refreshed_urls"].is_null() {
            renewed += 1;
            assert_ne!(got["refreshed_urls"]["hls_url"], body["hls_url"]);
        }
        let end = DateTime::parse_from_rfc3339(got["session_expires_at"].as_str().unwrap())
            .unwrap()
            .to_utc();
        // The clock goes on while the reply is read.
        let left = end - api.app.now();
        assert!(
            left > TimeDelta::seconds(85) && left <= TimeDelta::seconds(90),
            "{beat}: {left}"
        );
    }
    // At 480 s for the first time; those hold until 1,080.
    assert_eq!(renewed, 1);
    live::flush(&api.app).await.unwrap();
    assert_eq!(
        api.value::<f64>("select position_seconds from stream_sessions").await,
        600.0
    );
}

#[tokio::test]
async fn pl_13_silence_ends_and_frees() {
    let api = Api::start().await;
    let scene = scene(&api, 1).await;
    let body = scene.start().await;
    let second = on_device(&scene.viewer, 2).await;
    api.app.advance(TimeDelta::seconds(95));
    // It counts for ten more seconds: a beat may be in another node's memory.
    second.post(&scene.path()).refused("CONCURRENCY_LIMIT_REACHED").await;
    live::sweep(&api.app).await.unwrap();
    assert_eq!(api.value::<i64>("select count(*) from stream_sessions").await, 1);
    api.app.advance(TimeDelta::seconds(6));
    live::sweep(&api.app).await.unwrap();
    let late = scene.beat(&body, 1).await;
    assert_eq!(
        (reason(&late).as_str(), late.json()["code"].as_str()),
        ("410 timeout", Some("SESSION_ENDED"))
    );
    second.post(&scene.path()).expect(201).await;
    let again = scene.viewer.post(&scene.path());
    again.refused("CONCURRENCY_LIMIT_REACHED").await;
}

#[tokio::test]
async fn pl_14_beats_in_a_row_are_answered_and_not_stored() {
    let api = Api::start().await;
    let scene = scene(&api, 1).await;
    let body = scene.start().await;
    api.app.advance(TimeDelta::seconds(4));
    scene.beat(&body, 4).await.is(200);
    live::flush(&api.app).await.unwrap();
    assert_eq!(
        api.value::<f64>("select position_seconds from stream_sessions").await,
        0.0
    );
}

#[tokio::test]
async fn pl_15_and_16_sessions_are_their_accounts() {
    let api = Api::start().await;
    let scene = scene(&api, 1).await;
    let body = scene.start().await;
    let path = format!("/playback/sessions/{}", body["session_id"].as_str().unwrap());
    let other = api.user().await;
    let beat = json!({ "session_id": body["session_id"], "position_seconds": 1 });
    other
        .post("/playback/heartbeat")
        .json(beat.clone())
        .refused("SESSION_NOT_FOUND")
        .await;
    other.delete(&path).refused("SESSION_NOT_FOUND").await;
    assert!(
        other.get("/playback/sessions").expect(200).await["data"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let end = scene.viewer.delete(&format!("{path}?position_seconds=12.5"));
    end.expect(204).await;
    scene.viewer.delete(&path).expect(204).await;
    let position = "select position_seconds from stream_session_log";
    assert_eq!(api.value::<f64>(position).await, 12.5);
    assert_eq!(reason(&scene.beat(&body, 1).await), "410 ended");
    other
        .post("/playback/heartbeat")
        .json(beat)
        .refused("SESSION_NOT_FOUND")
        .await;
    other.delete(&path).refused("SESSION_NOT_FOUND").await;
    let unknown = json!({ "session_id": uuid::Uuid::now_v7(), "position_seconds": 1 });
    scene
        .viewer
        .post("/playback/heartbeat")
        .json(unknown)
        .refused("SESSION_NOT_FOUND")
        .await;
    assert_eq!(
        api.events()
            .await
            .iter()
            .filter(|event| *event == "stream.ended")
            .count(),
        1
    );
}

#[tokio::test]
async fn pl_18_and_pb_4_renewal_asks_for_the_subscription_not_the_catalogue() {
    let api = Api::start().await;
    let scene = scene(&api, 1).await;
    let body = scene.start().await;
    scene
        .moderator
        .post(&format!("/admin/movies/{}/unpublish", scene.movie))
        .expect(200)
        .await;
    let mut last = 200;
    for beat in 1..=20 {
        api.app.advance(TimeDelta::seconds(30));
        last = scene.beat(&body, beat * 30).await.is(200).status;
    }
    assert_eq!(last, 200);
    let second = on_device(&scene.viewer, 2).await;
    second.post(&scene.path()).refused("NOT_FOUND").await;
    api.sql("update subscriptions set status = 'canceled'").await;
    let mut ended = String::new();
    for beat in 21..=40 {
        api.app.advance(TimeDelta::seconds(30));
        let got = scene.beat(&body, beat * 30).await;
        if got.status != 200 {
            ended = reason(&got);
            break;
        }
    }
    assert_eq!(ended, "410 subscription_ended");
}

#[tokio::test]
async fn dv_4_and_au_7_removal_and_suspension_end_streams() {
    let api = Api::start().await;
    let scene = scene(&api, 3).await;
    let first = scene.start().await;
    let second = on_device(&scene.viewer, 2).await;
    let other = second.post(&scene.path()).expect(201).await;
    let devices = scene.viewer.get("/devices").expect(200).await;
    let device = devices["data"][0]["id"].as_str().unwrap();
    scene.viewer.delete(&format!("/devices/{device}")).expect(204).await;
    assert_eq!(reason(&scene.beat(&first, 1).await), "410 device_removed");
    scene.viewer.post(&scene.path()).refused("DEVICE_NOT_REGISTERED").await;
    let admin = api.admin().await;
    let path = format!("/admin/users/{}", scene.viewer.user_id);
    admin.patch(&path).json(json!({ "status": "banned" })).expect(200).await;
    assert_eq!(api.value::<i64>("select count(*) from stream_sessions").await, 0);
    let why: String = api
        .value(&format!(
            "select end_reason from stream_session_log where id = '{}'",
            other["session_id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(why, "account_suspended");
    let mut ids: Vec<String> = [&first, &other]
        .iter()
        .map(|body| body["session_id"].as_str().unwrap().replace('-', ""))
        .collect();
    ids.sort_unstable();
    let listed = control_api::db::streams::revoked(&api.app.db, api.app.now())
        .await
        .unwrap();
    assert_eq!(listed.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn another_node_knows_the_session_and_beats_are_never_lost_in_an_outage() {
    let api = Api::start().await;
    let beside = api.beside().await;
    let scene = scene(&api, 1).await;
    let body = scene.start().await;
    let beat = json!({ "session_id": body["session_id"], "position_seconds": 33 });
    let there = scene.viewer.at(&beside);
    beside.app.advance(TimeDelta::seconds(30));
    there.post("/playback/heartbeat").json(beat.clone()).expect(200).await;
    // The database goes: known sessions are answered from memory.
    beside.app.db.close().await;
    beside.app.advance(TimeDelta::seconds(30));
    there.post("/playback/heartbeat").json(beat).expect(200).await;
    there.post(&scene.path()).refused("SERVICE_UNAVAILABLE").await;
    assert!(live::flush(&beside.app).await.is_err());
}

#[tokio::test]
async fn en_1_to_4_all_reasons_are_told() {
    let api = Api::start().await;
    let (moderator, user) = (api.moderator().await, api.user().await);
    let id = published(&api, &moderator, movie("Film")).await;
    let path = format!("/entitlements/movie/{id}");
    let body = user.get(&path).expect(200).await;
    assert_eq!(
        (body["playable"].as_bool(), &body["reasons"]),
        (Some(false), &json!(["SUBSCRIPTION_REQUIRED"]))
    );
    subscribe(&api, user.user_id, 1, 1).await;
    let body = user.get(&path).expect(200).await;
    assert_eq!(
        (body["playable"].as_bool(), body["max_quality"].as_str()),
        (Some(true), Some("FHD"))
    );
    assert_eq!(body["plan_ids_covering"].as_array().unwrap().len(), 1);
    api.sql("update movies set is_premium = true, available_from = now() + interval '1 day'")
        .await;
    api.sql("update assets set playable = false").await;
    let body = user.with_header("x-device-id", "x").get(&path).expect(200).await;
    let expected = [
        "NOT_YET_AVAILABLE",
        "PLAN_UPGRADE_REQUIRED",
        "DEVICE_NOT_REGISTERED",
        "MEDIA_NOT_READY",
    ];
    assert_eq!(body["reasons"], json!(expected));
    let draft = moderator.post("/admin/movies").json(movie("Draft")).expect(201).await;
    user.get(&format!("/entitlements/movie/{}", draft["id"].as_str().unwrap()))
        .refused("NOT_FOUND")
        .await;
    user.get(&format!("/entitlements/song/{id}")).refused("NOT_FOUND").await;
    attach(&api, moderator.user_id, draft["id"].as_str().unwrap(), true).await;
}

#[tokio::test]
async fn pl_17_the_list_has_all_devices_of_the_account() {
    let api = Api::start().await;
    let scene = scene(&api, 3).await;
    let first = scene.start().await;
    let kids = scene
        .viewer
        .post("/profiles")
        .json(json!({ "name": "Kids" }))
        .expect(201)
        .await;
    let second = on_device(&scene.viewer, 2)
        .await
        .with_header("x-profile-id", kids["id"].as_str().unwrap());
    let second = second.post(&scene.path()).expect(201).await;
    let foreign = on_device(&api.user().await, 3).await;
    subscribe(&api, foreign.user_id, 1, 1).await;
    foreign.post(&scene.path()).expect(201).await;
    let listed = scene.viewer.get("/playback/sessions").expect(200).await;
    let ids: Vec<&Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["session_id"])
        .collect();
    assert_eq!(ids, [&first["session_id"], &second["session_id"]]);
    assert_eq!(listed["data"][1]["profile_id"], kids["id"]);
    assert_eq!(listed["data"][0]["title"], "Film");
}

#[tokio::test]
async fn pl_19_positions_outlive_their_sessions() {
    let api = Api::start().await;
    let scene = scene(&api, 2).await;
    let last = "select (content_id, profile_id, position_seconds)::text from stream_session_log order by ended_at desc limit 1";
    let default = format!(
        "select id from profiles where is_default and user_id = '{}'",
        scene.viewer.user_id
    );
    let profile: uuid::Uuid = api.value(&default).await;
    let kept = |position: u32| format!("({},{profile},{position})", scene.movie);
    // One that ends by itself has the position of its last beat, one that is ended may tell another.
    let body = scene.start().await;
    api.app.advance(TimeDelta::seconds(30));
    scene.beat(&body, 40).await.is(200);
    live::flush(&api.app).await.unwrap();
    api.app.advance(TimeDelta::seconds(101));
    live::sweep(&api.app).await.unwrap();
    assert_eq!(api.value::<String>(last).await, kept(40));
    let body = scene.start().await;
    let path = format!("{}?position_seconds=55", session_path(&body));
    scene.viewer.delete(&path).expect(204).await;
    assert_eq!(api.value::<String>(last).await, kept(55));
}

#[tokio::test]
async fn de_4_ended_sessions_reach_the_origin_at_once() {
    let path = std::env::temp_dir().join(format!("headwater-ended-{}", std::process::id()));
    let section = Section {
        require_https: false,
        settings: settings(),
        revoked: Some(path.clone()),
        ..Section::default()
    };
    let (api, second) = {
        let api = Api::with_section(section).await;
        let second = api.beside().await;
        (api, second)
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let jobs = tokio::spawn(jobs::run(Arc::clone(&api.app), stopped));
    let listed = async |session: &Value| {
        let id = session["session_id"].as_str().unwrap().replace('-', "");
        let begun = Instant::now();
        while !std::fs::read_to_string(&path).is_ok_and(|text| text.lines().any(|line| line == id)) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{id} is not in the file");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let scene = scene(&api, 2).await;
    let first = scene.start().await;
    scene.viewer.delete(&session_path(&first)).expect(204).await;
    listed(&first).await;
    // One that ended at another node, too.
    let other = scene.start().await;
    scene.viewer.at(&second).delete(&session_path(&other)).expect(204).await;
    live::tell(&second.app).await.unwrap();
    listed(&other).await;
    stop.send(true).unwrap();
    jobs.await.unwrap();
    std::fs::remove_file(&path).unwrap();
}

fn session_path(session: &Value) -> String {
    format!("/playback/sessions/{}", session["session_id"].as_str().unwrap())
}

#[tokio::test]
async fn what_is_kept_refuses_nobody() {
    let api = Api::start().await;
    let scene = scene(&api, 3).await;
    let start = || scene.viewer.post(&scene.path()).json(json!({ "max_quality": "UHD" }));
    scene.start().await;
    start().refused("QUALITY_NOT_ENTITLED").await;
    // Nobody tells of it: the plan is kept as it was, and is read anew before anybody is refused.
    let quietly = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&api.app.db).await.unwrap();
    };
    quietly("update plans set max_quality = 'UHD'").await;
    assert_eq!(start().expect(201).await["max_quality"], "UHD");
    quietly("update plans set max_quality = 'FHD'").await;
    assert_eq!(start().expect(201).await["max_quality"], "UHD");
}

#[tokio::test]
async fn pl_3_sessions_end_with_the_window_and_free_their_place() {
    let api = Api::start().await;
    let scene = scene(&api, 1).await;
    let other = published(&api, &scene.moderator, movie("Other")).await;
    api.sql(&format!(
        "update movies set available_until = now() + interval '30 seconds' where id = '{}'",
        scene.movie
    ))
    .await;
    let body = scene.start().await;
    let second = on_device(&scene.viewer, 2).await;
    let path = format!("/movies/{other}/stream");
    let tick = async || jobs::tick(Arc::clone(&api.app), Arc::default()).await;
    api.app.advance(TimeDelta::seconds(29));
    tick().await;
    second.post(&path).refused("CONCURRENCY_LIMIT_REACHED").await;
    api.app.advance(TimeDelta::seconds(2));
    tick().await;
    let kept = second.post(&path).expect(201).await;
    assert_eq!(reason(&scene.beat(&body, 1).await), "410 window_closed");
    // One that is moved into the past is found a little later.
    api.sql("update movies set available_until = now() - interval '1 day'")
        .await;
    tick().await;
    assert_eq!(api.value::<i64>("select count(*) from stream_sessions").await, 1);
    jobs::sweep(Arc::clone(&api.app)).await;
    let beat = json!({ "session_id": kept["session_id"], "position_seconds": 1 });
    let late = second.post("/playback/heartbeat").json(beat).send().await;
    assert_eq!(reason(&late), "410 window_closed");
}
