//! What tests stand on: a Postgres started once, a database for each test, a client that holds every reply against the table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request};
use control_api::app::{App, Means};
use control_api::auth::Role;
use control_api::billing::payment::PaymentProvider;
use control_api::call::TenantId;
use control_api::config::{Config, Section, Settings};
use control_api::db::users::NewUser;
use control_api::db::{self, DEFAULT_TENANT};
use control_api::license::clear_key::ClearKey;
use control_api::license::{
    Desk, IssueRequest, Issuer, License, LicenseBackend, LicenseError, LicensePolicy, LicenseSystem, LicensedKey,
    Named, Step, Title, TitleError, Titles,
};
use control_api::operation::Operation;
use control_api::outbound::Reply;
use control_api::postgres::{Cluster, Durability};
use control_api::router;
use control_api::secrets::SecretBox;
use control_api::webhook::Sender;
use packager::crypto::vault::TrackClass;
use packager::crypto::{ContentKey, KeyId, ProtectionScheme};
use packager::grant::{GrantKey, GrantKeys};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tower::ServiceExt as _;
use uuid::Uuid;

/// Every test user's password.
pub const PASSWORD: &str = "correct horse";

/// Where everything of this process is; it goes with the cluster.
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("headwater-test-{}", std::process::id()))
}

/// The cluster, started by the first test and stopped when the process has ended.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let folder = folder();
        let cluster = Cluster::start(&folder, "postgres", Durability::None).expect("Postgres for tests");
        // It reads the end of its input when this process has ended, however that came.
        let script = "read -r x; for data in \"$0\"/data; do kill -QUIT $(head -1 \"$data/postmaster.pid\") 2>/dev/null; done; \
                      sleep 1; rm -rf \"$0\"";
        let janitor = Command::new("sh")
            .args(["-c", script])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        std::mem::forget(janitor.expect("sh"));
        cluster
    })
}

async fn admin_connection() -> PgConnection {
    PgConnection::connect_with(&cluster().options().database("postgres"))
        .await
        .expect("connect")
}

/// A new database, copied of one that was migrated once.
async fn new_database() -> PgConnectOptions {
    static TEMPLATE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    TEMPLATE
        .get_or_init(|| async {
            let mut connection = admin_connection().await;
            sqlx::query("create database template_of_tests")
                .execute(&mut connection)
                .await
                .expect("create");
            let pool = db::connect(cluster().options().database("template_of_tests"), 1)
                .await
                .expect("connect");
            db::migrate(&pool).await.expect("migrate");
            pool.close().await;
        })
        .await;
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut connection = admin_connection().await;
    let sql = format!("create database {name} template template_of_tests");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .expect("create");
    cluster().options().database(&name)
}

/// An API on a database of its own.
pub struct Api {
    /// Its state.
    pub app: Arc<App>,
    /// How its database is reached.
    pub options: PgConnectOptions,
    router: Router,
}

/// The settings that tests begin with: limits that are not in the way.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.rate_limits.anonymous_per_minute = 1_000_000;
    settings.rate_limits.user_per_minute = 1_000_000;
    settings.rate_limits.key_per_minute = 1_000_000;
    settings.rate_limits.burst_per_second = 1_000_000;
    settings
}

/// The keys that grants of tests are signed with.
pub fn grant_keys() -> GrantKeys {
    GrantKeys::new(GrantKey::new(b"test", [9; 32]).expect("key"), None).expect("keys")
}

/// Keys of every title.
pub const KEY_ID_HD: [u8; 16] = [0xd1; 16];
/// The key itself.
pub const KEY_HD: [u8; 16] = [0x5a; 16];
/// A key of pictures that are larger.
pub const KEY_ID_UHD: [u8; 16] = [0xd2; 16];

/// Titles that all have the same keys.
struct SameKeys;

impl Titles for SameKeys {
    fn title(&self, _: &str) -> Result<Option<Title>, TitleError> {
        let key = |id, key, track| LicensedKey {
            key_id: KeyId(id),
            key: ContentKey::new(key),
            scheme: ProtectionScheme::Cbcs,
            track,
        };
        Ok(Some(Title {
            tenant: "tests".to_owned(),
            keys: vec![
                key(KEY_ID_HD, KEY_HD, TrackClass::Hd),
                key(KEY_ID_UHD, [0xa5; 16], TrackClass::Uhd2),
            ],
        }))
    }

    fn kept(&self, _: &str) -> Option<Title> {
        None
    }
}

/// A vendor that does what the challenge says.
struct Obedient;

impl LicenseBackend for Obedient {
    fn system(&self) -> LicenseSystem {
        LicenseSystem::Widevine
    }

    fn name(&self) -> &'static str {
        "obedient"
    }

    fn inspect(&self, _: &[u8]) -> Result<Named, LicenseError> {
        Ok(Named::Opaque)
    }

    fn begin(&self, request: &IssueRequest<'_>) -> Result<Step, LicenseError> {
        match request.challenge {
            b"unreadable" => Err(LicenseError::Challenge("not one")),
            b"deny" => Err(LicenseError::Denied),
            b"credentials" => Err(LicenseError::Credentials),
            b"upstream" => Err(LicenseError::Upstream("answered with an error")),
            b"away" => Err(LicenseError::Unavailable),
            challenge => Ok(Step::Issued(License {
                bytes: challenge.to_vec().into(),
                content_type: "application/octet-stream",
            })),
        }
    }

    fn read(&self, _: &IssueRequest<'_>, _: &Reply) -> Result<License, LicenseError> {
        Err(LicenseError::Upstream("was asked nothing"))
    }
}

fn means() -> Means {
    Means {
        grant_keys: Some(grant_keys()),
        desk: Some(desk()),
        ..Means::default()
    }
}

fn desk() -> Desk {
    Desk {
        titles: Arc::new(SameKeys),
        policy: LicensePolicy::default(),
        issuers: vec![
            Issuer::new(Box::new(ClearKey), None),
            Issuer::new(Box::new(Obedient), None),
        ],
    }
}

impl Api {
    /// With the settings of tests.
    pub async fn start() -> Api {
        Api::with(settings()).await
    }

    /// With these settings.
    pub async fn with(settings: Settings) -> Api {
        let section = Section {
            require_https: false,
            settings,
            ..Section::default()
        };
        Api::with_section(section).await
    }

    /// With this section.
    pub async fn with_section(section: Section) -> Api {
        Api::on(new_database().await, section, means()).await
    }

    /// With these settings and payment providers.
    pub async fn with_payments(settings: Settings, payments: Vec<Arc<dyn PaymentProvider>>) -> Api {
        let section = Section {
            require_https: false,
            settings,
            ..Section::default()
        };
        Api::on(new_database().await, section, Means { payments, ..means() }).await
    }

    /// With these settings, and webhooks sent by this.
    pub async fn with_webhooks(settings: Settings, sender: Sender) -> Api {
        let section = Section {
            require_https: false,
            settings,
            ..Section::default()
        };
        let means = Means {
            webhooks: Some(sender),
            ..means()
        };
        Api::on(new_database().await, section, means).await
    }

    /// The same user, signed in anew: tokens end.
    pub async fn again<'b>(&'b self, user: &Client<'_>) -> Client<'b> {
        let mut client = user.at(self);
        client.credentials = Some(self.token_of(DEFAULT_TENANT, user.user_id, Role::User).await);
        client
    }

    /// Another process on the same database.
    pub async fn beside(&self) -> Api {
        Api::on(self.options.clone(), self.app.config.section.clone(), means()).await
    }

    /// Another process on the same database, with other settings.
    pub async fn beside_with(&self, settings: Settings) -> Api {
        let section = Section {
            settings,
            ..self.app.config.section.clone()
        };
        Api::on(self.options.clone(), section, means()).await
    }

    async fn on(options: PgConnectOptions, mut section: Section, means: Means) -> Api {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Those beside have it already.
        if section.data == Section::default().data {
            section.data = folder().join(format!("api-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        }
        let config: Config = section.check().expect("a section");
        let pool = db::connect(options.clone(), 10).await.expect("connect");
        let secrets = SecretBox::new(&[7; 32]).expect("a key");
        let app = App::new(config, pool, secrets, means).await.expect("an app");
        let router = router::router(&app);
        Api { app, options, router }
    }

    /// A stranger.
    pub fn stranger(&self) -> Client<'_> {
        Client {
            api: self,
            credentials: None,
            user_id: Uuid::nil(),
            email: String::new(),
            headers: BTreeMap::new(),
        }
    }

    /// A new tenant.
    pub async fn tenant(&self, slug: &str) -> TenantId {
        let id = Uuid::now_v7();
        let tenant = sqlx::query("insert into tenants (id, slug, name, domains) values ($1, $2, $2, array[$3])");
        let host = format!("{slug}.example");
        tenant
            .bind(id)
            .bind(slug)
            .bind(host)
            .execute(&self.app.db)
            .await
            .expect("tenant");
        TenantId(id)
    }

    /// A new user of a tenant, signed in.
    pub async fn user_of(&self, tenant: TenantId, role: Role) -> Client<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let now = self.app.now();
        static HASH: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
        let hash = HASH
            .get_or_init(|| async { self.app.passwords.hash(PASSWORD).await.expect("hash") })
            .await;
        let user = NewUser {
            id: Uuid::now_v7(),
            name: format!("User {number}"),
            email: format!("user{number}@example.org"),
            password_hash: Some(hash.clone()),
            role,
            email_verified_at: Some(now),
            now,
        };
        let mut connection = self.app.db.acquire().await.expect("connection");
        db::users::insert(&mut connection, tenant, &user).await.expect("user");
        let mut client = self.stranger();
        client.user_id = user.id;
        client.email = user.email.clone();
        client.credentials = Some(self.token_of(tenant, user.id, role).await);
        client
    }

    async fn token_of(&self, tenant: TenantId, user: Uuid, role: Role) -> String {
        let now = self.app.now();
        let session = db::sessions::NewSession {
            id: Uuid::now_v7(),
            user_id: user,
            now,
            user_agent: None,
            ip: "127.0.0.1".to_owned(),
            client_id: None,
            scope: None,
        };
        let mut connection = self.app.db.acquire().await.expect("connection");
        db::sessions::insert(&mut connection, tenant, &session)
            .await
            .expect("session");
        let claims = control_api::token::Claims {
            iss: self.app.config.section.public_url.clone(),
            aud: control_api::token::AUDIENCE.to_owned(),
            sub: user,
            tid: tenant.0,
            role: role.name().to_owned(),
            sid: session.id,
            iat: now.timestamp(),
            exp: now.timestamp() + 3600,
            jti: Uuid::now_v7(),
        };
        self.app
            .token_keys
            .load()
            .current()
            .expect("key")
            .sign(&claims)
            .expect("token")
    }

    /// A new user of the default tenant.
    pub async fn user(&self) -> Client<'_> {
        self.user_of(DEFAULT_TENANT, Role::User).await
    }

    /// A new moderator of the default tenant.
    pub async fn moderator(&self) -> Client<'_> {
        self.user_of(DEFAULT_TENANT, Role::Moderator).await
    }

    /// A new admin of the default tenant.
    pub async fn admin(&self) -> Client<'_> {
        self.user_of(DEFAULT_TENANT, Role::Admin).await
    }

    /// Runs a statement.
    pub async fn sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.app.db)
            .await
            .expect(sql);
        // Whoever writes there by hand tells nobody.
        self.app.caches.clear();
    }

    /// The only value of a query.
    pub async fn value<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.app.db)
            .await
            .expect(sql)
    }

    /// Types of the events that were told, in order.
    pub async fn events(&self) -> Vec<String> {
        sqlx::query_scalar("select event_type from outbox_events order by seq")
            .fetch_all(&self.app.db)
            .await
            .expect("events")
    }

    /// Actions of the audit log, in order.
    pub async fn audit(&self) -> Vec<String> {
        sqlx::query_scalar("select action from audit_log order by id")
            .fetch_all(&self.app.db)
            .await
            .expect("audit")
    }

    /// The token in the mail that was queued last.
    pub async fn mailed(&self) -> String {
        let (id, sealed): (Uuid, Vec<u8>) =
            sqlx::query_as("select id, sealed from mail_queue order by id desc limit 1")
                .fetch_one(&self.app.db)
                .await
                .expect("a mail");
        let plain = self.app.secrets.open(&format!("mail:{id}"), &sealed).expect("sealed");
        String::from_utf8(plain.to_vec()).expect("text")
    }

    /// The token in the mail that is queued as this one, counted from one. Some are queued after their answer.
    pub async fn mail(&self, number: i64) -> String {
        let queued = async {
            while self.value::<i64>("select count(*) from mail_queue").await < number {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let queued = tokio::time::timeout(std::time::Duration::from_secs(30), queued);
        queued.await.unwrap_or_else(|_| panic!("there is no mail {number}"));
        self.mailed().await
    }

    fn operation(&self, method: &Method, path: &str) -> Option<Arc<Operation>> {
        let matches = |operation: &Operation| {
            let (mut wanted, mut found) = (operation.path.split('/'), path.split('/'));
            loop {
                match (wanted.next(), found.next()) {
                    (None, None) => return true,
                    (Some(wanted), Some(found)) if wanted.starts_with('{') || wanted == found => {}
                    _ => return false,
                }
            }
        };
        let mut known: Vec<&Arc<Operation>> = self.app.endpoints.iter().map(|endpoint| &endpoint.operation).collect();
        // Fixed paths win over those with parameters.
        known.sort_by_key(|operation| operation.path.matches('{').count());
        known
            .into_iter()
            .find(|operation| operation.method == *method && matches(operation))
            .cloned()
    }
}

/// Somebody who asks.
#[derive(Clone)]
pub struct Client<'a> {
    api: &'a Api,
    /// A token or key.
    pub credentials: Option<String>,
    /// Who.
    pub user_id: Uuid,
    /// Their e-mail.
    pub email: String,
    headers: BTreeMap<String, String>,
}

impl<'a> Client<'a> {
    /// The same with other credentials.
    pub fn with_credentials(&self, credentials: &str) -> Client<'a> {
        Client {
            credentials: Some(credentials.to_owned()),
            ..self.clone()
        }
    }

    /// The same, sending a header each time.
    pub fn with_header(&self, name: &str, value: &str) -> Client<'a> {
        let mut client = self.clone();
        client.headers.insert(name.to_owned(), value.to_owned());
        client
    }

    /// The same at another process.
    pub fn at<'b>(&self, api: &'b Api) -> Client<'b> {
        Client {
            api,
            credentials: self.credentials.clone(),
            user_id: self.user_id,
            email: self.email.clone(),
            headers: self.headers.clone(),
        }
    }

    /// A header that is sent each time.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Sends a header no more.
    pub fn forget_header(&mut self, name: &str) {
        self.headers.remove(name);
    }

    /// The same, signed in anew.
    pub async fn again(&self) -> Client<'a> {
        self.api.again(self).await
    }

    /// A request.
    pub fn ask(&self, method: Method, path: &str) -> Ask<'a> {
        let path = match path.strip_prefix("//") {
            Some(rest) => format!("/{rest}"),
            None => format!("/api/v1{path}"),
        };
        let mut headers: Vec<(String, String)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(credentials) = &self.credentials {
            headers.push(("authorization".to_owned(), format!("Bearer {credentials}")));
        }
        Ask {
            api: self.api,
            method,
            path,
            headers,
            body: Vec::new(),
            breaks: false,
        }
    }

    /// `GET`
    pub fn get(&self, path: &str) -> Ask<'a> {
        self.ask(Method::GET, path)
    }

    /// `POST`
    pub fn post(&self, path: &str) -> Ask<'a> {
        self.ask(Method::POST, path)
    }

    /// `PUT`
    pub fn put(&self, path: &str) -> Ask<'a> {
        self.ask(Method::PUT, path)
    }

    /// `PATCH`
    pub fn patch(&self, path: &str) -> Ask<'a> {
        self.ask(Method::PATCH, path)
    }

    /// `DELETE`
    pub fn delete(&self, path: &str) -> Ask<'a> {
        self.ask(Method::DELETE, path)
    }
}

/// A request to be sent.
pub struct Ask<'a> {
    api: &'a Api,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    breaks: bool,
}

impl Ask<'_> {
    /// With a JSON body.
    pub fn json(self, body: Value) -> Self {
        self.bytes("application/json", body.to_string().as_bytes())
    }

    /// With a form.
    pub fn form(self, pairs: &[(&str, &str)]) -> Self {
        let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let body: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        self.bytes("application/x-www-form-urlencoded", body.join("&").as_bytes())
    }

    /// With a body.
    pub fn bytes(mut self, media_type: &str, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("content-type", media_type)
    }

    /// The connection breaks after the body.
    pub fn breaking(mut self) -> Self {
        self.breaks = true;
        self
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends it. The reply must be one that the table of operations knows.
    pub async fn send(self) -> Got {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = match self.breaks {
            false => Body::from(self.body),
            true => {
                let broken = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                let mut parts = vec![Ok(bytes::Bytes::from(self.body)), broken].into_iter();
                Body::from_stream(futures_util::stream::poll_fn(move |_| {
                    std::task::Poll::Ready(parts.next())
                }))
            }
        };
        let request = request.body(body).expect("a request");
        let response = self.api.router.clone().oneshot(request).await.expect("a reply");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 16 << 20).await.expect("a body").to_vec();
        let got = Got {
            what: format!("{} {}", self.method, self.path),
            status: parts.status.as_u16(),
            headers: parts.headers,
            bytes,
        };
        let path = self.path.split('?').next().unwrap_or_default();
        if let Some(operation) = self.api.operation(&self.method, path) {
            got.hold_against(&operation);
        }
        got
    }

    /// Sends it and expects this status; the body.
    pub async fn expect(self, status: u16) -> Value {
        self.send().await.is(status).json()
    }

    /// Sends it and expects this error.
    pub async fn refused(self, code: &str) -> Value {
        let got = self.send().await;
        let body = got.json();
        assert_eq!(body["code"], json!(code), "{} answered {} {body}", got.what, got.status);
        body
    }
}

/// A reply.
#[derive(Debug)]
pub struct Got {
    what: String,
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub bytes: Vec<u8>,
}

impl Got {
    /// Expects a status.
    pub fn is(self, status: u16) -> Got {
        assert_eq!(
            self.status,
            status,
            "{}: {}",
            self.what,
            String::from_utf8_lossy(&self.bytes)
        );
        self
    }

    /// The body as JSON; null without one.
    pub fn json(&self) -> Value {
        match self.bytes.is_empty() {
            true => Value::Null,
            false => {
                serde_json::from_slice(&self.bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&self.bytes)))
            }
        }
    }

    /// A header; empty without one.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    fn hold_against(&self, operation: &Operation) {
        let Got { what, status, .. } = self;
        assert!(
            operation.has_status(*status),
            "{what}: {} does not document {status}: {}",
            operation.id,
            self.json()
        );
        assert!(!self.header("x-request-id").is_empty(), "{what} has no request id");
        let body = self.json();
        let documented = operation.replies.iter().find(|(known, _)| known == status);
        if operation.media_type.is_none()
            && let Some((_, Some(schema))) = documented
        {
            let wrong = schema.check(&body);
            assert!(
                wrong.is_empty(),
                "{what}: {} answers what it does not document: {wrong:?} in {body}",
                operation.id
            );
        // Refusals of HEAD have no body to hold against anything.
        } else if *status >= 400 && documented.is_none() && !what.starts_with("HEAD ") {
            let code = body["code"]
                .as_str()
                .unwrap_or_else(|| panic!("{what}: an error without a code: {body}"));
            let code = control_api::error::Code::from_name(code).unwrap_or_else(|| panic!("{what}: unknown {code}"));
            assert_eq!(code.status(), *status, "{what}: {code:?} has another status");
            let known = operation.errors.contains(&code) || control_api::error::Code::STANDARD.contains(&code);
            assert!(known, "{what}: {} does not document {code:?}", operation.id);
        }
    }
}
