//! The queue of encoding jobs: who gets which job, what becomes of it when a worker dies, how often it is tried.

use chrono::TimeDelta;
use control_api::encoding::{self, Fault, Made, MadeRendition, MadeTrack};
use control_api::import;
use serde_json::json;
use uuid::Uuid;

use crate::harness::Api;
use crate::movies::movie;
use crate::uploads::film;

/// An asset with a job in the queue.
async fn job(api: &Api, tenant: Uuid, owner: Uuid, priority: i32) -> Uuid {
    // Made here, where of two in one millisecond the later is greater.
    let (asset, blob, job) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    api.sql(&format!(
        "insert into blobs (id, tenant_id, size_bytes, storage_path) values ('{blob}', '{tenant}', 1, '{blob}');
         insert into assets (id, tenant_id, owner_id, type, title, status, source_blob)
         values ('{asset}', '{tenant}', '{owner}', 'video_master', '{asset}', 'uploaded', '{blob}');
         insert into encoding_jobs (id, tenant_id, asset_id, profile, kind, priority)
         values ('{job}', '{tenant}', '{asset}', 'ladder', 'video', {priority})"
    ))
    .await;
    asset
}

fn made() -> Made {
    let rendition = |lines: i32| MadeRendition {
        profile: encoding::profile_name(lines),
        width: Some(lines * 16 / 9),
        height: Some(lines),
        bitrate_bps: 1_000_000,
        codec: "avc".to_owned(),
    };
    Made {
        duration_seconds: 12.5,
        version: "v".to_owned(),
        renditions: vec![rendition(720), rendition(360)],
        tracks: vec![MadeTrack {
            kind: "audio",
            language: "de".to_owned(),
            label: "Deutsch".to_owned(),
            codec: "mp4a.40.2".to_owned(),
            channels: Some(2),
            purpose: "main",
            is_default: true,
        }],
    }
}

#[tokio::test]
async fn up_3_from_upload_to_published_movie() {
    let api = Api::start().await;
    let moderator = api.moderator().await;
    let id = moderator.post("/admin/movies").json(movie("One")).expect(201).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let bytes = film(1_000);
    let body = json!({ "asset_type": "video_master", "filename": "f.mp4", "content_type": "video/mp4", "size_bytes": 1000,
        "target": { "content_type": "movie", "content_id": id }, "auto_complete": true });
    let upload = moderator.post("/uploads").json(body).expect(201).await;
    let url = upload["upload_url"]
        .as_str()
        .unwrap()
        .split_once("/api/v1")
        .unwrap()
        .1
        .to_owned();
    api.stranger().put(&url).bytes("video/mp4", &bytes).send().await.is(200);
    let place = format!("/uploads/{}", upload["id"].as_str().unwrap());
    let publish = format!("/admin/movies/{id}/publish");
    moderator.post(&publish).refused("PUBLISH_VALIDATION_FAILED").await;
    let claimed = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    assert_eq!(claimed.storage_path, upload["id"].as_str().unwrap());
    assert!(encoding::beat(&api.app, &claimed, 420).await.unwrap());
    let running = moderator.get(&place).expect(200).await;
    assert_eq!(
        (&running["transcode_status"], &running["progress_percent"]),
        (&json!("running"), &json!(42.0))
    );
    assert!(encoding::finish(&api.app, &claimed, &made()).await.unwrap());
    // Twice is once.
    assert!(!encoding::finish(&api.app, &claimed, &made()).await.unwrap());
    let done = moderator.get(&place).expect(200).await;
    assert_eq!(
        (&done["status"], &done["transcode_status"]),
        (&json!("completed"), &json!("completed"))
    );
    assert_eq!(
        api.events().await,
        ["media.uploaded", "media.transcoded", "media.published"]
    );
    let published = moderator.post(&publish).expect(200).await;
    assert_eq!(
        (&published["status"], &published["quality"]),
        (&json!("published"), &json!("HD"))
    );
    assert_eq!(
        api.value::<i64>("select count(*) from renditions where status = 'completed'")
            .await,
        2
    );
}

#[tokio::test]
async fn every_job_is_claimed_once_by_many_workers() {
    let api = Api::start().await;
    let beside = api.beside().await;
    let owner = api.user().await.user_id;
    let tenant = control_api::db::DEFAULT_TENANT.0;
    for _ in 0..30 {
        job(&api, tenant, owner, 0).await;
    }
    let worker = async |api: &Api, name: &str| {
        let mut jobs = Vec::new();
        while let Some(job) = encoding::claim(&api.app, name).await.unwrap() {
            jobs.push(job.asset_id);
        }
        jobs
    };
    let taken = futures_util::future::join_all([
        worker(&api, "a"),
        worker(&beside, "b"),
        worker(&api, "c"),
        worker(&beside, "d"),
    ])
    .await;
    let mut all: Vec<Uuid> = taken.into_iter().flatten().collect();
    assert_eq!(all.len(), 30);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 30);
}

#[tokio::test]
async fn priorities_come_first_and_tenants_take_turns() {
    let api = Api::start().await;
    let owner = api.user().await.user_id;
    let (big, small) = (control_api::db::DEFAULT_TENANT.0, api.tenant("small").await.0);
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(job(&api, big, owner, 0).await);
    }
    let late = [job(&api, small, owner, 0).await, job(&api, small, owner, 0).await];
    let urgent = job(&api, big, owner, 10).await;
    let mut order = Vec::new();
    while let Some(job) = encoding::claim(&api.app, "w").await.unwrap() {
        order.push(job.asset_id);
        encoding::finish(&api.app, &job, &made()).await.unwrap();
    }
    assert_eq!(
        order,
        [urgent, late[0], waiting[0], late[1], waiting[1], waiting[2], waiting[3]]
    );
}

#[tokio::test]
async fn a_silent_worker_loses_its_job_and_can_not_end_it() {
    let api = Api::start().await;
    let owner = api.user().await.user_id;
    let asset = job(&api, control_api::db::DEFAULT_TENANT.0, owner, 0).await;
    let first = encoding::claim(&api.app, "first").await.unwrap().unwrap();
    api.app.advance(TimeDelta::seconds(25));
    assert!(encoding::beat(&api.app, &first, 100).await.unwrap());
    api.app.advance(TimeDelta::seconds(25));
    assert!(encoding::claim(&api.app, "second").await.unwrap().is_none());
    api.app.advance(TimeDelta::seconds(6));
    let second = encoding::claim(&api.app, "second").await.unwrap().unwrap();
    assert_eq!((second.asset_id, second.attempt), (asset, 2));
    assert!(!encoding::beat(&api.app, &first, 200).await.unwrap());
    assert!(!encoding::finish(&api.app, &first, &made()).await.unwrap());
    encoding::fail(&api.app, &first, Fault::Source, "no").await.unwrap();
    assert!(encoding::finish(&api.app, &second, &made()).await.unwrap());
    assert_eq!(api.value::<String>("select status from assets").await, "ready");
}

#[tokio::test]
async fn failed_jobs_are_tried_again_later_and_given_up_at_last() {
    let api = Api::start().await;
    let owner = api.user().await.user_id;
    job(&api, control_api::db::DEFAULT_TENANT.0, owner, 0).await;
    for minutes in [1, 3, 11, 31] {
        let claimed = encoding::claim(&api.app, "w").await.unwrap().unwrap();
        encoding::fail(&api.app, &claimed, Fault::Passing, "the disk is full")
            .await
            .unwrap();
        assert!(encoding::claim(&api.app, "w").await.unwrap().is_none());
        assert_eq!(api.value::<String>("select status from assets").await, "transcoding");
        api.app.advance(TimeDelta::minutes(minutes));
    }
    let last = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    assert_eq!(last.attempt, 5);
    // It dies without a word: nobody takes it any more, and the asset says so.
    api.app.advance(TimeDelta::minutes(1));
    assert!(encoding::claim(&api.app, "w").await.unwrap().is_none());
    import::tidy(&api.app).await.unwrap();
    assert_eq!(api.value::<String>("select status from assets").await, "failed");
    assert_eq!(api.value::<String>("select status from encoding_jobs").await, "failed");
    assert_eq!(api.events().await, ["media.failed"]);
    // A source that is no good is not tried twice.
    job(&api, control_api::db::DEFAULT_TENANT.0, owner, 0).await;
    let claimed = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    encoding::fail(&api.app, &claimed, Fault::Source, "nothing in it")
        .await
        .unwrap();
    assert_eq!(
        api.value::<i64>("select count(*) from assets where status = 'failed'")
            .await,
        2
    );
}

#[tokio::test]
async fn a_worker_that_stops_gives_its_job_back() {
    let api = Api::start().await;
    let owner = api.user().await.user_id;
    job(&api, control_api::db::DEFAULT_TENANT.0, owner, 0).await;
    let claimed = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    encoding::release(&api.app, &claimed).await.unwrap();
    let again = encoding::claim(&api.app, "w").await.unwrap().unwrap();
    assert_eq!((again.attempt, again.asset_id), (1, claimed.asset_id));
    let hash = [7; 32];
    encoding::hashed(&api.app, &again, &hash).await.unwrap();
    assert_eq!(api.value::<Vec<u8>>("select sha256 from blobs").await, hash.to_vec());
}
