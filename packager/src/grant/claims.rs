//! Claims of a grant as a CBOR map: those of CWT (RFC 8392 3.1), of CTA-5007-B 4.6, and headwater's own.
//!
//! Own claims have labels below -65536, which RFC 8392 9.1 leaves to private use:
//!
//! | label | claim | value |
//! |---|---|---|
//! | -65537 | tenant | text |
//! | -65538 | maximum height | unsigned, pixels |
//! | -65539 | allowed schemes | array of text: [`GrantScheme::name`] |
//! | -65540 | time window | array of one or two unsigned: start, end, in milliseconds |
//! | -65541 | watermark pattern | byte string |
//!
//! Whatever restricts and is not understood is refused: a claim that is not listed here, a `catreplay` that asks for
//! more than nothing, a `catu` that asks for a regular expression. `sub` restricts nothing and is passed over.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::cbor::{Reader, Writer};
use super::uri::{UriMatch, UriPart, UriRule};
use super::{Grant, GrantRefusal, GrantScheme, Renewal, RenewalKind, TimeWindow};
use crate::limits;

const ISS: i64 = 1;
const SUB: i64 = 2;
const AUD: i64 = 3;
const EXP: i64 = 4;
const NBF: i64 = 5;
const IAT: i64 = 6;
const CTI: i64 = 7;
const CATREPLAY: i64 = 308;
const CATV: i64 = 310;
const CATU: i64 = 312;
const CATM: i64 = 313;
const CATR: i64 = 323;
const TENANT: i64 = -65_537;
const HEIGHT_MAX: i64 = -65_538;
const SCHEMES: i64 = -65_539;
const WINDOW: i64 = -65_540;
const WATERMARK: i64 = -65_541;

/// The only `catv` there is.
const VERSION: u64 = 1;

/// Labels inside `catr`.
const RENEWAL_TYPE: i64 = 0;
const RENEWAL_EXPADD: i64 = 1;
const RENEWAL_DEADLINE: i64 = 2;
const RENEWAL_COOKIE_NAME: i64 = 3;
const RENEWAL_HEADER_NAME: i64 = 4;
const RENEWAL_COOKIE_PARAMETERS: i64 = 5;
const RENEWAL_HEADER_PARAMETERS: i64 = 6;
const RENEWAL_CODE: i64 = 7;

/// A map whose entries are counted as they are written; its keys come in deterministic order.
struct MapWriter {
    count: usize,
    entries: Writer,
}

impl MapWriter {
    fn new() -> MapWriter {
        MapWriter {
            count: 0,
            entries: Writer::default(),
        }
    }

    fn entry(&mut self, label: i64) -> &mut Writer {
        self.count += 1;
        self.entries.integer(label);
        &mut self.entries
    }

    fn text(&mut self, label: i64, value: Option<&str>) {
        if let Some(value) = value {
            self.entry(label).text(value);
        }
    }

    fn unsigned(&mut self, label: i64, value: Option<u64>) {
        if let Some(value) = value {
            self.entry(label).unsigned(value);
        }
    }

    fn bytes(&mut self, label: i64, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.entry(label).bytes(value);
        }
    }

    fn texts<'a>(&mut self, label: i64, values: impl ExactSizeIterator<Item = &'a str>) {
        let writer = self.entry(label);
        writer.array(values.len());
        values.for_each(|value| writer.text(value));
    }

    fn map(&mut self, label: i64, inner: MapWriter) {
        self.entry(label).append(inner.finish());
    }

    fn finish(self) -> Writer {
        let mut out = Writer::default();
        out.map(self.count);
        out.append(self.entries);
        out
    }
}

/// The claims of `grant`.
pub(super) fn write(grant: &Grant) -> Vec<u8> {
    let mut map = MapWriter::new();
    map.text(ISS, grant.issuer.as_deref());
    if !grant.audience.is_empty() {
        map.texts(AUD, grant.audience.iter().map(String::as_str));
    }
    map.unsigned(EXP, Some(grant.expires));
    map.unsigned(NBF, grant.not_before);
    map.unsigned(IAT, grant.issued);
    map.bytes(CTI, grant.session.as_deref());
    map.unsigned(CATV, Some(VERSION));
    map.map(CATU, write_rules(&grant.uri));
    if let Some(methods) = &grant.methods {
        map.texts(CATM, methods.iter().map(String::as_str));
    }
    if let Some(renewal) = &grant.renewal {
        map.map(CATR, write_renewal(renewal));
    }
    map.text(TENANT, grant.tenant.as_deref());
    map.unsigned(HEIGHT_MAX, grant.height_max.map(u64::from));
    if let Some(schemes) = &grant.schemes {
        map.texts(SCHEMES, schemes.iter().map(|scheme| scheme.name()));
    }
    if let Some(window) = &grant.window {
        let writer = map.entry(WINDOW);
        writer.array(1 + usize::from(window.end_ms.is_some()));
        writer.unsigned(window.start_ms);
        window.end_ms.into_iter().for_each(|end| writer.unsigned(end));
    }
    map.bytes(WATERMARK, grant.watermark.as_deref());
    map.finish().finish()
}

/// Rules as a map of maps. Minting has checked that no part is compared twice in one way.
fn write_rules(rules: &[UriRule]) -> MapWriter {
    let mut sorted: Vec<&UriRule> = rules.iter().collect();
    sorted.sort_by_key(|rule| (rule.part.label(), rule.way.label()));
    let mut parts = MapWriter::new();
    for group in sorted.chunk_by(|one, next| one.part == next.part) {
        let mut matches = MapWriter::new();
        for rule in group {
            matches.text(rule.way.label(), Some(&rule.value));
        }
        if let Some(first) = group.first() {
            parts.map(first.part.label(), matches);
        }
    }
    parts
}

fn write_renewal(renewal: &Renewal) -> MapWriter {
    let mut map = MapWriter::new();
    map.unsigned(RENEWAL_TYPE, Some(renewal.kind.label()));
    map.unsigned(RENEWAL_EXPADD, Some(renewal.add_seconds));
    map.unsigned(RENEWAL_DEADLINE, renewal.deadline);
    map.text(RENEWAL_COOKIE_NAME, renewal.cookie_name.as_deref());
    map.text(RENEWAL_HEADER_NAME, renewal.header_name.as_deref());
    for (label, values) in [
        (RENEWAL_COOKIE_PARAMETERS, &renewal.cookie_parameters),
        (RENEWAL_HEADER_PARAMETERS, &renewal.header_parameters),
    ] {
        if !values.is_empty() {
            map.texts(label, values.iter().map(String::as_str));
        }
    }
    map.unsigned(RENEWAL_CODE, renewal.code.map(u64::from));
    map
}

/// Puts `value` into an empty place; labels do not repeat (RFC 8949 5.6).
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), GrantRefusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(GrantRefusal::Malformed("a claim is repeated")),
    }
}

/// A claim label; text labels are nobody's here.
fn label(reader: &mut Reader<'_>) -> Result<i64, GrantRefusal> {
    if reader.at_text() {
        return Err(GrantRefusal::UnknownClaim);
    }
    reader.integer()
}

fn list_count(reader: &mut Reader<'_>) -> Result<usize, GrantRefusal> {
    match reader.array()? {
        count if count <= limits::GRANT_LIST_COUNT_MAX => Ok(count),
        _ => Err(GrantRefusal::Malformed("a list is too long")),
    }
}

fn texts(reader: &mut Reader<'_>) -> Result<Vec<String>, GrantRefusal> {
    (0..list_count(reader)?)
        .map(|_| Ok(reader.text()?.to_owned()))
        .collect()
}

/// What [`write`] or anyone else wrote.
pub(super) fn read(bytes: &[u8]) -> Result<Grant, GrantRefusal> {
    let mut reader = Reader::new(bytes);
    let mut claims = Claims::default();
    for _ in 0..reader.map()? {
        claims.read_one(&mut reader)?;
    }
    reader.end()?;
    claims.into_grant()
}

#[derive(Default)]
struct Claims {
    issuer: Option<String>,
    subject: Option<()>,
    audience: Option<Vec<String>>,
    expires: Option<u64>,
    not_before: Option<u64>,
    issued: Option<u64>,
    session: Option<Vec<u8>>,
    replay: Option<()>,
    version: Option<()>,
    uri: Option<Vec<UriRule>>,
    methods: Option<Vec<String>>,
    renewal: Option<Renewal>,
    tenant: Option<String>,
    height_max: Option<u32>,
    schemes: Option<Vec<GrantScheme>>,
    window: Option<TimeWindow>,
    watermark: Option<Vec<u8>>,
}

impl Claims {
    fn read_one(&mut self, reader: &mut Reader<'_>) -> Result<(), GrantRefusal> {
        match label(reader)? {
            ISS => once(&mut self.issuer, reader.text()?.to_owned()),
            SUB => reader.text().and_then(|_| once(&mut self.subject, ())),
            AUD => {
                let audience = match reader.at_text() {
                    true => vec![reader.text()?.to_owned()],
                    false => texts(reader)?,
                };
                if audience.is_empty() {
                    return Err(GrantRefusal::Malformed("aud names nobody"));
                }
                once(&mut self.audience, audience)
            }
            EXP => once(&mut self.expires, reader.unsigned()?),
            NBF => once(&mut self.not_before, reader.unsigned()?),
            IAT => once(&mut self.issued, reader.unsigned()?),
            CTI => once(&mut self.session, reader.bytes()?.to_owned()),
            // 0 allows replays; to notice one would need memory of all tokens.
            CATREPLAY => only(0, reader).and_then(|()| once(&mut self.replay, ())),
            CATV => only(VERSION, reader).and_then(|()| once(&mut self.version, ())),
            CATU => once(&mut self.uri, read_rules(reader)?),
            CATM => once(&mut self.methods, texts(reader)?),
            CATR => once(&mut self.renewal, read_renewal(reader)?),
            TENANT => once(&mut self.tenant, reader.text()?.to_owned()),
            HEIGHT_MAX => {
                let height = reader.unsigned()?;
                once(&mut self.height_max, u32::try_from(height).unwrap_or(u32::MAX))
            }
            SCHEMES => {
                let names = texts(reader)?;
                let schemes = names.iter().map(|name| GrantScheme::parse(name)).collect::<Option<_>>();
                once(&mut self.schemes, schemes.ok_or(GrantRefusal::UnknownClaim)?)
            }
            WINDOW => once(&mut self.window, read_window(reader)?),
            WATERMARK => once(&mut self.watermark, reader.bytes()?.to_owned()),
            _ => Err(GrantRefusal::UnknownClaim),
        }
    }

    fn into_grant(self) -> Result<Grant, GrantRefusal> {
        Ok(Grant {
            issuer: self.issuer,
            audience: self.audience.unwrap_or_default(),
            session: self.session,
            uri: self.uri.unwrap_or_default(),
            methods: self.methods,
            issued: self.issued,
            not_before: self.not_before,
            expires: self.expires.ok_or(GrantRefusal::Malformed("no exp"))?,
            tenant: self.tenant,
            height_max: self.height_max,
            schemes: self.schemes,
            window: self.window,
            renewal: self.renewal,
            watermark: self.watermark,
        })
    }
}

/// A value of which only one is understood.
fn only(value: u64, reader: &mut Reader<'_>) -> Result<(), GrantRefusal> {
    match reader.unsigned()? {
        found if found == value => Ok(()),
        _ => Err(GrantRefusal::UnknownClaim),
    }
}

fn read_rules(reader: &mut Reader<'_>) -> Result<Vec<UriRule>, GrantRefusal> {
    let mut rules: Vec<UriRule> = Vec::new();
    for _ in 0..reader.map()? {
        let part = UriPart::from_label(label(reader)?).ok_or(GrantRefusal::UnknownClaim)?;
        if rules.iter().any(|rule| rule.part == part) {
            return Err(GrantRefusal::Malformed("a part of catu is repeated"));
        }
        let count = reader.map()?;
        if count == 0 {
            return Err(GrantRefusal::Malformed("a part of catu without a match"));
        }
        for _ in 0..count {
            let way = UriMatch::from_label(label(reader)?).ok_or(GrantRefusal::UnknownClaim)?;
            if rules.iter().any(|rule| rule.part == part && rule.way == way) {
                return Err(GrantRefusal::Malformed("a match of catu is repeated"));
            }
            let value = reader.text()?.to_owned();
            rules.push(UriRule { part, way, value });
        }
    }
    Ok(rules)
}

fn read_renewal(reader: &mut Reader<'_>) -> Result<Renewal, GrantRefusal> {
    let (mut kind, mut add_seconds, mut deadline) = (None, None, None);
    let (mut cookie_name, mut header_name, mut code) = (None, None, None);
    let (mut cookie_parameters, mut header_parameters) = (None, None);
    for _ in 0..reader.map()? {
        match label(reader)? {
            RENEWAL_TYPE => {
                let found = RenewalKind::from_label(reader.unsigned()?);
                once(&mut kind, found.ok_or(GrantRefusal::UnknownClaim)?)?;
            }
            RENEWAL_EXPADD => once(&mut add_seconds, reader.unsigned()?)?,
            RENEWAL_DEADLINE => once(&mut deadline, reader.unsigned()?)?,
            RENEWAL_COOKIE_NAME => once(&mut cookie_name, reader.text()?.to_owned())?,
            RENEWAL_HEADER_NAME => once(&mut header_name, reader.text()?.to_owned())?,
            RENEWAL_COOKIE_PARAMETERS => once(&mut cookie_parameters, texts(reader)?)?,
            RENEWAL_HEADER_PARAMETERS => once(&mut header_parameters, texts(reader)?)?,
            RENEWAL_CODE => {
                let found = u16::try_from(reader.unsigned()?);
                once(
                    &mut code,
                    found.map_err(|_| GrantRefusal::Malformed("catr code is no status"))?,
                )?;
            }
            _ => return Err(GrantRefusal::UnknownClaim),
        }
    }
    Ok(Renewal {
        kind: kind.ok_or(GrantRefusal::Malformed("catr without type"))?,
        add_seconds: add_seconds.ok_or(GrantRefusal::Malformed("catr without expadd"))?,
        deadline,
        cookie_name,
        header_name,
        cookie_parameters: cookie_parameters.unwrap_or_default(),
        header_parameters: header_parameters.unwrap_or_default(),
        code,
    })
}

fn read_window(reader: &mut Reader<'_>) -> Result<TimeWindow, GrantRefusal> {
    let count = reader.array()?;
    if !matches!(count, 1 | 2) {
        return Err(GrantRefusal::Malformed("a time window has a start and perhaps an end"));
    }
    let start_ms = reader.unsigned()?;
    let end_ms = if count == 2 { Some(reader.unsigned()?) } else { None };
    let window = TimeWindow { start_ms, end_ms };
    if window.is_empty() {
        return Err(GrantRefusal::Malformed("a time window ends before it starts"));
    }
    Ok(window)
}
