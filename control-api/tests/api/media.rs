//! The library: whose assets are whose, what may be changed and deleted, signed addresses, encoding anew (ME, DL).

use control_api::encoding::{self, Made, MadeRendition, MadeTrack};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Api, Client};
use crate::movies::movie;
use crate::uploads::film;

/// An uploaded film that was encoded to 360 lines; its asset.
pub async fn encoded(api: &Api, client: &Client<'_>, announced: Value) -> String {
    let asset = uploaded(api, client, announced).await;
    let job = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    assert!(encoding::finish(&api.app, &job, &made()).await.unwrap());
    asset
}

pub fn made() -> Made {
    let track = |kind, language: &str, purpose| MadeTrack {
        kind,
        language: language.to_owned(),
        label: language.to_owned(),
        codec: "mp4a.40.2".to_owned(),
        channels: (kind == "audio").then_some(2),
        purpose,
        is_default: true,
    };
    Made {
        duration_seconds: 16.0,
        version: "v".to_owned(),
        renditions: vec![MadeRendition {
            profile: "360p".to_owned(),
            width: Some(640),
            height: Some(360),
            bitrate_bps: 600_000,
            codec: "AVC".to_owned(),
        }],
        tracks: vec![
            track("audio", "de", "main"),
            track("audio", "en", "commentary"),
            track("subtitle", "en", "captions"),
        ],
    }
}

async fn uploaded(api: &Api, client: &Client<'_>, more: Value) -> String {
    let bytes = film(1_000);
    let mut body = json!({ "asset_type": "video_master", "filename": "f.mp4", "content_type": "video/mp4",
        "size_bytes": 1000, "auto_complete": true });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let upload = client.post("/uploads").json(body).expect(201).await;
    let url = upload["upload_url"]
        .as_str()
        .unwrap()
        .split_once("/api/v1")
        .unwrap()
        .1
        .to_owned();
    api.stranger().put(&url).bytes("video/mp4", &bytes).send().await.is(200);
    let upload = client
        .get(&format!("/uploads/{}", upload["id"].as_str().unwrap()))
        .expect(200)
        .await;
    upload["asset_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn me_1_assets_are_their_owners_and_moderators() {
    let api = Api::start().await;
    let (user, other, moderator) = (api.user().await, api.user().await, api.moderator().await);
    let id = encoded(&api, &user, json!({ "title": "Mine" })).await;
    let place = format!("/media/{id}");
    other.get(&place).refused("NOT_FOUND").await;
    other
        .patch(&place)
        .json(json!({ "title": "x" }))
        .refused("NOT_FOUND")
        .await;
    other.delete(&place).refused("NOT_FOUND").await;
    other.post(&format!("{place}/sign")).refused("NOT_FOUND").await;
    other.post(&format!("{place}/transcode")).refused("NOT_FOUND").await;
    assert!(
        other.get("/media").expect(200).await["data"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let body = user.get(&place).expect(200).await;
    assert_eq!(
        (&body["status"], &body["resolution"], &body["title"]),
        (&json!("ready"), &json!("640x360"), &json!("Mine"))
    );
    assert_eq!(body["renditions"][0]["profile"], "360p");
    assert_eq!(body["audio_tracks"].as_array().unwrap().len(), 2);
    assert_eq!(body["subtitle_tracks"][0]["kind"], "captions");
    let found = |path: &str| moderator.get(path).expect(200);
    for (path, count) in [
        ("/media", 1),
        ("/media?q=mine", 1),
        ("/media?q=yours", 0),
        ("/media?status=failed", 0),
        ("/media?type=video_master&published=true&unattached=true", 1),
        ("/media?folder_id=root", 1),
        ("/media?tag=a", 0),
        (&format!("/media?owner_id={}", user.user_id), 1),
        (&format!("/media?owner_id={}", other.user_id), 0),
        ("/media?sort=-duration_seconds&fields=title", 1),
    ] {
        assert_eq!(found(path).await["data"].as_array().unwrap().len(), count, "{path}");
    }
    moderator.get("/media?sort=owner").refused("INVALID_SORT").await;
    moderator
        .patch(&place)
        .json(json!({ "title": "Theirs" }))
        .expect(200)
        .await;
    let got = user.get(&place).send().await.is(200);
    user.patch(&place)
        .header("if-match", "\"1\"")
        .json(json!({ "title": "x" }))
        .refused("PRECONDITION_FAILED")
        .await;
    let etag = got.header("etag").to_owned();
    user.patch(&place)
        .header("if-match", &etag)
        .json(json!({ "title": "Mine again" }))
        .expect(200)
        .await;
    let tenant = api.tenant("other").await;
    let foreigner = api.user_of(tenant, control_api::auth::Role::Admin).await;
    foreigner.get(&place).refused("WRONG_TENANT").await;
}

#[tokio::test]
async fn me_4_assets_are_told_of_once() {
    let api = Api::start().await;
    let user = api.user().await;
    let id = encoded(&api, &user, json!({ "auto_publish": false })).await;
    assert_eq!(api.events().await, ["media.uploaded", "media.transcoded"]);
    let place = format!("/media/{id}");
    for published in [true, false, true] {
        let body = user
            .patch(&place)
            .json(json!({ "published": published }))
            .expect(200)
            .await;
        assert_eq!(body["published"], published);
    }
    assert_eq!(api.events().await[2..], ["media.published"]);
    // Published before it is ready, it is told once it is.
    let bytes = uploaded(&api, &user, json!({ "auto_publish": false })).await;
    user.patch(&format!("/media/{bytes}"))
        .json(json!({ "published": true }))
        .expect(200)
        .await;
    assert_eq!(api.events().await[3..], ["media.uploaded"]);
    let job = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    encoding::finish(&api.app, &job, &made()).await.unwrap();
    assert_eq!(api.events().await[4..], ["media.transcoded", "media.published"]);
}

#[tokio::test]
async fn dl_9_and_10_what_is_out_stays_and_what_is_deleted_is_gone() {
    let api = Api::start().await;
    let (user, moderator) = (api.user().await, api.moderator().await);
    let title = moderator.post("/admin/movies").json(movie("One")).expect(201).await["id"].clone();
    let target = json!({ "content_type": "movie", "content_id": title });
    let id = encoded(&api, &moderator, json!({ "target": target.clone() })).await;
    let place = format!("/media/{id}");
    let publish = format!("/admin/movies/{}", title.as_str().unwrap());
    let published = moderator.post(&format!("{publish}/publish")).expect(200).await;
    // Languages that nobody named are those of its sound and text.
    assert_eq!(
        (&published["audio_languages"], &published["subtitle_languages"]),
        (&json!(["de", "en"]), &json!(["en"]))
    );
    moderator.delete(&place).refused("MEDIA_IN_USE").await;
    moderator
        .patch(&place)
        .json(json!({ "target": null }))
        .refused("MEDIA_IN_USE")
        .await;
    moderator
        .patch(&place)
        .json(json!({ "delivery_policy": "public" }))
        .refused("VALIDATION_ERROR")
        .await;
    moderator.post(&format!("{place}/sign")).refused("FORBIDDEN").await;
    // A second video lets the first one go.
    let second = encoded(&api, &moderator, json!({ "target": target.clone() })).await;
    let body = moderator
        .patch(&place)
        .json(json!({ "target": null }))
        .expect(200)
        .await;
    assert_eq!(
        (&body["target"], &body["delivery_policy"]),
        (&Value::Null, &json!("cookie"))
    );
    let primary: Uuid = api.value("select primary_asset_id from playables").await;
    assert_eq!(primary.to_string(), second);
    let mine = encoded(&api, &user, json!({})).await;
    let attach = user.patch(&format!("/media/{mine}")).json(json!({ "target": target }));
    attach.refused("FORBIDDEN").await;
    let data = api.app.config.section.data.join("sources");
    let before = std::fs::read_dir(&data).unwrap().count();
    moderator.delete(&place).expect(204).await;
    moderator.get(&place).refused("NOT_FOUND").await;
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), before - 1);
    assert_eq!(api.value::<i64>("select count(*) from removed_media").await, 1);
    assert_eq!(
        api.value::<i64>(&format!("select count(*) from renditions where asset_id = '{id}'"))
            .await,
        0
    );
    assert!(api.events().await.contains(&"media.deleted".to_owned()));
    moderator.post(&format!("{publish}/unpublish")).expect(200).await;
    moderator.delete(&format!("/media/{second}")).expect(204).await;
    assert_eq!(
        api.value::<i64>(&format!(
            "select storage_used_bytes from users where id = '{}'",
            moderator.user_id
        ))
        .await,
        0
    );
}

#[tokio::test]
async fn en_3_signed_addresses_carry_their_cap_and_end() {
    let api = Api::start().await;
    let user = api.user().await;
    let id = uploaded(&api, &user, json!({})).await;
    let sign = format!("/media/{id}/sign");
    user.post(&sign).refused("MEDIA_NOT_READY").await;
    let job = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    encoding::finish(&api.app, &job, &made()).await.unwrap();
    user.post(&sign)
        .json(json!({ "ttl_seconds": 59 }))
        .refused("VALIDATION_ERROR")
        .await;
    let body = user
        .post(&sign)
        .json(json!({ "ttl_seconds": 60, "max_quality": "SD" }))
        .expect(200)
        .await;
    let url = body["hls_url"].as_str().unwrap();
    let token = url.split('/').find_map(|part| part.strip_prefix('~')).unwrap();
    let now = u64::try_from(api.app.now().timestamp()).unwrap();
    let path = format!("/vod/{id}/master.m3u8");
    let request = packager::grant::GrantRequest {
        path: &path,
        method: "GET",
        now,
        scheme: None,
        host: None,
        audience: None,
        issuer: None,
    };
    let grant = packager::grant::Grant::verify(token, &crate::harness::grant_keys(), &request).unwrap();
    assert_eq!(grant.height_max, Some(576));
    assert!(grant.expires <= now + 60, "{} {now}", grant.expires);
}

#[tokio::test]
async fn up_11_ladders_are_made_again_and_longer() {
    let api = Api::start().await;
    let user = api.user().await;
    let rows = user.get("/transcode/profiles").expect(200).await;
    assert_eq!(
        rows["data"][2],
        json!({ "name": "1080p", "width": 1920, "height": 1080, "bitrate_bps": 5_000_000,
        "preset": "fast", "enabled": true })
    );
    let id = uploaded(&api, &user, json!({})).await;
    let again = format!("/media/{id}/transcode");
    user.post(&again).refused("INVALID_STATE_TRANSITION").await;
    let job = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    assert!(job.profiles.is_empty());
    encoding::finish(&api.app, &job, &made()).await.unwrap();
    user.post(&again).refused("INVALID_STATE_TRANSITION").await;
    user.post(&again)
        .json(json!({ "profiles": ["360p"] }))
        .refused("INVALID_STATE_TRANSITION")
        .await;
    user.post(&again)
        .json(json!({ "profiles": ["9000p"] }))
        .refused("VALIDATION_ERROR")
        .await;
    user.post(&again)
        .json(json!({ "profiles": ["480p"] }))
        .expect(202)
        .await;
    let job = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    assert_eq!(job.profiles, ["480p", "360p"]);
    // While it is made anew, it plays; if that fails, it goes on to.
    assert_eq!(user.get(&format!("/media/{id}")).expect(200).await["playable"], true);
    encoding::fail(&api.app, &job, encoding::Fault::Source, "no")
        .await
        .unwrap();
    assert_eq!(user.get(&format!("/media/{id}")).expect(200).await["status"], "ready");
    user.post(&again).json(json!({ "force": true })).expect(202).await;
}

#[tokio::test]
async fn movies_tell_their_tracks_and_trailers() {
    let api = Api::start().await;
    let (user, moderator) = (api.user().await, api.moderator().await);
    let title = moderator.post("/admin/movies").json(movie("One")).expect(201).await["id"].clone();
    let target = json!({ "content_type": "movie", "content_id": title });
    encoded(&api, &moderator, json!({ "target": target.clone() })).await;
    encoded(
        &api,
        &moderator,
        json!({ "target": target, "asset_type": "trailer", "title": "Soon" }),
    )
    .await;
    let place = format!("/movies/{}", title.as_str().unwrap());
    user.get(&format!("{place}/tracks")).refused("NOT_FOUND").await;
    moderator.post(&format!("/admin{place}/publish")).expect(200).await;
    let tracks = user.get(&format!("{place}/tracks")).expect(200).await;
    assert_eq!(tracks["audio"][1]["kind"], "commentary");
    assert_eq!(tracks["subtitles"].as_array().unwrap().len(), 1);
    let trailers = user.get(&format!("{place}/trailers")).expect(200).await;
    let rows = trailers["data"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["title"]), (1, &json!("Soon")));
    assert!(rows[0]["hls_url"].as_str().unwrap().contains("/~"));
}

#[tokio::test]
async fn dl_10_giving_an_upload_up_takes_nothing_that_is_out() {
    let api = Api::start().await;
    let moderator = api.moderator().await;
    let title = moderator.post("/admin/movies").json(movie("One")).expect(201).await["id"].clone();
    let target = json!({ "content_type": "movie", "content_id": title });
    let asset = uploaded(&api, &moderator, json!({ "target": target })).await;
    let upload: Uuid = api.value("select id from uploads").await;
    let (upload, publish) = (
        format!("/uploads/{upload}"),
        format!("/admin/movies/{}", title.as_str().unwrap()),
    );
    let later = json!({ "available_from": api.app.now() + chrono::TimeDelta::days(1) });
    moderator
        .post(&format!("{publish}/publish"))
        .json(later)
        .expect(200)
        .await;
    moderator.delete(&upload).refused("MEDIA_IN_USE").await;
    let kept = moderator.get(&format!("/media/{asset}")).expect(200).await;
    assert_eq!(kept["status"], "uploaded");
    assert_eq!(moderator.get(&upload).expect(200).await["status"], "processing");
    assert_eq!(
        api.value::<i64>("select count(*) from encoding_jobs where status = 'queued'")
            .await,
        1
    );
    moderator.post(&format!("{publish}/unpublish")).expect(200).await;
    moderator.delete(&upload).expect(204).await;
    moderator.get(&format!("/media/{asset}")).refused("NOT_FOUND").await;
}

#[tokio::test]
async fn assets_are_sent_back_as_they_were_read() {
    let api = Api::start().await;
    let (user, moderator) = (api.user().await, api.moderator().await);
    let title = moderator.post("/admin/movies").json(movie("One")).expect(201).await["id"].clone();
    let target = json!({ "content_type": "movie", "content_id": title });
    for (client, announced) in [(&user, json!({})), (&moderator, json!({ "target": target }))] {
        let place = format!("/media/{}", encoded(&api, client, announced).await);
        let mut read = client.get(&place).expect(200).await;
        read["title"] = json!("Another");
        read["size_bytes"] = json!(1);
        let before = read["delivery_policy"].clone();
        let got = client.patch(&place).json(read.clone()).expect(200).await;
        assert_eq!(
            (
                &got["title"],
                &got["size_bytes"],
                &got["delivery_policy"],
                &got["target"]
            ),
            (&json!("Another"), &json!(1000), &before, &read["target"])
        );
        let unknown = client.patch(&place).json(json!({ "color": "red" }));
        unknown.refused("VALIDATION_ERROR").await;
    }
    // Whose target is the same is not attached anew.
    let mine = encoded(&api, &user, json!({})).await;
    let place = format!("/media/{mine}");
    user.patch(&place)
        .json(json!({ "delivery_policy": "public" }))
        .expect(200)
        .await;
    let got = user.patch(&place).json(json!({ "target": null })).expect(200).await;
    assert_eq!(got["delivery_policy"], "public");
}

#[tokio::test]
async fn posts_to_the_library_run_once_for_a_key() {
    let api = Api::start().await;
    let user = api.user().await;
    let bytes = film(1_000);
    let announced = json!({ "asset_type": "video_master", "filename": "f.mp4", "content_type": "video/mp4",
        "size_bytes": 1000 });
    let upload = user.post("/uploads").json(announced).expect(201).await;
    let url = upload["upload_url"].as_str().unwrap().split_once("/api/v1").unwrap().1;
    api.stranger().put(url).bytes("video/mp4", &bytes).send().await.is(200);
    let upload = upload["id"].as_str().unwrap();
    let twice = async |path: String, body: Value, status: u16| {
        let ask = || {
            user.post(&path)
                .header("idempotency-key", &path)
                .json(body.clone())
                .send()
        };
        let (first, again) = (ask().await.is(status), ask().await.is(status));
        assert_eq!(
            (
                first.header("idempotency-replayed"),
                again.header("idempotency-replayed")
            ),
            ("", "true"),
            "{path}"
        );
        assert_eq!(first.bytes, again.bytes, "{path}");
        first.json()
    };
    let asset = twice(format!("/uploads/{upload}/complete"), json!({}), 202).await["asset_id"].clone();
    let asset = asset.as_str().unwrap();
    let job = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    encoding::finish(&api.app, &job, &made()).await.unwrap();
    twice(format!("/media/{asset}/sign"), json!({ "ttl_seconds": 60 }), 200).await;
    twice(format!("/media/{asset}/transcode"), json!({ "force": true }), 202).await;
    assert_eq!(api.value::<i64>("select count(*) from encoding_jobs").await, 2);
}
