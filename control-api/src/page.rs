//! Pages of lists: what the query asks for, cursors, and how a page is answered.

use axum::http::header::LINK;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, NaiveDate};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{ApiError, Code};
use crate::operation::Answer;
use crate::pipeline::escape_query;
use crate::reply::Reply;

/// Rows a page unless asked otherwise.
const LIMIT_DEFAULT: i64 = 20;

/// A name to sort by.
#[derive(Clone, Copy, Debug)]
pub struct SortField {
    /// As in the query.
    pub name: &'static str,
    /// What it is in SQL, never null.
    pub sql: &'static str,
    /// The SQL type that its text is read back as.
    pub kind: &'static str,
}

/// What a list can be sorted by.
#[derive(Clone, Copy, Debug)]
pub struct PageQuery {
    /// Names of the query's `sort`.
    pub sorts: &'static [SortField],
    /// Other names for some of them.
    pub aliases: &'static [(&'static str, &'static str)],
    /// The order unless asked otherwise, as in the query. Its field must be among `sorts`.
    pub default: &'static str,
}

/// Newest first, by `created_at` of the table called `t`.
pub const NEWEST: PageQuery = PageQuery {
    sorts: &[CREATED],
    aliases: &[],
    default: "-created_at",
};

/// `created_at` of the table called `t`.
pub const CREATED: SortField = SortField {
    name: "created_at",
    sql: "t.created_at",
    kind: "timestamptz",
};

/// What page is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Rows wanted.
    pub limit: i64,
    /// What the rows are sorted by.
    pub sort: SortField,
    /// Greatest first.
    pub descending: bool,
    /// The row after which the page begins: its sort key as text, and its id.
    pub after: Option<(String, Uuid)>,
    /// Rows to leave out, where pages are numbered.
    pub offset: Option<i64>,
    /// Whether all rows are to be counted.
    pub include_total: bool,
    /// What a cursor is bound to.
    scope: [u8; 8],
    /// All else that was asked for, as it stands in the links to other pages.
    rest: String,
}

impl PageQuery {
    /// Reads `limit`, `cursor`, `offset`, `include_total` and `sort`. A cursor holds for one `scope` and sort.
    pub fn read(&self, query: &Map<String, Value>, scope: &str) -> Result<PageRequest, ApiError> {
        let text = |name: &str| query.get(name).and_then(Value::as_str);
        let wanted = text("sort").unwrap_or(self.default);
        let wanted = self
            .aliases
            .iter()
            .find(|(alias, _)| *alias == wanted)
            .map_or(wanted, |(_, sort)| *sort);
        let (name, descending) = match wanted.strip_prefix('-') {
            Some(name) => (name, true),
            None => (wanted, false),
        };
        let known = self.sorts.iter().find(|field| field.name == name);
        let sort =
            *known.ok_or_else(|| ApiError::with(Code::InvalidSort, format!("\"{name}\" is no field to sort by")))?;
        let offset = query.get("offset").and_then(Value::as_i64);
        let cursor = text("cursor");
        if offset.is_some() && cursor.is_some() {
            return Err(ApiError::parameter("offset", "excludes cursor"));
        }
        let scope = binding(&format!("{scope}\n{wanted}"));
        let after = cursor.map(|cursor| read_cursor(cursor, scope)).transpose()?;
        if after.as_ref().is_some_and(|(key, _)| !is_kind(sort.kind, key)) {
            return Err(Code::InvalidCursor.into());
        }
        Ok(PageRequest {
            limit: query.get("limit").and_then(Value::as_i64).unwrap_or(LIMIT_DEFAULT),
            sort,
            descending,
            after,
            offset,
            include_total: query.get("include_total").and_then(Value::as_bool).unwrap_or(false),
            scope,
            rest: rest(query),
        })
    }
}

impl PageRequest {
    /// Adds the condition, the order and the limit to a query over rows of the table called `t`. One row more than wanted
    /// is read, which tells whether there are more.
    pub fn push(&self, query: &mut sqlx::QueryBuilder<sqlx::Postgres>) {
        let (sql, kind) = (self.sort.sql, self.sort.kind);
        if let Some((key, id)) = &self.after {
            let sign = if self.descending { '<' } else { '>' };
            query.push(format!(" and ({sql}, t.id) {sign} ("));
            query.push_bind(key.clone()).push(format!("::text::{kind}, "));
            query.push_bind(*id).push(")");
        }
        let way = if self.descending { "desc" } else { "asc" };
        query.push(format!(" order by {sql} {way}, t.id {way} limit "));
        query.push_bind(self.limit + 1);
        if let Some(offset) = self.offset {
            query.push(" offset ").push_bind(offset);
        }
    }

    /// What a row's key is selected as.
    pub fn key_sql(&self) -> String {
        format!("({})::text as sort_key", self.sort.sql)
    }

    /// The page as a reply: `rows` as they were read, each with its sort key and id.
    pub fn answer<T: Serialize>(&self, mut rows: Vec<(T, String, Uuid)>, total: Option<i64>, target: &str) -> Answer {
        let limit = usize::try_from(self.limit).unwrap_or(1);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last() {
            Some((_, key, id)) if has_more => Some(write_cursor(key, *id, self.scope)),
            _ => None,
        };
        let data: Vec<&T> = rows.iter().map(|(row, _, _)| row).collect();
        let mut meta = json!({ "next_cursor": next, "has_more": has_more, "limit": self.limit });
        if let Some(total) = total {
            meta["total"] = json!(total);
        }
        let reply = Reply::json(200, &json!({ "data": data, "meta": meta }))?;
        let mut links = Vec::new();
        match self.offset {
            Some(offset) => {
                let page = |offset: i64| format!("<{target}?offset={offset}&limit={}{}>", self.limit, self.rest);
                if has_more && offset + self.limit <= 10_000 {
                    links.push(format!("{}; rel=\"next\"", page(offset + self.limit)));
                }
                if offset > 0 {
                    links.push(format!("{}; rel=\"prev\"", page((offset - self.limit).max(0))));
                }
            }
            None => links.extend(next.map(|next| {
                let (limit, rest) = (self.limit, &self.rest);
                format!("<{target}?cursor={next}&limit={limit}{rest}>; rel=\"next\"")
            })),
        }
        match links.is_empty() {
            true => Ok(reply),
            false => reply.with(LINK, &links.join(", ")),
        }
    }
}

/// The parameters of a query that do not say which page, each after an `&`.
fn rest(query: &Map<String, Value>) -> String {
    let others = query
        .iter()
        .filter(|(name, _)| !["cursor", "offset", "limit"].contains(&name.as_str()));
    let mut text = String::new();
    for (name, value) in others {
        // Lists are read back from their items with commas between.
        let value = match value {
            Value::String(text) => escape_query(text),
            Value::Array(items) => items
                .iter()
                .filter_map(Value::as_str)
                .map(escape_query)
                .collect::<Vec<_>>()
                .join(","),
            other => other.to_string(),
        };
        text += &format!("&{name}={value}");
    }
    text
}

fn binding(scope: &str) -> [u8; 8] {
    let hash = Sha256::digest(scope.as_bytes());
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = from;
    }
    bytes
}

/// Whether Postgres reads `key` as `kind`: whoever forges a cursor gets no further than here.
fn is_kind(kind: &str, key: &str) -> bool {
    match kind {
        "timestamptz" => DateTime::parse_from_str(key, "%Y-%m-%d %H:%M:%S%.f%#z").is_ok(),
        "date" => NaiveDate::parse_from_str(key, "%Y-%m-%d").is_ok(),
        "bigint" => key.parse::<i64>().is_ok(),
        "integer" => key.parse::<i32>().is_ok(),
        "numeric" => key.len() < 40 && key.parse::<f64>().is_ok_and(f64::is_finite),
        _ => true,
    }
}

fn write_cursor(key: &str, id: Uuid, scope: [u8; 8]) -> String {
    let mut bytes = scope.to_vec();
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(key.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor(cursor: &str, scope: [u8; 8]) -> Result<(String, Uuid), ApiError> {
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (bound, rest) = bytes.split_first_chunk::<8>()?;
        let (id, key) = rest.split_first_chunk::<16>()?;
        let key = std::str::from_utf8(key).ok().filter(|key| !key.contains('\0'))?;
        (*bound == scope).then(|| (key.to_owned(), Uuid::from_bytes(*id)))
    };
    read().ok_or_else(|| Code::InvalidCursor.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: Value) -> Map<String, Value> {
        pairs.as_object().cloned().unwrap()
    }

    #[test]
    fn cursors_hold_for_their_list_alone() {
        let id = Uuid::from_u128(7);
        let request = NEWEST.read(&query(json!({})), "movies").unwrap();
        let key = "2026-11-22 06:30:25.123+00";
        let cursor = write_cursor(key, id, request.scope);
        let again = NEWEST.read(&query(json!({ "cursor": cursor })), "movies").unwrap();
        assert_eq!(again.after, Some((key.to_owned(), id)));
        let forged = write_cursor("yesterday'", id, request.scope);
        assert!(NEWEST.read(&query(json!({ "cursor": forged })), "movies").is_err());
        for (scope, cursor) in [
            ("shows", cursor.as_str()),
            ("movies", &cursor[1..]),
            ("movies", "%%"),
            ("movies", ""),
        ] {
            let error = NEWEST.read(&query(json!({ "cursor": cursor })), scope).unwrap_err();
            assert_eq!(error.code, Code::InvalidCursor, "{scope} {cursor}");
        }
        let sorted = NEWEST.read(&query(json!({ "cursor": cursor, "sort": "created_at" })), "movies");
        assert_eq!(sorted.unwrap_err().code, Code::InvalidCursor);
    }

    #[test]
    fn links_ask_for_all_else_again() {
        let check = |asked: Value, expected: &str| {
            let request = NEWEST.read(&query(asked), "").unwrap();
            let rows = (0..2).map(|row| (row, "2026-11-22 06:30:25+00".to_owned(), Uuid::nil()));
            let reply = request.answer(rows.collect(), None, "/list").unwrap();
            let links = reply.headers[LINK].to_str().unwrap().to_owned();
            let cursor = request.after.is_none() && request.offset.is_none();
            match cursor {
                true => {
                    let (before, after) = links.split_once("&limit").unwrap();
                    assert!(before.starts_with("</list?cursor="), "{links}");
                    assert_eq!(format!("&limit{after}"), expected);
                }
                false => assert_eq!(links, expected),
            }
        };
        check(
            json!({ "include_total": true, "limit": 1, "q": "a&b +ä%", "sort": "-created_at", "tag": ["x", "y,"] }),
            "&limit=1&include_total=true&q=a%26b%20%2B%C3%A4%25&sort=-created_at&tag=x,y%2C>; rel=\"next\"",
        );
        check(
            json!({ "limit": 1, "offset": 1, "status": "draft" }),
            "</list?offset=2&limit=1&status=draft>; rel=\"next\", </list?offset=0&limit=1&status=draft>; rel=\"prev\"",
        );
    }

    #[test]
    fn sorts_are_listed() {
        assert_eq!(
            NEWEST.read(&query(json!({ "sort": "size" })), "").unwrap_err().code,
            Code::InvalidSort
        );
        assert!(
            !NEWEST
                .read(&query(json!({ "sort": "created_at" })), "")
                .unwrap()
                .descending
        );
        let both = NEWEST.read(&query(json!({ "offset": 0, "cursor": "x" })), "");
        assert_eq!(both.unwrap_err().code, Code::InvalidParameter);
    }
}
