//! The OpenAPI 3.1 document, and a page of it for people, both made of the table of operations.

use serde_json::{Map, Value, json};

use crate::app::API_VERSION;
use crate::error::Code;
use crate::operation::{Caller, Endpoint, Operation, Payload, Place};
use crate::schema::Schema;

/// The document.
pub fn document(endpoints: &[Endpoint], server: &str) -> Value {
    let mut named = Map::new();
    named.insert("Error".to_owned(), error_schema());
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let operation = &endpoint.operation;
        let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = describe(operation, &mut named);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "headwater control API", "version": API_VERSION, "license": { "name": "Apache-2.0" },
            "description": "Accounts, catalogue, uploads, entitlements, playback sessions and licences.",
        },
        "servers": [{ "url": server }],
        "paths": paths,
        "components": {
            "schemas": named,
            "securitySchemes": { "bearer": {
                "type": "http", "scheme": "bearer", "description": "An access token, or an API key (ak_…).",
            } },
        },
    })
}

fn error_schema() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    json!({
        "type": "object", "required": ["code", "message", "request_id"],
        "properties": {
            "code": { "type": "string", "enum": codes },
            "message": { "type": "string" },
            "request_id": { "type": "string", "format": "uuid" },
            "details": { "type": "array", "items": {
                "type": "object", "required": ["field", "message"],
                "properties": { "field": { "type": "string" }, "message": { "type": "string" } },
            } },
        },
    })
}

fn describe(operation: &Operation, named: &mut Map<String, Value>) -> Value {
    let area = operation.id.rsplit_once('.').map_or(operation.id, |(area, _)| area);
    let mut json = json!({
        "operationId": operation.id, "tags": [area], "summary": operation.summary,
        "parameters": parameters(operation, named), "responses": responses(operation, named),
        "security": security(operation.caller),
    });
    if !operation.rules.is_empty() {
        json["description"] = json!(format!("Rules: {}.", operation.rules));
    }
    let (media_type, schema, required) = match &operation.payload {
        Payload::None => return json,
        Payload::Json(schema) => ("application/json", schema.to_json(named), true),
        Payload::OptionalJson(schema) => ("application/json", schema.to_json(named), false),
        Payload::Form(schema) => ("application/x-www-form-urlencoded", schema.to_json(named), true),
        Payload::Bytes(_) | Payload::Stream => ("application/octet-stream", json!({}), true),
    };
    json["requestBody"] = json!({ "required": required, "content": { media_type: { "schema": schema } } });
    json
}

fn security(caller: Caller) -> Value {
    match caller {
        Caller::Public | Caller::Signed => json!([]),
        Caller::Catalogue => json!([{ "bearer": [] }, {}]),
        _ => json!([{ "bearer": [] }]),
    }
}

fn parameters(operation: &Operation, named: &mut Map<String, Value>) -> Vec<Value> {
    let mut rows: Vec<Value> = operation
        .path_names()
        .map(|name| {
            let schema = match name.ends_with("_id") {
                true => crate::schema::uuid(),
                false => crate::schema::text(1, 255),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema.to_json(named) })
        })
        .collect();
    for parameter in &operation.parameters {
        let place = match parameter.place {
            Place::Query => "query",
            Place::Header => "header",
            Place::Path => "path",
        };
        rows.push(json!({
            "name": parameter.name, "in": place, "required": parameter.required,
            "schema": parameter.schema.to_json(named),
        }));
    }
    let mut header = |name: &str, what: &str| {
        rows.push(json!({
            "name": name, "in": "header", "required": false, "description": what, "schema": { "type": "string" },
        }));
    };
    if operation.idempotent {
        header(
            "Idempotency-Key",
            "1 to 255 characters; the reply is kept for 24 hours.",
        );
    }
    if operation.if_match {
        header("If-Match", "ETag of the version that is to be changed.");
    }
    if operation.etag {
        header("If-None-Match", "ETag of what the caller has already.");
    }
    rows
}

fn responses(operation: &Operation, named: &mut Map<String, Value>) -> Value {
    let mut responses = Map::new();
    for (status, schema) in &operation.replies {
        let mut json = json!({ "description": "Done." });
        if let Some(schema) = schema {
            let media_type = operation.media_type.unwrap_or("application/json");
            json["content"] = json!({ media_type: { "schema": schema.to_json(named) } });
        }
        responses.insert(status.to_string(), json);
    }
    if operation.etag {
        responses.insert("304".to_owned(), json!({ "description": "The caller has it already." }));
    }
    let mut codes: Vec<Code> = operation.errors.iter().chain(Code::STANDARD).copied().collect();
    codes.sort_unstable();
    codes.dedup();
    for code in codes {
        let status = code.status().to_string();
        let row = responses.entry(status).or_insert_with(|| {
            json!({
                "description": "", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            })
        });
        let known = row["description"].as_str().unwrap_or_default();
        let gap = if known.is_empty() { "" } else { ", " };
        row["description"] = json!(format!("{known}{gap}{}", code.name()));
    }
    Value::Object(responses)
}

/// The document as a page for people.
pub fn page(endpoints: &[Endpoint]) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><title>headwater control API</title>\
         <meta name=viewport content=\"width=device-width\"><style>\
         body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
         details{border-bottom:1px solid #ccc;padding:.3rem 0}summary{cursor:pointer}\
         code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto;background:#f4f4f4;padding:.6rem}\
         b{display:inline-block;min-width:4.5rem}</style><h1>headwater control API</h1>\
         <p>The same as a document: <a href=/api/v1/openapi.json>openapi.json</a> (OpenAPI 3.1).</p>",
    );
    let mut area = "";
    for endpoint in endpoints {
        let operation = &endpoint.operation;
        let here = operation.id.rsplit_once('.').map_or(operation.id, |(area, _)| area);
        if here != area {
            area = here;
            html += &format!("<h2>{}</h2>", escape(area));
        }
        html += &format!(
            "<details id=\"{}\"><summary><b>{}</b> <code>{}</code> {}</summary>",
            escape(operation.id),
            operation.method,
            escape(&operation.path),
            escape(operation.summary)
        );
        let mut named = Map::new();
        html += &format!("<p>Who: {:?}. {}</p>", operation.caller, escape(operation.rules));
        if let Payload::Json(schema) | Payload::OptionalJson(schema) | Payload::Form(schema) = &operation.payload {
            html += &format!("<p>Takes</p><pre>{}</pre>", outline(schema, &mut named));
        }
        for parameter in &operation.parameters {
            html += &format!("<p><code>{}</code> ({:?})</p>", escape(parameter.name), parameter.place);
        }
        for (status, schema) in &operation.replies {
            let body = schema.as_ref().map(|schema| outline(schema, &mut named));
            html += &format!("<p>{status}</p>");
            html += &body.map_or(String::new(), |body| format!("<pre>{body}</pre>"));
        }
        let codes: Vec<String> = operation
            .errors
            .iter()
            .map(|code| format!("{} {}", code.status(), code.name()))
            .collect();
        html += &format!("<p>{}</p></details>", codes.join(", "));
    }
    html
}

fn outline(schema: &Schema, named: &mut Map<String, Value>) -> String {
    let json = match schema {
        Schema::Named(_, inner) => inner.to_json(named),
        other => other.to_json(named),
    };
    escape(&serde_json::to_string_pretty(&json).unwrap_or_default())
}

/// Text that is safe inside HTML, also within double quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}
