//! Schemas of JSON: what a body or parameter must be, checked as it comes in and told in the OpenAPI document.
//!
//! One declaration does both, so that the document can not say something else than what is enforced.

use chrono::{DateTime, NaiveDate};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::error::Detail;

/// Most rows of what is wrong that are told.
const DETAIL_COUNT_MAX: usize = 50;

/// What a value must be. Lengths count Unicode scalar values, limits are inclusive.
#[derive(Clone, Debug)]
pub enum Schema {
    /// Anything.
    Any,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A number.
    Number {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// Text.
    Text {
        /// Shortest.
        min: usize,
        /// Longest.
        max: usize,
        /// What it must look like.
        format: Format,
    },
    /// One of these words.
    Enum(&'static [&'static str]),
    /// A list.
    Array {
        /// What each item must be.
        items: Box<Schema>,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
    },
    /// An object of known members.
    Object(Object),
    /// An object of any members of one kind.
    Map(Box<Schema>),
    /// This or `null`.
    Nullable(Box<Schema>),
    /// A named schema of the document: its name and what it is.
    Named(&'static str, Box<Schema>),
}

/// What a text must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Anything.
    Free,
    /// A UUID.
    Uuid,
    /// RFC 3339.
    DateTime,
    /// `YYYY-MM-DD`.
    Date,
    /// An e-mail address, roughly: one `@` with something around it, no blanks.
    Email,
    /// An absolute URI.
    Uri,
    /// An absolute https URI.
    HttpsUri,
    /// ISO 3166-1 alpha-2, any case.
    Country,
    /// BCP 47.
    Language,
    /// ISO 4217.
    Currency,
    /// `^[a-z0-9-]+$`
    Slug,
    /// Hexadecimal digits.
    Hex,
    /// Base64.
    Base64,
    /// Not shown again: a password or token.
    Secret,
}

/// Members of an object.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// In order.
    pub fields: Vec<Field>,
}

/// A member of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it must be.
    pub schema: Schema,
    /// Whether it must be there.
    pub required: bool,
    /// Whether the server sets it: accepted from clients and ignored.
    pub read_only: bool,
}

/// An object with these members.
pub fn object(fields: impl IntoIterator<Item = Field>) -> Schema {
    Schema::Object(Object {
        fields: fields.into_iter().collect(),
    })
}

/// A member that must be there.
pub fn required(name: &'static str, schema: Schema) -> Field {
    Field {
        name,
        schema,
        required: true,
        read_only: false,
    }
}

/// A member that may be left out or be `null`.
pub fn optional(name: &'static str, schema: Schema) -> Field {
    Field {
        required: false,
        ..required(name, schema.or_null())
    }
}

/// A member that may be left out, yet not be `null`.
pub fn absent(name: &'static str, schema: Schema) -> Field {
    Field {
        required: false,
        ..required(name, schema)
    }
}

/// A member that the server sets.
pub fn read_only(name: &'static str, schema: Schema) -> Field {
    Field {
        required: false,
        read_only: true,
        ..required(name, schema)
    }
}

/// Text of `min` to `max` characters.
pub fn text(min: usize, max: usize) -> Schema {
    formatted(Format::Free, min, max)
}

/// Text of a form, of `min` to `max` characters.
pub fn formatted(format: Format, min: usize, max: usize) -> Schema {
    Schema::Text { min, max, format }
}

/// A UUID.
pub fn uuid() -> Schema {
    formatted(Format::Uuid, 36, 36)
}

/// An instant.
pub fn date_time() -> Schema {
    formatted(Format::DateTime, 1, 40)
}

/// An absolute URI.
pub fn uri() -> Schema {
    formatted(Format::Uri, 1, 2048)
}

/// A whole number of `min` to `max`.
pub fn integer(min: i64, max: i64) -> Schema {
    Schema::Integer { min, max }
}

/// A list of `min` to `max` items.
pub fn array(items: Schema, min: usize, max: usize) -> Schema {
    Schema::Array {
        items: Box::new(items),
        min,
        max,
    }
}

/// A list of any length, in replies.
pub fn list(items: Schema) -> Schema {
    array(items, 0, usize::MAX)
}

/// `{data: […]}`: a short complete list.
pub fn data(items: Schema) -> Schema {
    object([required("data", list(items))])
}

/// `{data: […], meta}`: a page of a list.
pub fn page(items: Schema) -> Schema {
    let meta = object([
        required("next_cursor", text(0, 4096).or_null()),
        required("has_more", Schema::Bool),
        required("limit", integer(1, 100)),
        absent("total", integer(0, i64::MAX)),
    ]);
    object([
        required("data", list(items)),
        required("meta", Schema::Named("PageMeta", Box::new(meta))),
    ])
}

impl Schema {
    /// This or `null`.
    pub fn or_null(self) -> Schema {
        match self {
            Schema::Nullable(_) | Schema::Any => self,
            other => Schema::Nullable(Box::new(other)),
        }
    }

    /// This under a name of its own in the document.
    pub fn named(self, name: &'static str) -> Schema {
        Schema::Named(name, Box::new(self))
    }

    /// The members of an object, whether named or not; none of others.
    pub fn fields(&self) -> &[Field] {
        match self {
            Schema::Object(object) => &object.fields,
            Schema::Named(_, inner) | Schema::Nullable(inner) => inner.fields(),
            _ => &[],
        }
    }

    /// An object's writable members, none of which must be there: the body of PATCH.
    pub fn partial(&self) -> Schema {
        let fields = self.fields().iter().cloned();
        object(fields.map(|field| Field {
            required: false,
            ..field
        }))
    }

    /// An object's members besides those `written`, as ones that the server sets: clients send back what they read.
    pub fn besides(&self, written: &[&str]) -> Vec<Field> {
        let others = self.fields().iter().filter(|field| !written.contains(&field.name));
        others
            .map(|field| read_only(field.name, field.schema.clone()))
            .collect()
    }

    /// What is wrong with `value`, with the path of each place.
    pub fn check(&self, value: &Value) -> Vec<Detail> {
        let mut details = Vec::new();
        self.check_at("", value, &mut details);
        details
    }

    fn check_at(&self, path: &str, value: &Value, details: &mut Vec<Detail>) {
        if details.len() >= DETAIL_COUNT_MAX {
            return;
        }
        let wrong = |details: &mut Vec<Detail>, message: String| {
            details.push(Detail {
                field: path.to_owned(),
                message,
            });
        };
        match (self, value) {
            (Schema::Any, _) | (Schema::Bool, Value::Bool(_)) => {}
            (Schema::Nullable(_), Value::Null) => {}
            (Schema::Nullable(inner) | Schema::Named(_, inner), _) => inner.check_at(path, value, details),
            (Schema::Integer { min, max }, Value::Number(number)) => {
                // 3.0 is a whole number in JSON Schema, too.
                let whole = number.as_i64().or_else(|| whole_of(number.as_f64()?));
                match whole {
                    Some(number) if number < *min => wrong(details, format!("must be at least {min}")),
                    Some(number) if number > *max => wrong(details, format!("must be at most {max}")),
                    Some(_) => {}
                    None => wrong(details, "must be a whole number".to_owned()),
                }
            }
            (Schema::Number { min, max }, Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                if !(*min..=*max).contains(&number) {
                    wrong(details, format!("must be from {min} to {max}"));
                }
            }
            (Schema::Text { min, max, format }, Value::String(text)) => {
                let length = text.chars().count();
                if length < *min {
                    wrong(details, format!("must have at least {min} characters"));
                } else if length > *max {
                    wrong(details, format!("must have at most {max} characters"));
                } else if text.contains('\0') {
                    wrong(details, "must not contain NUL".to_owned());
                } else if !format.holds(text) {
                    wrong(details, format!("must be {}", format.describe()));
                }
            }
            (Schema::Enum(words), Value::String(text)) => {
                if !words.contains(&text.as_str()) {
                    wrong(details, format!("must be one of {}", words.join(", ")));
                }
            }
            (Schema::Array { items, min, max }, Value::Array(values)) => {
                if values.len() < *min {
                    wrong(details, format!("must have at least {min} items"));
                } else if values.len() > *max {
                    wrong(details, format!("must have at most {max} items"));
                } else {
                    for (at, value) in values.iter().enumerate() {
                        items.check_at(&format!("{path}[{at}]"), value, details);
                    }
                }
            }
            (Schema::Object(object), Value::Object(members)) => object.check_at(path, members, details),
            (Schema::Map(items), Value::Object(members)) => {
                for (name, value) in members {
                    items.check_at(&below(path, name), value, details);
                }
            }
            _ => wrong(details, format!("must be {}", self.describe())),
        }
    }

    fn describe(&self) -> &'static str {
        match self {
            Schema::Any => "a value",
            Schema::Bool => "true or false",
            Schema::Integer { .. } => "a whole number",
            Schema::Number { .. } => "a number",
            Schema::Text { .. } | Schema::Enum(_) => "a text",
            Schema::Array { .. } => "a list",
            Schema::Object(_) | Schema::Map(_) => "an object",
            Schema::Nullable(inner) | Schema::Named(_, inner) => inner.describe(),
        }
    }

    /// As JSON Schema (OpenAPI 3.1). What is named is put into `named` and referred to.
    pub fn to_json(&self, named: &mut Map<String, Value>) -> Value {
        match self {
            Schema::Any => json!({}),
            Schema::Bool => json!({ "type": "boolean" }),
            Schema::Integer { min, max } => {
                let mut json = json!({ "type": "integer" });
                // What has no limit of its own is limited by its type.
                if *min != i64::MIN {
                    json["minimum"] = json!(min);
                }
                json["maximum"] = json!(max);
                if *max > i64::from(i32::MAX) {
                    json["format"] = json!("int64");
                }
                json
            }
            Schema::Number { min, max } => {
                let mut json = json!({ "type": "number" });
                if min.is_finite() {
                    json["minimum"] = json!(min);
                }
                if max.is_finite() {
                    json["maximum"] = json!(max);
                }
                json
            }
            Schema::Text { min, max, format } => {
                let mut json = json!({ "type": "string" });
                if *min > 0 {
                    json["minLength"] = json!(min);
                }
                json["maxLength"] = json!(max);
                format.write(&mut json);
                json
            }
            Schema::Enum(words) => json!({ "type": "string", "enum": words }),
            Schema::Array { items, min, max } => {
                let mut json = json!({ "type": "array", "items": items.to_json(named) });
                if *min > 0 {
                    json["minItems"] = json!(min);
                }
                if *max < usize::MAX {
                    json["maxItems"] = json!(max);
                }
                json
            }
            Schema::Object(object) => object.to_json(named),
            Schema::Map(items) => json!({ "type": "object", "additionalProperties": items.to_json(named) }),
            Schema::Nullable(inner) => match inner.to_json(named) {
                Value::Object(mut json) if json.get("type").is_some_and(Value::is_string) => {
                    let kind = json.remove("type").unwrap_or_default();
                    json.insert("type".to_owned(), json!([kind, "null"]));
                    if let Some(words) = json.get_mut("enum").and_then(Value::as_array_mut) {
                        words.push(Value::Null);
                    }
                    Value::Object(json)
                }
                other => json!({ "anyOf": [other, { "type": "null" }] }),
            },
            Schema::Named(name, inner) => {
                if !named.contains_key(*name) {
                    // Known before it is written, so that it may refer to itself.
                    named.insert((*name).to_owned(), Value::Null);
                    let json = inner.to_json(named);
                    named.insert((*name).to_owned(), json);
                }
                json!({ "$ref": format!("#/components/schemas/{name}") })
            }
        }
    }
}

impl Object {
    fn check_at(&self, path: &str, members: &Map<String, Value>, details: &mut Vec<Detail>) {
        for field in self.fields.iter().filter(|field| !field.read_only) {
            match members.get(field.name) {
                Some(value) => field.schema.check_at(&below(path, field.name), value, details),
                None if field.required => details.push(Detail {
                    field: below(path, field.name),
                    message: "is missing".to_owned(),
                }),
                None => {}
            }
        }
        for name in members.keys() {
            if details.len() < DETAIL_COUNT_MAX && !self.fields.iter().any(|field| field.name == name) {
                details.push(Detail {
                    field: below(path, name),
                    message: "is not known".to_owned(),
                });
            }
        }
    }

    fn to_json(&self, named: &mut Map<String, Value>) -> Value {
        let mut properties = Map::new();
        for field in &self.fields {
            let mut json = field.schema.to_json(named);
            if field.read_only {
                json["readOnly"] = json!(true);
            }
            properties.insert(field.name.to_owned(), json);
        }
        let required: Vec<&str> = self
            .fields
            .iter()
            .filter(|field| field.required)
            .map(|field| field.name)
            .collect();
        let mut json = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            json["required"] = json!(required);
        }
        json
    }
}

fn below(path: &str, name: &str) -> String {
    match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    }
}

fn whole_of(number: f64) -> Option<i64> {
    let whole = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    whole.then_some(number as i64)
}

impl Format {
    /// Whether `text` looks like it.
    pub fn holds(self, text: &str) -> bool {
        match self {
            Format::Free | Format::Secret => true,
            Format::Uuid => Uuid::try_parse(text).is_ok() && text.len() == 36,
            Format::DateTime => DateTime::parse_from_rfc3339(text).is_ok(),
            Format::Date => text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok(),
            Format::Email => is_email(text),
            Format::Uri => is_uri(text, &["http://", "https://"]),
            Format::HttpsUri => is_uri(text, &["https://"]),
            Format::Country => text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()),
            Format::Currency => text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic()),
            Format::Language => is_language(text),
            Format::Slug => text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            Format::Hex => text.bytes().all(|byte| byte.is_ascii_hexdigit()),
            Format::Base64 => text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte)),
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Format::Free | Format::Secret => "a text",
            Format::Uuid => "a UUID",
            Format::DateTime => "an instant as in RFC 3339",
            Format::Date => "a date, YYYY-MM-DD",
            Format::Email => "an e-mail address",
            Format::Uri => "an absolute http or https URI",
            Format::HttpsUri => "an absolute https URI",
            Format::Country => "a country of two letters",
            Format::Currency => "a currency of three letters",
            Format::Language => "a language tag",
            Format::Slug => "of a-z, 0-9 and -",
            Format::Hex => "hexadecimal digits",
            Format::Base64 => "base64",
        }
    }

    fn write(self, json: &mut Value) {
        let (key, value) = match self {
            Format::Free | Format::Base64 => return,
            Format::Uuid => ("format", "uuid"),
            Format::DateTime => ("format", "date-time"),
            Format::Date => ("format", "date"),
            Format::Email => ("format", "email"),
            Format::Uri | Format::HttpsUri => ("format", "uri"),
            Format::Country => ("pattern", "^[A-Za-z]{2}$"),
            Format::Currency => ("pattern", "^[A-Za-z]{3}$"),
            Format::Language => ("pattern", "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"),
            Format::Slug => ("pattern", "^[a-z0-9-]+$"),
            Format::Hex => ("pattern", "^[0-9A-Fa-f]+$"),
            Format::Secret => ("format", "password"),
        };
        json[key] = json!(value);
    }
}

fn is_email(text: &str) -> bool {
    let blank = |char: char| char.is_whitespace() || char.is_control();
    match text.split_once('@') {
        Some((name, host)) => !name.is_empty() && host.len() >= 2 && !host.contains('@') && !text.contains(blank),
        None => false,
    }
}

fn is_uri(text: &str, schemes: &[&str]) -> bool {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    plain && rest.is_some_and(|rest| rest.split(['/', '?', '#']).next().is_some_and(|host| !host.is_empty()))
}

fn is_language(text: &str) -> bool {
    let mut parts = text.split('-');
    let first = parts.next().unwrap_or_default();
    let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphabetic());
    let parts_hold =
        parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    (2..=8).contains(&first.len()) && letters(first) && parts_hold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Schema {
        object([
            required("name", text(1, 5)),
            optional("email", formatted(Format::Email, 3, 254)),
            absent("tags", array(Schema::Enum(&["a", "b"]), 0, 2)),
            read_only("id", uuid()),
            absent("inner", object([required("count", integer(1, 9))])),
        ])
    }

    fn check(value: Value, expected: &[(&str, &str)]) {
        let details = example().check(&value);
        let found: Vec<(&str, &str)> = details
            .iter()
            .map(|detail| (detail.field.as_str(), detail.message.as_str()))
            .collect();
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        check(json!({ "name": "n" }), &[]);
        check(json!({ "name": "äöüßé", "email": null, "id": 7 }), &[]);
        check(json!({}), &[("name", "is missing")]);
        check(json!([]), &[("", "must be an object")]);
        check(json!({ "name": "" }), &[("name", "must have at least 1 characters")]);
        check(
            json!({ "name": "sixsix" }),
            &[("name", "must have at most 5 characters")],
        );
        check(json!({ "name": "a\0" }), &[("name", "must not contain NUL")]);
        check(json!({ "name": null }), &[("name", "must be a text")]);
        check(json!({ "name": "n", "nmae": 1 }), &[("nmae", "is not known")]);
        check(
            json!({ "name": "n", "tags": ["a", "c"] }),
            &[("tags[1]", "must be one of a, b")],
        );
        check(json!({ "name": "n", "tags": null }), &[("tags", "must be a list")]);
        check(json!({ "name": "n", "inner": {} }), &[("inner.count", "is missing")]);
        check(
            json!({ "name": "n", "inner": { "count": 10 } }),
            &[("inner.count", "must be at most 9")],
        );
        check(
            json!({ "name": "n", "inner": { "count": 2.5 } }),
            &[("inner.count", "must be a whole number")],
        );
        check(json!({ "name": "n", "inner": { "count": 2.0 } }), &[]);
        check(
            json!({ "name": "n", "email": "a b@c.d" }),
            &[("email", "must be an e-mail address")],
        );
    }

    #[test]
    fn formats() {
        let cases = [
            (Format::Email, "a@b.c", true),
            (Format::Email, "a@b@c", false),
            (Format::Email, "@bc", false),
            (Format::Uri, "http://h/p", true),
            (Format::Uri, "https://", false),
            (Format::Uri, "javascript:alert(1)", false),
            (Format::HttpsUri, "http://h", false),
            (Format::Language, "pt-BR", true),
            (Format::Language, "e", false),
            (Format::Language, "en-", false),
            (Format::Date, "2026-02-29", false),
            (Format::Date, "2028-02-29", true),
            (Format::DateTime, "2026-11-21T20:10:00Z", true),
            (Format::DateTime, "2026-11-21", false),
            (Format::Uuid, "0190163d8694739b8dc8bd62fb9d5d7d", false),
            (Format::Slug, "a-1", true),
            (Format::Slug, "A", false),
        ];
        for (format, text, expected) in cases {
            assert_eq!(format.holds(text), expected, "{format:?} {text}");
        }
    }

    #[test]
    fn at_most_so_many_details() {
        let schema = list(Schema::Bool);
        let details = schema.check(&json!(vec![1; 1000]));
        assert_eq!(details.len(), DETAIL_COUNT_MAX);
    }

    #[test]
    fn null_may_stand_where_the_document_says_so() {
        let mut named = Map::new();
        let json = example().to_json(&mut named);
        assert_eq!(json["properties"]["email"]["type"], json!(["string", "null"]));
        assert_eq!(json["required"], json!(["name"]));
        assert_eq!(json["additionalProperties"], json!(false));
    }
}
