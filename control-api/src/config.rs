//! The `[control]` section: what it says, and what it is once it was checked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// `[control]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// One address and port.
    pub listen: String,
    /// Address and port of `/metrics`, apart from the API; none serves it nowhere.
    pub metrics_listen: Option<String>,
    /// Folder for the embedded database, uploads and keys.
    pub data: PathBuf,
    /// Who the embedded database runs as when headwater runs as root.
    pub database_user: String,
    /// Connections to the database.
    pub database_connection_count_max: u32,
    /// How clients reach the API; the issuer of its tokens.
    pub public_url: String,
    /// Where the origin is reached; before `/vod/…`.
    pub delivery_url: String,
    /// File of the keys that grants are signed with, as the origin has it.
    pub grant_keys: Option<PathBuf>,
    /// File that ended sessions are written to, as the origin reads it.
    pub revoked: Option<PathBuf>,
    /// File of the key that secrets in the database are encrypted under; made where it is missing.
    pub secret_key: Option<PathBuf>,
    /// Who takes the money, where somebody of Stripe's shape does.
    pub stripe: Option<StripeSection>,
    /// Whether requests over plain HTTP are refused.
    pub require_https: bool,
    /// Addresses whose `X-Forwarded-For`, `X-Forwarded-Proto` and country headers are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Connections at once; more wait in the kernel's queue.
    pub connection_count_max: usize,
    /// Connections of one client (IPv4 address or IPv6 /64) that is no trusted proxy at once; 0 for no limit.
    pub connections_per_client_max: u32,
    /// A connection whose first request head is not there after so long is closed.
    pub header_timeout_s: u64,
    /// A connection whose next request head is not there so long after an answer is closed.
    pub keep_alive_timeout_s: u64,
    /// After a stop signal, running answers have this long to end.
    pub drain_timeout_s: u64,
    /// Memory for one password; the floor is 19456 KiB.
    pub password_memory_kib: u32,
    /// Passwords hashed at once.
    pub password_count_max: usize,
    /// What administrators may change later, as it is until then.
    pub settings: Settings,
}

impl Default for Section {
    fn default() -> Section {
        Section {
            listen: "127.0.0.1:8090".to_owned(),
            metrics_listen: None,
            data: PathBuf::from("headwater-data"),
            database_user: "postgres".to_owned(),
            database_connection_count_max: 20,
            public_url: "http://127.0.0.1:8090".to_owned(),
            delivery_url: "http://127.0.0.1:8080".to_owned(),
            grant_keys: None,
            revoked: None,
            secret_key: None,
            stripe: None,
            require_https: true,
            trusted_proxies: Vec::new(),
            connection_count_max: 10_000,
            connections_per_client_max: 1_000,
            header_timeout_s: 10,
            keep_alive_timeout_s: 75,
            drain_timeout_s: 30,
            password_memory_kib: 19_456,
            password_count_max: 2,
            settings: Settings::default(),
        }
    }
}

/// `[control.stripe]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StripeSection {
    /// Where it is.
    #[serde(default = "stripe_url")]
    pub url: String,
    /// Whether it may be in a private network.
    #[serde(default)]
    pub private_network: bool,
    /// File with its secrets (TOML, mode 0600).
    pub secrets: PathBuf,
}

fn stripe_url() -> String {
    "https://api.stripe.com".to_owned()
}

/// A `[control]` section that can not be served with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not an address.
    #[error("control.{0}: \"{1}\" is not ADDRESS:PORT")]
    Address(&'static str, String),
    /// Out of its bounds.
    #[error("control.{0}: must be {1}")]
    Bounds(&'static str, &'static str),
}

/// `[control]`, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where `/metrics` is.
    pub metrics_listen: Option<SocketAddr>,
    /// The section.
    pub section: Section,
}

impl Section {
    /// Checks every value, and how they go together.
    pub fn check(self) -> Result<Config, ConfigError> {
        let address = |name, text: &str| text.parse().map_err(|_| ConfigError::Address(name, text.to_owned()));
        let listen = address("listen", &self.listen)?;
        let metrics_listen = self
            .metrics_listen
            .as_deref()
            .map(|text| address("metrics_listen", text))
            .transpose()?;
        let bound = |holds: bool, name, what| match holds {
            true => Ok(()),
            false => Err(ConfigError::Bounds(name, what)),
        };
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        bound(is_url(&self.public_url), "public_url", "an http or https URL")?;
        bound(is_url(&self.delivery_url), "delivery_url", "an http or https URL")?;
        bound(
            self.password_memory_kib >= 19_456,
            "password_memory_kib",
            "at least 19456",
        )?;
        bound(
            (1..=64).contains(&self.password_count_max),
            "password_count_max",
            "1 to 64",
        )?;
        bound(
            (2..=1000).contains(&self.database_connection_count_max),
            "database_connection_count_max",
            "2 to 1000",
        )?;
        bound(
            (1..=1_000_000).contains(&self.connection_count_max),
            "connection_count_max",
            "1 to 1000000",
        )?;
        bound(
            (1..=120).contains(&self.header_timeout_s),
            "header_timeout_s",
            "1 to 120",
        )?;
        bound(
            (1..=3_600).contains(&self.keep_alive_timeout_s),
            "keep_alive_timeout_s",
            "1 to 3600",
        )?;
        let ttl = self.settings.delivery.url_ttl_seconds;
        bound(
            (120..=14_400).contains(&ttl),
            "settings.delivery.url_ttl_seconds",
            "120 to 14400",
        )?;
        let access = self.settings.auth.access_ttl_seconds;
        bound(
            (60..=86_400).contains(&access),
            "settings.auth.access_ttl_seconds",
            "60 to 86400",
        )?;
        let days = self.settings.auth.refresh_ttl_days;
        bound((1..=90).contains(&days), "settings.auth.refresh_ttl_days", "1 to 90")?;
        Ok(Config {
            listen,
            metrics_listen,
            section: self,
        })
    }
}

macro_rules! group {
    ($(#[doc = $what:literal] $name:ident { $($(#[doc = $field_what:literal])+ $field:ident: $kind:ty = $default:expr,)* })*) => {
        $(
            #[doc = $what]
            #[derive(Clone, Debug, Serialize, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub struct $name { $($(#[doc = $field_what])+ pub $field: $kind,)* }

            impl Default for $name {
                fn default() -> $name {
                    $name { $($field: $default,)* }
                }
            }
        )*
    };
}

group! {
    /// What administrators may change.
    Settings {
        /// The site.
        site: Site = Site::default(),
        /// New accounts.
        registration: Registration = Registration::default(),
        /// Signing in.
        auth: AuthSettings = AuthSettings::default(),
        /// The catalogue.
        catalogue: CatalogueSettings = CatalogueSettings::default(),
        /// Who may watch.
        entitlement: EntitlementSettings = EntitlementSettings::default(),
        /// Limits of accounts without a plan.
        default_limits: DefaultLimits = DefaultLimits::default(),
        /// Money.
        billing: BillingSettings = BillingSettings::default(),
        /// Countries.
        geo: GeoSettings = GeoSettings::default(),
        /// The library.
        media: MediaSettings = MediaSettings::default(),
        /// Encoding.
        transcode: TranscodeSettings = TranscodeSettings::default(),
        /// Licences.
        drm: DrmSettings = DrmSettings::default(),
        /// Media delivery.
        delivery: DeliverySettings = DeliverySettings::default(),
        /// Requests a minute.
        rate_limits: RateLimits = RateLimits::default(),
        /// Other sites' pages.
        cors: CorsSettings = CorsSettings::default(),
        /// Whether the API is closed for work.
        maintenance: Maintenance = Maintenance::default(),
        /// What apps are told.
        apps: AppsSettings = AppsSettings::default(),
        /// The API itself.
        api: ApiSettings = ApiSettings::default(),
    }

    /// `site`
    Site {
        /// Its name.
        name: String = "headwater".to_owned(),
    }

    /// `registration`
    Registration {
        /// Whether people may make accounts themselves.
        enabled: bool = true,
        /// Whether signing in needs a verified e-mail.
        require_verified_email: bool = false,
    }

    /// `auth`
    AuthSettings {
        /// Life of access tokens.
        access_ttl_seconds: i64 = 3_600,
        /// Life of refresh tokens.
        refresh_ttl_days: i64 = 7,
        /// Where people sign in, if not here.
        login_url: Option<String> = None,
        /// Who may ask for sign-ins by OAuth.
        oauth_clients: Vec<OauthClient> = Vec::new(),
        /// Whose tokens are taken, too.
        trusted_issuers: Vec<TrustedIssuer> = Vec::new(),
    }

    /// An OAuth client. It keeps no secret.
    OauthClient {
        /// `client_id`
        client_id: String = String::new(),
        /// For people.
        name: String = String::new(),
        /// Where codes may be sent, exactly.
        redirect_uris: Vec<String> = Vec::new(),
    }

    /// An issuer of tokens that are taken as well as our own.
    TrustedIssuer {
        /// `iss`
        issuer: String = String::new(),
        /// `aud`
        audience: String = String::new(),
        /// Where its keys are.
        jwks_url: String = String::new(),
        /// Whether that may be in a private network.
        private_network: bool = false,
        /// Whether people unknown here get an account.
        provision: bool = false,
        /// Claim that holds roles. Without one they are users, whatever their record says.
        role_claim: Option<String> = None,
        /// Values of it that mean roles here.
        roles: BTreeMap<String, String> = BTreeMap::new(),
    }

    /// `catalogue`
    CatalogueSettings {
        /// Whether strangers may read it.
        public_read: bool = false,
    }

    /// `entitlement`
    EntitlementSettings {
        /// `subscription`, or `open`: everybody may watch everything.
        mode: EntitlementMode = EntitlementMode::Subscription,
    }

    /// `default_limits`
    DefaultLimits {
        /// Devices.
        max_devices: i32 = 5,
        /// Profiles.
        max_profiles: i32 = 5,
        /// Streams at once.
        max_concurrent_streams: i32 = 2,
    }

    /// `billing`
    BillingSettings {
        /// Who takes the money.
        provider: String = "manual".to_owned(),
        /// Least tier of plans that cover premium titles.
        premium_tier: i32 = 2,
        /// Days that an unpaid subscription still covers.
        grace_days: i64 = 3,
    }

    /// `geo`
    GeoSettings {
        /// Header in which a trusted proxy tells the country.
        country_header: Option<String> = None,
        /// Whether an unknown country counts as blocked.
        unknown_blocked: bool = true,
    }

    /// `media`
    MediaSettings {
        /// Whether assets are published once they are ready.
        auto_publish: bool = true,
        /// Delivery policy of new assets.
        default_delivery_policy: String = "cookie".to_owned(),
        /// Largest single-request upload by token.
        upload_max_bytes_panel: u64 = 104_857_600,
        /// Largest upload by key; none is unlimited.
        upload_max_bytes_api: Option<u64> = None,
    }

    /// `transcode`
    TranscodeSettings {
        /// Steps of the ladder that are made.
        enabled_profiles: Vec<String> = ["8K", "4K", "1080p", "720p", "480p", "360p"].map(str::to_owned).to_vec(),
    }

    /// `drm`
    DrmSettings {
        /// Whether Clear Key licences are given.
        allow_clearkey: bool = false,
        /// Life of licences whose title says nothing.
        license_duration_seconds: i64 = 86_400,
    }

    /// `delivery`
    DeliverySettings {
        /// Life of signed URLs, 120 to 14400.
        url_ttl_seconds: i64 = 600,
        /// Name of the media cookie.
        cookie_name: String = "media_token".to_owned(),
        /// Life of the media cookie.
        cookie_ttl_seconds: i64 = 21_600,
    }

    /// `rate_limits`
    RateLimits {
        /// Strangers, by address.
        anonymous_per_minute: u32 = 60,
        /// Users, by token.
        user_per_minute: u32 = 1_000,
        /// API keys of owners without a plan.
        key_per_minute: u32 = 5_000,
        /// Everybody known, in one second.
        burst_per_second: u32 = 30,
    }

    /// `cors`
    CorsSettings {
        /// Origins, exactly.
        allowed_origins: Vec<String> = Vec::new(),
    }

    /// `maintenance`
    Maintenance {
        /// Whether only admins are served.
        active: bool = false,
        /// For people.
        message: Option<String> = None,
        /// When it begins.
        starts_at: Option<DateTime<Utc>> = None,
        /// When it ends.
        ends_at: Option<DateTime<Utc>> = None,
    }

    /// `apps`
    AppsSettings {
        /// Oldest app that works, by platform.
        minimum_app_version: BTreeMap<String, String> = BTreeMap::new(),
        /// Switches of apps.
        feature_flags: BTreeMap<String, bool> = BTreeMap::new(),
        /// Languages that apps may offer.
        supported_locales: Vec<String> = vec!["en".to_owned()],
    }

    /// `api`
    ApiSettings {
        /// Whether changes must say what they change (`If-Match`).
        require_if_match: bool = false,
    }
}

/// Who may watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntitlementMode {
    /// Who has a subscription that covers the title.
    Subscription,
    /// Everybody.
    Open,
}
