//! PlayReady over HTTP: a challenge goes to a licence server as it is, with the entitlement beside it.
//!
//! The body is never edited: `LA` is signed. What is read in it is the header of the title, a public format, so that a
//! viewer who may see one title gets no licence for another by sending that one's challenge.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use packager::crypto::{KeyId, ProtectionScheme, playready};

use super::token::Carrier;
use super::{
    IssueRequest, Keep, LICENSE_SIZE_BYTES_MAX, License, LicenseBackend, LicenseError, LicenseSystem, Named, Step,
    check_status, whole_body,
};
use crate::key_exchange::xml::{self, Element};
use crate::outbound::{Ask, Repeat, Reply, with_query};

/// Content type of requests and replies (SOAP 1.1).
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";
/// The one action there is.
pub const SOAP_ACTION: &str = "\"http://schemas.microsoft.com/DRM/2007/03/protocols/AcquireLicense\"";

const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const PROTOCOLS: &str = "http://schemas.microsoft.com/DRM/2007/03/protocols";
const HEADER: &str = "http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader";

/// Key ids of one challenge; a title's header holds a few.
const KEY_ID_COUNT_MAX: usize = 64;

/// How the entitlement travels.
pub enum Entitlement {
    /// Not at all: the server asks for it itself, or gives to everyone.
    None,
    /// As a token of the server's vendor.
    Token(Carrier),
    /// As the query `cfg=(…)` of Microsoft's public test server, with the key in the clear. For tests of one's own alone.
    TestServer,
}

/// A PlayReady licence server.
pub struct PlayReadyHttp {
    /// Its `rightsmanager.asmx`, or whatever it is called.
    pub url: Uri,
    /// How it learns what may be had.
    pub entitlement: Entitlement,
}

/// The key ids in a challenge: of every header in it, wherever it stands.
pub fn key_ids(challenge: &[u8]) -> Result<Vec<KeyId>, LicenseError> {
    let not_one = LicenseError::Challenge("not a SOAP message that acquires a licence");
    let Ok(root) = xml::read(challenge) else {
        return Err(not_one);
    };
    let acquires = root.is(SOAP, "Envelope") && root.descendant(PROTOCOLS, "AcquireLicense").is_some();
    if !acquires {
        return Err(not_one);
    }
    let mut found = Vec::new();
    collect(&root, false, &mut found)?;
    match found.len() {
        0 => Err(LicenseError::Challenge("names no key")),
        1..=KEY_ID_COUNT_MAX => Ok(found),
        _ => Err(LicenseError::Challenge("names too many keys")),
    }
}

/// Calls itself no deeper than documents may be.
fn collect(element: &Element, in_header: bool, found: &mut Vec<KeyId>) -> Result<(), LicenseError> {
    let in_header = in_header || element.is(HEADER, "WRMHEADER");
    if in_header && element.name == "KID" {
        // Version 4.0 has it as text, later ones as an attribute.
        let text = element.attribute("VALUE").unwrap_or(element.text.trim());
        let bytes = STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let guid = bytes.ok_or(LicenseError::Challenge("names a key that is no GUID"))?;
        // The order of bytes is its own inverse.
        let key_id = KeyId(playready::guid(KeyId(guid)));
        if !found.contains(&key_id) {
            found.push(key_id);
        }
    }
    element
        .children
        .iter()
        .try_for_each(|child| collect(child, in_header, found))
}

/// `(kid:…,contentkey:…,sl:2000,ckt:aes128bitcbc,persist:false)`, one parenthesis a key.
fn test_server_query(request: &IssueRequest<'_>) -> String {
    let parts = request.keys.iter().map(|key| {
        let chained = matches!(key.scheme, ProtectionScheme::Cbc1 | ProtectionScheme::Cbcs);
        format!(
            "(kid:{},contentkey:{},sl:{},ckt:{},persist:{})",
            key.key_id,
            STANDARD.encode(key.key.expose()),
            request.terms.of(key.track).playready_level,
            if chained { "aes128bitcbc" } else { "aes128bitctr" },
            request.terms.keep == Keep::Device,
        )
    });
    parts.collect::<Vec<_>>().join(",")
}

/// A SOAP fault is for the client, whatever it says: it knows its words.
pub(super) fn fault(reply: &Reply) -> Option<LicenseError> {
    let root = xml::read(&reply.body).ok()?;
    let is_fault = root.is(SOAP, "Envelope") && root.descendant(SOAP, "Fault").is_some();
    (reply.status == 500 && is_fault).then(|| LicenseError::Fault(reply.body.to_vec()))
}

impl LicenseBackend for PlayReadyHttp {
    fn system(&self) -> LicenseSystem {
        LicenseSystem::PlayReady
    }

    fn name(&self) -> &'static str {
        "playready-http"
    }

    fn inspect(&self, challenge: &[u8]) -> Result<Named, LicenseError> {
        key_ids(challenge).map(Named::All)
    }

    fn begin(&self, request: &IssueRequest<'_>) -> Result<Step, LicenseError> {
        let mut url = self.url.clone();
        if let Entitlement::TestServer = self.entitlement {
            let query = test_server_query(request);
            url = with_query(&url, "cfg", &query).ok_or(LicenseError::Upstream("a URL that can not be written"))?;
        }
        // A licence may be counted where it is issued, so one that was asked for is not asked for again.
        let mut ask = Ask::post(url, request.challenge.to_vec().into(), Repeat::WhenUnsent);
        ask.header("content-type", CONTENT_TYPE);
        ask.header("soapaction", SOAP_ACTION);
        ask.reply_size_max = LICENSE_SIZE_BYTES_MAX;
        if let Entitlement::Token(carrier) = &self.entitlement {
            carrier.put(&mut ask, request, LicenseSystem::PlayReady)?;
        }
        Ok(Step::Ask(Box::new(ask)))
    }

    fn read(&self, _request: &IssueRequest<'_>, reply: &Reply) -> Result<License, LicenseError> {
        if let Some(fault) = fault(reply) {
            return Err(fault);
        }
        check_status(reply)?;
        whole_body(reply, CONTENT_TYPE)
    }
}
