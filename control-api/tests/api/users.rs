//! Administration of users, and the audit log (AU, AD).

use control_api::auth::Role;
use control_api::db::DEFAULT_TENANT;
use serde_json::json;

use crate::harness::{Api, Client, PASSWORD};

#[tokio::test]
async fn au_9_the_record_counts_not_the_claim() {
    let api = Api::start().await;
    let (admin, other) = (api.admin().await, api.admin().await);
    other.get("/admin/users").expect(200).await;
    let path = format!("/admin/users/{}", other.user_id);
    admin.patch(&path).json(json!({ "role": "user" })).expect(200).await;
    other.get("/admin/users").refused("FORBIDDEN").await;
}

#[tokio::test]
async fn au_7_suspension_ends_everything() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let path = format!("/admin/users/{}", user.user_id);
    let login = json!({ "email": user.email, "password": PASSWORD });
    let body = api.stranger().post("/auth/login").json(login.clone()).expect(200).await;
    let got = admin.get(&path).send().await.is(200);
    let etag = got.header("etag").to_owned();
    admin
        .patch(&path)
        .header("if-match", "\"99\"")
        .json(json!({ "status": "banned" }))
        .refused("PRECONDITION_FAILED")
        .await;
    admin
        .patch(&path)
        .header("if-match", &etag)
        .json(json!({ "status": "suspended" }))
        .expect(200)
        .await;
    // What the change ended says why, on every way in; a sign-in that ended for another reason says nothing else, either.
    user.get("/account").refused("ACCOUNT_SUSPENDED").await;
    user.post("/auth/logout").refused("ACCOUNT_SUSPENDED").await;
    let refresh = json!({ "refresh_token": body["refresh_token"] });
    let ask = || api.stranger().post("/auth/refresh").json(refresh.clone());
    ask().refused("ACCOUNT_SUSPENDED").await;
    api.stranger()
        .post("/auth/login")
        .json(login.clone())
        .refused("ACCOUNT_SUSPENDED")
        .await;
    admin.patch(&path).json(json!({ "status": "banned" })).expect(200).await;
    user.get("/account").refused("ACCOUNT_BANNED").await;
    ask().refused("ACCOUNT_BANNED").await;
    assert!(api.events().await.contains(&"user.suspended".to_owned()));
    admin.patch(&path).json(json!({ "status": "active" })).expect(200).await;
    // It stays ended.
    user.get("/account").refused("UNAUTHORIZED").await;
    ask().refused("REFRESH_TOKEN_INVALID").await;
    api.stranger().post("/auth/login").json(login).expect(200).await;
}

/// Follows `Link` from page to page; what `member` each row has.
async fn walk(client: &Client<'_>, path: &str, relation: &str, member: &str) -> Vec<String> {
    let (mut path, mut found) = (path.to_owned(), Vec::new());
    loop {
        let got = client.get(&path).send().await.is(200);
        let body = got.json();
        let rows = body["data"].as_array().unwrap();
        found.extend(rows.iter().map(|row| row[member].as_str().unwrap().to_owned()));
        let links = got.header("link").to_owned();
        let wanted = format!("; rel=\"{relation}\"");
        let Some(link) = links.split(", ").find_map(|link| link.strip_suffix(wanted.as_str())) else {
            return found;
        };
        let target = link.trim_start_matches('<').trim_end_matches('>');
        path = target.strip_prefix("/api/v1").unwrap().to_owned();
        assert!(found.len() < 20, "{path}");
    }
}

#[tokio::test]
async fn links_lead_on_in_the_same_list() {
    let api = Api::start().await;
    let admin = api.admin().await;
    for name in ["c d", "a&b", "b+c", "e"] {
        let body = json!({ "name": name, "email": format!("{}@x.org", &name[..1]), "invite": true });
        admin.post("/admin/users").json(body).expect(201).await;
    }
    let expected = ["e@x.org", "c@x.org", "b@x.org", "a@x.org"];
    let query = "limit=1&sort=-email&search=%40x.org&role=user&include_total=true";
    assert_eq!(
        walk(&admin, &format!("/admin/users?{query}"), "next", "email").await,
        expected
    );
    let by_offset = walk(&admin, &format!("/admin/users?offset=0&{query}"), "next", "email").await;
    assert_eq!(by_offset, expected);
    let back = walk(&admin, &format!("/admin/users?offset=3&{query}"), "prev", "email").await;
    assert_eq!(back, ["a@x.org", "b@x.org", "c@x.org", "e@x.org"]);
    let since = "/admin/audit-logs?limit=1&action=user.&from=2020-01-01T00%3A00%3A00%2B01%3A00";
    assert_eq!(walk(&admin, since, "next", "action").await, ["user.created"; 4]);
}

#[tokio::test]
async fn au_10_the_last_admin_stays() {
    let api = Api::start().await;
    let (admin, second) = (api.admin().await, api.admin().await);
    let own = format!("/admin/users/{}", admin.user_id);
    let other = format!("/admin/users/{}", second.user_id);
    admin
        .patch(&other)
        .json(json!({ "role": "moderator" }))
        .expect(200)
        .await;
    admin
        .patch(&own)
        .json(json!({ "role": "user" }))
        .refused("LAST_ADMIN")
        .await;
    admin
        .patch(&own)
        .json(json!({ "status": "banned" }))
        .refused("LAST_ADMIN")
        .await;
    admin.delete(&own).refused("LAST_ADMIN").await;
    admin.patch(&other).json(json!({ "role": "admin" })).expect(200).await;
    admin.delete(&own).expect(204).await;
    second.get("/admin/users").expect(200).await;
}

#[tokio::test]
async fn au_10_two_admins_can_not_take_each_other_away_at_once() {
    let api = Api::start().await;
    let (one, two) = (api.admin().await, api.admin().await);
    let asks = [
        one.patch(&format!("/admin/users/{}", two.user_id))
            .json(json!({ "role": "user" }))
            .send(),
        two.patch(&format!("/admin/users/{}", one.user_id))
            .json(json!({ "role": "user" }))
            .send(),
    ];
    let statuses = crate::account::futures(asks.into_iter()).await;
    assert_eq!(
        api.value::<i64>("select count(*) from users where role = 'admin'")
            .await,
        1,
        "{statuses:?}"
    );
}

#[tokio::test]
async fn users_are_made_invited_and_found() {
    let api = Api::start().await;
    let admin = api.admin().await;
    let body =
        json!({ "name": "Bo", "email": "bo@example.org", "invite": true, "role": "moderator", "can_upload": false });
    let made = admin.post("/admin/users").json(body.clone()).expect(201).await;
    assert_eq!(
        (made["role"].as_str(), made["can_upload"].as_bool()),
        (Some("moderator"), Some(false))
    );
    admin.post("/admin/users").json(body).refused("EMAIL_TAKEN").await;
    let neither = json!({ "name": "Cy", "email": "cy@example.org" });
    admin
        .post("/admin/users")
        .json(neither)
        .refused("VALIDATION_ERROR")
        .await;
    let answer = json!({ "token": api.mailed().await, "password": "my own password" });
    api.stranger()
        .post("/auth/password/reset")
        .json(answer)
        .expect(204)
        .await;
    let login = json!({ "email": "bo@example.org", "password": "my own password" });
    api.stranger().post("/auth/login").json(login).expect(200).await;
    for (query, count) in [
        ("role=moderator", 1),
        ("status=banned", 0),
        ("search=BO%40", 1),
        ("search=%25", 0),
        ("sort=email", 2),
        ("sort=-last_login_at&limit=1", 1),
        ("search=_", 0),
    ] {
        let found = admin.get(&format!("/admin/users?{query}")).expect(200).await;
        assert_eq!(found["data"].as_array().unwrap().len(), count, "{query}");
    }
    admin
        .get("/admin/users?sort=password_hash")
        .refused("INVALID_SORT")
        .await;
    assert!(!api.events().await.contains(&"user.registered".to_owned()));
}

#[tokio::test]
async fn au_13_admins_set_passwords_or_send_a_link() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let path = format!("/admin/users/{}/password", user.user_id);
    admin
        .post(&path)
        .json(json!({ "password": "short" }))
        .refused("VALIDATION_ERROR")
        .await;
    admin
        .post(&path)
        .json(json!({ "password": "set by admin" }))
        .expect(204)
        .await;
    user.get("/account").refused("UNAUTHORIZED").await;
    let login = json!({ "email": user.email, "password": "set by admin" });
    api.stranger().post("/auth/login").json(login).expect(200).await;
    admin.post(&path).expect(204).await;
    let answer = json!({ "token": api.mailed().await, "password": "my own password" });
    api.stranger()
        .post("/auth/password/reset")
        .json(answer)
        .expect(204)
        .await;
}

#[tokio::test]
async fn passwords_are_set_once_under_a_key() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let path = format!("/admin/users/{}/password", user.user_id);
    let link = || admin.post(&path).header("idempotency-key", "link").send();
    link().await.is(204);
    assert_eq!(link().await.is(204).header("idempotency-replayed"), "true");
    assert_eq!(api.value::<i64>("select count(*) from mail_queue").await, 1);
    // Setting one ends the sign-in; the retry comes with another.
    let change = async |user: &Client<'_>| {
        let body = json!({ "current_password": PASSWORD, "new_password": "another one" });
        user.post("/account/password")
            .header("idempotency-key", "change")
            .json(body)
            .send()
            .await
    };
    change(&user).await.is(204);
    let again = change(&user.again().await).await.is(204);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = json!({ "current_password": "another one", "new_password": "a third one" });
    user.again()
        .await
        .post("/account/password")
        .header("idempotency-key", "change")
        .json(other)
        .refused("IDEMPOTENCY_KEY_REUSED")
        .await;
    // What is stored of the body is nothing to try passwords against.
    let body = json!({ "current_password": PASSWORD, "new_password": "another one" }).to_string();
    let digest = control_api::secrets::hex(&control_api::secrets::sha256(body.as_bytes()));
    let stored: String = api
        .value("select encode(body_sha256, 'hex') from idempotency_keys where key = 'change'")
        .await;
    assert_ne!(stored, digest);
}

#[tokio::test]
async fn users_are_deleted_with_or_without_an_heir() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let path = format!("/admin/users/{}", user.user_id);
    admin
        .delete(&format!("{path}?transfer_to={}", user.user_id))
        .refused("INVALID_PARAMETER")
        .await;
    let heir = format!("{path}?transfer_to={}", admin.user_id);
    let etag = admin.get(&path).send().await.is(200).header("etag").to_owned();
    admin.patch(&path).json(json!({ "name": "Anew" })).expect(200).await;
    let stale = admin.delete(&heir).header("if-match", &etag);
    stale.refused("PRECONDITION_FAILED").await;
    let etag = admin.get(&path).send().await.is(200).header("etag").to_owned();
    admin.delete(&heir).header("if-match", &etag).expect(204).await;
    admin.get(&path).refused("NOT_FOUND").await;
    user.get("/account").refused("UNAUTHORIZED").await;
}

#[tokio::test]
async fn ad_1_the_audit_log_only_grows() {
    let api = Api::start().await;
    let admin = api.admin().await;
    api.user()
        .await
        .post("/api-keys")
        .json(json!({ "name": "k" }))
        .expect(201)
        .await;
    let rows = admin.get("/admin/audit-logs").expect(200).await;
    let id = rows["data"][0]["id"].as_str().unwrap();
    let got = admin.get(&format!("/admin/audit-logs/{id}")).expect(200).await;
    assert_eq!(got["action"], "api_key.created");
    admin
        .delete(&format!("/admin/audit-logs/{id}"))
        .refused("METHOD_NOT_ALLOWED")
        .await;
    for sql in [
        "update audit_log set action = 'x'",
        "delete from audit_log",
        "truncate audit_log",
    ] {
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&api.app.db).await;
        assert!(done.is_err(), "{sql}");
    }
    let foreign = api.user_of(api.tenant("other").await, Role::Admin).await;
    foreign
        .get(&format!("/admin/audit-logs/{id}"))
        .refused("WRONG_TENANT")
        .await;
}

#[tokio::test]
async fn ad_2_newest_first_and_by_prefix() {
    let api = Api::start().await;
    let admin = api.user_of(DEFAULT_TENANT, Role::Admin).await;
    let user = api.user().await;
    for name in ["a", "b", "c"] {
        user.post("/api-keys").json(json!({ "name": name })).expect(201).await;
    }
    let found = admin
        .get("/admin/audit-logs?action=api_key.&limit=2&include_total=true")
        .expect(200)
        .await;
    assert_eq!(
        (found["data"].as_array().unwrap().len(), found["meta"]["total"].as_i64()),
        (2, Some(3))
    );
    assert_eq!(found["data"][0]["metadata"]["name"], "c");
    let cursor = found["meta"]["next_cursor"].as_str().unwrap();
    let rest = admin
        .get(&format!("/admin/audit-logs?action=api_key.&limit=2&cursor={cursor}"))
        .expect(200)
        .await;
    assert_eq!(rest["data"][0]["metadata"]["name"], "a");
    admin.get("/admin/audit-logs?sort=action").refused("INVALID_SORT").await;
    let none = admin.get("/admin/audit-logs?action=api%25").expect(200).await;
    assert_eq!(none["data"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn ad_3_writes_and_logins_are_in_it_with_their_request() {
    let api = Api::start().await;
    let (admin, user) = (api.admin().await, api.user().await);
    let id = "0190163d-8694-739b-8dc8-bd62fb9d5d7d";
    let path = format!("/admin/users/{}", user.user_id);
    admin
        .patch(&path)
        .header("x-request-id", id)
        .header("user-agent", "test/1")
        .json(json!({ "name": "N" }))
        .expect(200)
        .await;
    let row = &admin.get("/admin/audit-logs?action=user.updated").expect(200).await["data"][0];
    assert_eq!(
        (row["request_id"].as_str(), row["user_agent"].as_str()),
        (Some(id), Some("test/1"))
    );
    assert_eq!(
        (row["actor_role"].as_str(), row["resource_id"].as_str()),
        (Some("admin"), Some(user.user_id.to_string().as_str()))
    );
    api.stranger()
        .post("/auth/login")
        .json(json!({ "email": user.email, "password": "wrong" }))
        .refused("INVALID_CREDENTIALS")
        .await;
    api.stranger()
        .post("/auth/login")
        .json(json!({ "email": user.email, "password": PASSWORD }))
        .expect(200)
        .await;
    let actions = api.audit().await;
    assert!(
        actions.ends_with(&["auth.login_failed".to_owned(), "auth.login".to_owned()]),
        "{actions:?}"
    );
}
