//! Devices: what an account plays on (DV).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::call::Call;
use crate::db::devices::{self, Device};
use crate::db::{self, profiles, streams};
use crate::error::{ApiError, Code};
use crate::operation::{Answer, Caller, Endpoint, delete, get, patch, post};
use crate::reply::Reply;
use crate::schema::{Format, Schema, date_time, formatted, integer, list, object, optional, required, text, uuid};
use crate::work::Work;

const TYPES: &[&str] = &["smart_tv", "mobile", "tablet", "desktop", "console", "stb", "other"];

/// Its operations.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        get("devices.list", "/devices", Caller::Any, list_all)
            .summary("All devices of the account, and how many it may have")
            .reply(
                200,
                object([
                    required("data", list(schema())),
                    required("limit", integer(0, i64::MAX)),
                ]),
            )
            .rules("DV-5"),
        post("devices.create", "/devices", Caller::Any, create)
            .summary("Register a device; a known one is returned")
            .json(object([
                required("name", text(1, 100)),
                required("device_type", Schema::Enum(TYPES)),
                optional("platform", text(0, 100)),
                optional("os_version", text(0, 50)),
                optional("app_version", text(0, 50)),
                required("fingerprint", formatted(Format::Secret, 1, 512)),
            ]))
            .reply(201, schema())
            .reply(200, schema())
            .errors(&[Code::DeviceLimitReached, Code::RawDeviceIdentifier])
            .idempotent()
            .rules("DV-1, DV-2, DV-3"),
        get("devices.get", "/devices/{device_id}", Caller::Any, one)
            .summary("A device")
            .reply(200, schema())
            .etag(),
        patch("devices.update", "/devices/{device_id}", Caller::Any, rename)
            .summary("Rename a device")
            .json(object(
                schema()
                    .besides(&["name"])
                    .into_iter()
                    .chain([required("name", text(1, 100))]),
            ))
            .reply(200, schema()),
        delete("devices.delete", "/devices/{device_id}", Caller::Any, remove)
            .summary("Remove a device and end what plays on it")
            .empty(204)
            .rules("DV-4"),
    ]
}

fn schema() -> Schema {
    object([
        required("id", uuid()),
        required("name", text(1, 100)),
        required("device_type", Schema::Enum(TYPES)),
        required("platform", text(0, 100).or_null()),
        required("os_version", text(0, 50).or_null()),
        required("app_version", text(0, 50).or_null()),
        required("is_trusted", Schema::Bool),
        required("last_active_at", date_time().or_null()),
        required("created_at", date_time()),
        required("updated_at", date_time()),
    ])
    .named("Device")
}

async fn list_all(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let mut connection = app.db.acquire().await?;
    let limits = profiles::limits(&mut connection, user, &app.settings().default_limits).await?;
    let rows = devices::list(&mut connection, call.tenant, user).await?;
    Reply::json(200, &json!({ "data": rows, "limit": limits.max_devices }))
}

#[derive(Deserialize)]
struct NewDevice {
    name: String,
    device_type: String,
    platform: Option<String>,
    os_version: Option<String>,
    app_version: Option<String>,
    fingerprint: String,
}

/// The bytes of a SHA-256 as clients write it: 64 hexadecimal digits, or 43 or 44 characters of base64.
fn digest(text: &str) -> Option<Vec<u8>> {
    if let Some(bytes) = crate::secrets::unhex::<32>(text) {
        return Some(bytes.to_vec());
    }
    let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
    let decoded = engines.iter().find_map(|engine| engine.decode(text).ok());
    decoded.filter(|bytes| bytes.len() == 32)
}

async fn create(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let wanted: NewDevice = call.body()?;
    let digest = digest(&wanted.fingerprint).ok_or(Code::RawDeviceIdentifier)?;
    let fingerprint = app.secrets.keyed_hash(&format!("device:{}", call.tenant.0), &digest);
    let mut work = Work::begin(&app, &call).await?;
    profiles::lock_account(work.connection(), user).await?;
    let known = devices::by_fingerprint(work.connection(), call.tenant, user, &fingerprint).await?;
    if let Some(device) = known {
        let reply = Reply::json(200, &device)?.version(device.row_version, None)?;
        return work.finish(reply).await;
    }
    let limits = profiles::limits(work.connection(), user, &app.settings().default_limits).await?;
    if devices::count(work.connection(), user).await? >= i64::from(limits.max_devices) {
        return Err(Code::DeviceLimitReached.into());
    }
    let device = Device {
        id: Uuid::now_v7(),
        name: wanted.name,
        device_type: wanted.device_type,
        platform: wanted.platform,
        os_version: wanted.os_version,
        app_version: wanted.app_version,
        is_trusted: false,
        last_active_at: Some(call.now),
        created_at: call.now,
        updated_at: call.now,
        row_version: 1,
    };
    devices::insert(work.connection(), call.tenant, user, &device, &fingerprint).await?;
    work.emit(
        "device.registered",
        Some(user),
        json!({ "id": device.id, "user_id": user, "device": device }),
    )
    .await?;
    work.audit(
        "device.registered",
        "device",
        Some(device.id),
        json!({ "name": device.name }),
    )
    .await?;
    let reply = Reply::created(&format!("/api/v1/devices/{}", device.id), &device)?.version(1, None)?;
    work.finish(reply).await
}

async fn find(connection: &mut sqlx::PgConnection, call: &Call) -> Result<Device, ApiError> {
    let id = call.path_id("device_id")?;
    match devices::get(connection, call.tenant, call.user_id()?, id).await? {
        Some(device) => Ok(device),
        None => Err(db::missing(connection, "devices", id, call).await),
    }
}

async fn one(app: Arc<App>, call: Call) -> Answer {
    let mut connection = app.db.acquire().await?;
    let device = find(&mut connection, &call).await?;
    Reply::json(200, &device)?.version(device.row_version, None)
}

async fn rename(app: Arc<App>, call: Call) -> Answer {
    let mut work = Work::begin(&app, &call).await?;
    let device = find(work.connection(), &call).await?;
    let members = call.members();
    let name = members
        .get("name")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    devices::rename(work.connection(), call.tenant, device.id, name).await?;
    let device = find(work.connection(), &call).await?;
    let reply = Reply::json(200, &device)?.version(device.row_version, None)?;
    work.finish(reply).await
}

async fn remove(app: Arc<App>, call: Call) -> Answer {
    let user = call.user_id()?;
    let mut work = Work::begin(&app, &call).await?;
    let device = find(work.connection(), &call).await?;
    devices::remove(work.connection(), call.tenant, device.id, call.now).await?;
    let live = streams::of_device(work.connection(), device.id).await?;
    work.end_streams(&live, "device_removed").await?;
    work.invalidate("device", device.id, device.row_version + 1).await?;
    work.emit(
        "device.removed",
        Some(user),
        json!({ "id": device.id, "user_id": user }),
    )
    .await?;
    work.audit("device.removed", "device", Some(device.id), json!({}))
        .await?;
    work.finish(Reply::empty(204)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dv_2_digests_alone_are_taken() {
        let hex = "ab".repeat(32);
        let bytes = vec![0xab; 32];
        for text in [hex.clone(), STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            assert_eq!(digest(&text), Some(bytes.clone()), "{text}");
        }
        let raw = [
            "356938035643809",
            "00:1B:44:11:3A:B7",
            "001B44113AB7",
            "C02XL0GYJGH6",
            "",
            &hex[1..],
            &STANDARD.encode([1; 31]),
        ];
        for text in raw {
            assert_eq!(digest(text), None, "{text}");
        }
    }
}
