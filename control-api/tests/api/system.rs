//! System, and what holds of every operation.

use std::collections::BTreeSet;

use control_api::operation::Caller;
use serde_json::json;

use crate::harness::{Api, settings};

#[tokio::test]
async fn sy_1_health_needs_no_account() {
    let api = Api::start().await;
    let body = api.stranger().get("/system/health").expect(200).await;
    assert_eq!(body["components"]["database"]["status"], "ok");
    api.stranger().get("/system/version").expect(200).await;
    api.app.db.close().await;
    let body = api.stranger().get("/system/health").expect(503).await;
    assert_eq!(body["status"], "down");
}

#[tokio::test]
async fn sy_2_ready_says_whether_requests_may_come() {
    let api = Api::start().await;
    api.stranger().get("/system/ready").expect(200).await;
    api.stranger().get("//readyz").expect(200).await;
    api.app.db.close().await;
    let got = api.stranger().get("/system/ready").send().await.is(503);
    assert_eq!(got.json()["code"], "SERVICE_UNAVAILABLE");
    assert_eq!(got.header("retry-after"), "2");
    api.stranger().get("//readyz").refused("SERVICE_UNAVAILABLE").await;
    api.stranger().get("//healthz").expect(200).await;
}

#[tokio::test]
async fn sy_3_config_needs_a_platform_and_has_a_validator() {
    let api = Api::start().await;
    api.stranger().get("/system/config").refused("INVALID_PARAMETER").await;
    api.stranger()
        .get("/system/config?platform=amiga")
        .refused("INVALID_PARAMETER")
        .await;
    let got = api.stranger().get("/system/config?platform=web").send().await.is(200);
    assert_eq!(got.header("cache-control"), "public, max-age=60");
    let etag = got.header("etag").to_owned();
    let again = api
        .stranger()
        .get("/system/config?platform=web")
        .header("if-none-match", &etag)
        .send()
        .await
        .is(304);
    assert!(again.bytes.is_empty());
}

#[tokio::test]
async fn errors_are_told_one_way() {
    let api = Api::start().await;
    let stranger = api.stranger();
    stranger.get("/nothing").refused("NOT_FOUND").await;
    let got = stranger.delete("/auth/login").send().await.is(405);
    assert_eq!(
        (got.json()["code"].as_str(), got.header("allow")),
        (Some("METHOD_NOT_ALLOWED"), "POST")
    );
    stranger
        .post("/auth/login")
        .bytes("text/plain", b"{}")
        .refused("UNSUPPORTED_MEDIA_TYPE")
        .await;
    stranger
        .post("/auth/login")
        .bytes("application/json", b"{")
        .refused("BAD_REQUEST")
        .await;
    stranger.get("/system/config?platform=%").refused("BAD_REQUEST").await;
    let large = vec![b' '; (1 << 20) + 1];
    stranger
        .post("/auth/login")
        .bytes("application/json", &large)
        .refused("BODY_TOO_LARGE")
        .await;
    let body = stranger
        .post("/auth/login")
        .json(json!({ "email": 1, "extra": 2 }))
        .refused("VALIDATION_ERROR")
        .await;
    let fields: Vec<&str> = body["details"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["field"].as_str())
        .collect();
    assert_eq!(fields, ["email", "password", "extra"]);
    let id = "0190163d-8694-739b-8dc8-bd62fb9d5d7d";
    let got = stranger.get("/nothing").header("x-request-id", id).send().await;
    assert_eq!(
        (got.header("x-request-id"), got.json()["request_id"].as_str()),
        (id, Some(id))
    );
}

#[tokio::test]
async fn faults_of_ours_say_nothing_of_themselves() {
    let api = Api::start().await;
    api.sql("alter table plans rename to elsewhere").await;
    let got = api.stranger().get("/plans").send().await.is(500);
    assert_eq!(got.json()["code"], "INTERNAL_ERROR");
    assert!(!String::from_utf8_lossy(&got.bytes).contains("plans"));
}

#[tokio::test]
async fn plain_http_is_refused_behind_a_proxy() {
    let section = control_api::config::Section {
        require_https: true,
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        settings: settings(),
        ..control_api::config::Section::default()
    };
    let api = Api::with_section(section).await;
    api.stranger().get("/system/version").refused("HTTPS_REQUIRED").await;
    api.stranger().get("/nothing").refused("HTTPS_REQUIRED").await;
    api.stranger().get("//healthz").expect(200).await;
    api.stranger()
        .get("/system/version")
        .header("x-forwarded-proto", "https")
        .expect(200)
        .await;
}

#[tokio::test]
async fn nobody_but_a_trusted_proxy_is_believed() {
    let section = control_api::config::Section {
        require_https: true,
        trusted_proxies: vec!["192.0.2.1".parse().unwrap()],
        settings: settings(),
        ..control_api::config::Section::default()
    };
    let api = Api::with_section(section).await;
    let lying = api.stranger().with_header("x-forwarded-proto", "https");
    lying.get("/system/version").refused("HTTPS_REQUIRED").await;
}

#[tokio::test]
async fn rate_limits_are_told_and_kept() {
    let mut limits = settings();
    limits.rate_limits.anonymous_per_minute = 3;
    limits.rate_limits.burst_per_second = 2;
    let api = Api::with(limits).await;
    for left in ["2", "1", "0"] {
        let got = api.stranger().get("/system/version").send().await.is(200);
        assert_eq!(
            (got.header("x-ratelimit-limit"), got.header("x-ratelimit-remaining")),
            ("3", left)
        );
    }
    let got = api.stranger().get("/system/version").send().await.is(429);
    assert_eq!(got.json()["code"], "RATE_LIMITED");
    assert!(got.header("retry-after").parse::<u32>().unwrap() >= 1);
    // Health is not counted.
    api.stranger().get("/system/health").expect(200).await;
    let user = api.user().await;
    user.get("/auth/check").expect(200).await;
    user.get("/auth/check").expect(200).await;
    user.get("/auth/check").refused("RATE_LIMITED").await;
}

#[tokio::test]
async fn maintenance_lets_admins_pass() {
    let mut closed = settings();
    closed.maintenance.active = true;
    closed.maintenance.message = Some("back soon".to_owned());
    let api = Api::with(closed).await;
    let body = api.stranger().get("/oauth/authorize").refused("MAINTENANCE").await;
    assert_eq!(body["message"], "back soon");
    api.admin()
        .await
        .get("/oauth/authorize")
        .refused("INVALID_PARAMETER")
        .await;
    api.stranger().get("/system/health").expect(200).await;
}

#[tokio::test]
async fn the_document_is_whole() {
    let api = Api::start().await;
    let got = api.stranger().get("/openapi.json").send().await.is(200);
    let document = got.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        assert!(ids.insert(operation.id), "{} is there twice", operation.id);
        let method = operation.method.as_str().to_ascii_lowercase();
        let described = &document["paths"][&operation.path][&method];
        assert_eq!(described["operationId"], json!(operation.id), "{}", operation.path);
        assert!(
            !operation.replies.is_empty(),
            "{} says nothing of its replies",
            operation.id
        );
        assert!(!operation.summary.is_empty(), "{} has no summary", operation.id);
    }
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap_or_default();
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name} is not described"
        );
    }
    let page = api.stranger().get("/docs").send().await.is(200);
    assert!(String::from_utf8(page.bytes).unwrap().contains("auth.login"));
}

/// Every operation that is not for everybody refuses strangers, and those for some refuse the others.
#[tokio::test]
async fn sweep_callers() {
    let api = Api::start().await;
    let (stranger, user, moderator) = (api.stranger(), api.user().await, api.moderator().await);
    let key = user.post("/api-keys").json(json!({ "name": "sweep" })).send().await;
    let key = key.json()["key"].as_str().map(|key| user.with_credentials(key));
    for endpoint in &api.app.endpoints {
        let operation = &endpoint.operation;
        let path: Vec<String> = operation
            .path
            .split('/')
            .map(|part| {
                if part.starts_with('{') {
                    uuid::Uuid::nil().to_string()
                } else {
                    part.to_owned()
                }
            })
            .collect();
        let path = format!("/{}", path.join("/"));
        let ask = async |client: &crate::harness::Client<'_>| client.ask(operation.method.clone(), &path).send().await;
        if operation.caller > Caller::Catalogue && operation.caller != Caller::Signed {
            let got = ask(&stranger).await;
            assert_eq!(got.status, 401, "{} for strangers", operation.id);
        }
        if operation.caller >= Caller::Moderator && operation.caller != Caller::Signed {
            assert_eq!(ask(&user).await.status, 403, "{} for users", operation.id);
        }
        if operation.caller >= Caller::Admin && operation.caller != Caller::Signed {
            assert_eq!(ask(&moderator).await.status, 403, "{} for moderators", operation.id);
        }
        if let Some(key) = &key
            && operation.caller >= Caller::Jwt
            && operation.caller != Caller::Signed
        {
            let got = ask(key).await;
            if operation.method != axum::http::Method::HEAD {
                assert_eq!(got.json()["code"], "API_KEY_NOT_ALLOWED", "{} for keys", operation.id);
            }
        }
    }
}

#[tokio::test]
async fn pages_of_listed_sites_read_replies() {
    let mut settings = crate::harness::settings();
    settings.cors.allowed_origins = vec!["https://app.example".to_owned()];
    let api = Api::with(settings).await;
    let user = api.user().await;
    let preflight = |origin: &str| {
        let ask = api.stranger().ask(axum::http::Method::OPTIONS, "/uploads/tus");
        ask.header("origin", origin)
            .header("access-control-request-method", "POST")
    };
    let got = preflight("https://app.example").send().await.is(204);
    assert!(got.header("access-control-allow-methods").contains("POST"));
    for name in ["upload-metadata", "content-range", "x-request-id"] {
        assert!(got.header("access-control-allow-headers").contains(name), "{name}");
    }
    assert_eq!(got.header("access-control-max-age"), "600");
    assert_eq!(
        preflight("https://evil.example")
            .send()
            .await
            .header("access-control-allow-origin"),
        ""
    );
    for path in ["/uploads", "/nothing"] {
        let from = |origin: &str| user.get(path).header("origin", origin);
        let got = from("https://app.example").send().await;
        assert_eq!(got.header("access-control-allow-origin"), "https://app.example");
        assert!(got.header("access-control-expose-headers").contains("upload-offset"));
        assert_eq!(
            from("https://evil.example")
                .send()
                .await
                .header("access-control-allow-origin"),
            ""
        );
    }
}
