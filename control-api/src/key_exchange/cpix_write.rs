//! CPIX writer: XML from a document, in the order of the schema.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::cpix::{Bounds, Delivery, Document, DrmSystem, Filter, KeyElement, KeyPeriod, KeyValue, UsageRule, Version};
use super::cpix_read::{CPIX, DS, ENC, PSKC, SPEKE};
use super::delivery::{AES_256_CBC, EncryptedValue};
use super::xml::escaped;

/// Writes a document as one of `version`: what that version does not know is left out.
pub fn write(document: &Document, version: Version) -> String {
    let mut out = Writer {
        out: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned(),
        version,
    };
    let speke = (version == Version::Speke1).then_some(SPEKE);
    let attributes = [
        ("id", document.id.as_deref().filter(|_| version == Version::Speke1)),
        ("contentId", document.content_id.as_deref()),
        ("version", version.text()),
        ("xmlns:cpix", Some(CPIX)),
        ("xmlns:pskc", Some(PSKC)),
        ("xmlns:ds", Some(DS)),
        ("xmlns:enc", Some(ENC)),
        ("xmlns:speke", speke),
    ];
    out.open("cpix:CPIX", &attributes);
    out.list("cpix:DeliveryDataList", &document.deliveries, Writer::delivery);
    out.list("cpix:ContentKeyList", &document.keys, Writer::key);
    out.list("cpix:DRMSystemList", &document.systems, Writer::system);
    out.list("cpix:ContentKeyPeriodList", &document.periods, Writer::period);
    out.list("cpix:ContentKeyUsageRuleList", &document.rules, Writer::rule);
    out.close("cpix:CPIX");
    out.out
}

struct Writer {
    out: String,
    version: Version,
}

type Attributes<'a> = &'a [(&'static str, Option<&'a str>)];

impl Writer {
    fn tag(&mut self, name: &str, attributes: Attributes<'_>, end: &str) {
        self.out.push('<');
        self.out += name;
        for (key, value) in attributes {
            if let Some(value) = value {
                self.out.push(' ');
                self.out += key;
                self.out += "=\"";
                self.out += &escaped(value);
                self.out.push('"');
            }
        }
        self.out += end;
    }

    fn open(&mut self, name: &str, attributes: Attributes<'_>) {
        self.tag(name, attributes, ">");
    }

    fn close(&mut self, name: &str) {
        self.out += "</";
        self.out += name;
        self.out.push('>');
    }

    fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.tag(name, attributes, "/>");
    }

    fn text(&mut self, name: &str, attributes: Attributes<'_>, text: &str) {
        if text.is_empty() {
            return self.empty(name, attributes);
        }
        self.open(name, attributes);
        self.out += &escaped(text);
        self.close(name);
    }

    fn optional(&mut self, name: &str, text: Option<&String>) {
        if let Some(text) = text {
            self.text(name, &[], text);
        }
    }

    fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&mut Writer, &T)) {
        if items.is_empty() {
            return;
        }
        self.open(name, &[]);
        items.iter().for_each(|item| write(self, item));
        self.close(name);
    }

    fn delivery(&mut self, delivery: &Delivery) {
        self.open("cpix:DeliveryData", &[]);
        self.open("cpix:DeliveryKey", &[]);
        self.open("ds:X509Data", &[]);
        self.text("ds:X509Certificate", &[], &STANDARD.encode(&delivery.certificate));
        self.close("ds:X509Data");
        self.close("cpix:DeliveryKey");
        if let Some(key) = &delivery.document_key {
            // The schema of 2.4 has no such attribute.
            let algorithm = (self.version != Version::V2_4).then_some(AES_256_CBC);
            self.open("cpix:DocumentKey", &[("Algorithm", algorithm)]);
            self.open("cpix:Data", &[]);
            self.open("pskc:Secret", &[]);
            self.encrypted(key);
            self.close("pskc:Secret");
            self.close("cpix:Data");
            self.close("cpix:DocumentKey");
        }
        if let Some(key) = &delivery.mac_key {
            self.open("cpix:MACMethod", &[("Algorithm", delivery.mac_algorithm.as_deref())]);
            self.open("cpix:Key", &[]);
            self.encrypted(key);
            self.close("cpix:Key");
            self.close("cpix:MACMethod");
        }
        self.close("cpix:DeliveryData");
    }

    fn encrypted(&mut self, value: &EncryptedValue) {
        self.open("pskc:EncryptedValue", &[]);
        self.empty("enc:EncryptionMethod", &[("Algorithm", Some(&value.algorithm))]);
        self.open("enc:CipherData", &[]);
        self.text("enc:CipherValue", &[], &STANDARD.encode(&value.bytes));
        self.close("enc:CipherData");
        self.close("pskc:EncryptedValue");
        if let Some(mac) = &value.mac {
            self.text("pskc:ValueMAC", &[], &STANDARD.encode(mac));
        }
    }

    fn key(&mut self, key: &KeyElement) {
        let id = key.key_id.to_string();
        let iv = key.iv.map(|iv| STANDARD.encode(iv));
        let attributes = [
            ("explicitIV", iv.as_deref()),
            ("kid", Some(id.as_str())),
            ("commonEncryptionScheme", key.scheme.map(|scheme| scheme.name())),
        ];
        self.open("cpix:ContentKey", &attributes);
        if let Some(hdcp) = key.hdcp.as_ref().filter(|_| self.version == Version::V2_4) {
            self.open("cpix:HDCPData", &[("HLSHDCPLevel", hdcp.hls_level.as_deref())]);
            self.optional("cpix:HDCPOutputProtectionData", hdcp.output_protection.as_ref());
            self.close("cpix:HDCPData");
        }
        if !matches!(key.value, KeyValue::Absent) {
            self.open("cpix:Data", &[]);
            self.open("pskc:Secret", &[]);
            match &key.value {
                KeyValue::Plain(key) => self.text("pskc:PlainValue", &[], &STANDARD.encode(key.expose())),
                KeyValue::Encrypted(value) => self.encrypted(value),
                KeyValue::Absent => {}
            }
            self.close("pskc:Secret");
            self.close("cpix:Data");
        }
        self.close("cpix:ContentKey");
    }

    fn system(&mut self, system: &DrmSystem) {
        let newest = self.version == Version::V2_4;
        let (key_id, system_id) = (system.key_id.to_string(), system.system_id.to_string());
        let attributes = [
            ("kid", Some(key_id.as_str())),
            ("systemId", Some(system_id.as_str())),
            ("name", system.name.as_deref()),
            ("HLSAllowedCPC", system.allowed_cpc.as_deref().filter(|_| newest)),
        ];
        self.open("cpix:DRMSystem", &attributes);
        self.optional("cpix:PSSH", system.pssh.as_ref());
        if let Some(data) = &system.content_protection {
            let robustness = system.robustness.as_deref().filter(|_| newest);
            self.text("cpix:ContentProtectionData", &[("robustness", robustness)], data);
        }
        self.optional("cpix:URIExtXKey", system.key_uri.as_ref());
        for signal in &system.hls {
            let playlist = Some(signal.playlist.name());
            self.text("cpix:HLSSignalingData", &[("playlist", playlist)], &signal.text);
        }
        self.optional("cpix:SmoothStreamingProtectionHeaderData", system.smooth.as_ref());
        if self.version == Version::Speke1 {
            self.optional("speke:KeyFormat", system.key_format.as_ref());
            self.optional("speke:KeyFormatVersions", system.key_format_versions.as_ref());
            self.optional("speke:ProtectionHeader", system.protection_header.as_ref());
        }
        self.close("cpix:DRMSystem");
    }

    fn period(&mut self, period: &KeyPeriod) {
        let newest = |value: &'_ Option<String>| value.clone().filter(|_| self.version == Version::V2_4);
        let index = period.index.map(|index| index.to_string());
        let (label, start_offset) = (newest(&period.label), newest(&period.start_offset));
        let (end_offset, duration) = (newest(&period.end_offset), newest(&period.duration));
        let attributes = [
            ("id", Some(period.id.as_str())),
            ("index", index.as_deref()),
            ("label", label.as_deref()),
            ("start", period.start.as_deref()),
            ("end", period.end.as_deref()),
            ("startOffset", start_offset.as_deref()),
            ("endOffset", end_offset.as_deref()),
            ("duration", duration.as_deref()),
        ];
        self.empty("cpix:ContentKeyPeriod", &attributes);
    }

    fn rule(&mut self, rule: &UsageRule) {
        let key_id = rule.key_id.to_string();
        let track_type = rule.track_type.as_ref().map(|track_type| track_type.name());
        let attributes = [("kid", Some(key_id.as_str())), ("intendedTrackType", track_type)];
        self.open("cpix:ContentKeyUsageRule", &attributes);
        // The schema's order of types; filters of one type keep theirs.
        let mut filters: Vec<&Filter> = rule.filters.iter().collect();
        filters.sort_by_key(|filter| match filter {
            Filter::KeyPeriod(_) => 0,
            Filter::Label(_) => 1,
            Filter::Video { .. } => 2,
            Filter::Audio { .. } => 3,
            Filter::Bitrate(_) => 4,
        });
        for filter in filters {
            self.filter(filter);
        }
        self.close("cpix:ContentKeyUsageRule");
    }

    fn filter(&mut self, filter: &Filter) {
        match filter {
            Filter::KeyPeriod(id) => self.empty("cpix:KeyPeriodFilter", &[("periodId", Some(id))]),
            Filter::Label(label) => self.empty("cpix:LabelFilter", &[("label", Some(label))]),
            Filter::Video {
                pixels,
                frames_per_second,
                hdr,
                wide_colour,
            } => {
                let (pixels, fps) = (ends(pixels), ends(frames_per_second));
                let flag = |flag: &Option<bool>| flag.map(|flag| if flag { "true" } else { "false" });
                let attributes = [
                    ("minPixels", pixels.0.as_deref()),
                    ("maxPixels", pixels.1.as_deref()),
                    ("hdr", flag(hdr)),
                    ("wcg", flag(wide_colour)),
                    ("minFps", fps.0.as_deref()),
                    ("maxFps", fps.1.as_deref()),
                ];
                self.empty("cpix:VideoFilter", &attributes);
            }
            Filter::Audio { channels } => {
                let (min, max) = ends(channels);
                let attributes = [("minChannels", min.as_deref()), ("maxChannels", max.as_deref())];
                self.empty("cpix:AudioFilter", &attributes);
            }
            Filter::Bitrate(bounds) => {
                let (min, max) = ends(bounds);
                let attributes = [("minBitrate", min.as_deref()), ("maxBitrate", max.as_deref())];
                self.empty("cpix:BitrateFilter", &attributes);
            }
        }
    }
}

fn ends(bounds: &Bounds) -> (Option<String>, Option<String>) {
    let text = |end: Option<u64>| end.map(|end| end.to_string());
    (text(bounds.min), text(bounds.max))
}
