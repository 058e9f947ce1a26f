//! XML: a bounded document as a tree of elements, without document types, CDATA or entities of its own.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// Bytes of a document: 128 keys for four systems take a quarter of it.
pub(crate) const DOCUMENT_SIZE_BYTES_MAX: usize = 2 << 20;
/// Elements inside each other; CPIX needs nine.
const DEPTH_MAX: usize = 16;
/// Elements of a document.
const ELEMENT_COUNT_MAX: usize = 16_384;
/// Attributes of an element.
const ATTRIBUTE_COUNT_MAX: usize = 32;

/// An element.
#[derive(Debug, Default)]
pub(crate) struct Element {
    /// Namespace name, empty without one.
    pub namespace: String,
    /// Local name.
    pub name: String,
    /// Attributes without a prefix, in order. Namespace declarations and those of other namespaces are left out.
    pub attributes: Vec<(String, String)>,
    /// Elements inside it.
    pub children: Vec<Element>,
    /// Its own text.
    pub text: String,
}

/// Why a document is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Larger than any that is read.
    #[error("a document of more than {DOCUMENT_SIZE_BYTES_MAX} bytes")]
    TooLarge,
    /// Too many elements, too many inside each other, or too many attributes.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// What XML has and these documents do not.
    #[error("{0} are refused")]
    Refused(&'static str),
    /// Not XML.
    #[error("not well-formed XML at byte {0}")]
    Malformed(u64),
}

impl Element {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first child of this namespace and name.
    pub fn child(&self, namespace: &str, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.is(namespace, name))
    }

    /// Whether it has this name.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// The first element of this namespace and name inside it, at any depth.
    pub fn descendant(&self, namespace: &str, name: &str) -> Option<&Element> {
        // Calls itself no deeper than DEPTH_MAX lets a document be.
        self.children.iter().find_map(|child| match child.is(namespace, name) {
            true => Some(child),
            false => child.descendant(namespace, name),
        })
    }
}

/// Reads a whole document.
pub(crate) fn read(bytes: &[u8]) -> Result<Element, XmlError> {
    if bytes.len() > DOCUMENT_SIZE_BYTES_MAX {
        return Err(XmlError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| XmlError::Malformed(error.valid_up_to() as u64))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut element_count = 0;
    loop {
        let offset = reader.buffer_position();
        let malformed = || XmlError::Malformed(offset);
        match reader.read_resolved_event().map_err(|_| malformed())? {
            (namespace, Event::Start(start)) => {
                element_count += 1;
                if element_count > ELEMENT_COUNT_MAX {
                    return Err(XmlError::TooMany("elements"));
                }
                if open.len() == DEPTH_MAX {
                    return Err(XmlError::TooMany("elements inside each other"));
                }
                if root.is_some() {
                    return Err(malformed());
                }
                let namespace = match namespace {
                    ResolveResult::Bound(namespace) => namespace.into_inner().to_owned(),
                    ResolveResult::Unbound => String::new(),
                    ResolveResult::Unknown(_) => return Err(malformed()),
                };
                open.push(start_of(&start, namespace, offset)?);
            }
            (_, Event::End(_)) => {
                let element = open.pop().ok_or_else(malformed)?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => root = Some(element),
                }
            }
            (_, Event::Text(characters)) => match open.last_mut() {
                Some(element) => element.text += &characters.xml10_content(),
                None if characters.trim_ascii().is_empty() => {}
                None => return Err(malformed()),
            },
            (_, Event::GeneralRef(reference)) => {
                let element = open.last_mut().ok_or_else(malformed)?;
                match reference.resolve_char_ref().map_err(|_| malformed())? {
                    Some(character) => element.text.push(character),
                    None => match resolve_predefined_entity(&reference) {
                        Some(text) => element.text += text,
                        None => return Err(XmlError::Refused("entities")),
                    },
                }
            }
            (_, Event::CData(_)) => return Err(XmlError::Refused("CDATA sections")),
            (_, Event::DocType(_)) => return Err(XmlError::Refused("document types")),
            (_, Event::PI(_)) => return Err(XmlError::Refused("processing instructions")),
            (_, Event::Eof) => break,
            (_, Event::Empty(_) | Event::Comment(_) | Event::Decl(_)) => {}
        }
    }
    match (root, open.is_empty()) {
        (Some(root), true) => Ok(root),
        _ => Err(XmlError::Malformed(bytes.len() as u64)),
    }
}

fn start_of(start: &BytesStart<'_>, namespace: String, offset: u64) -> Result<Element, XmlError> {
    let mut attributes = Vec::new();
    for (count, attribute) in start.attributes().enumerate() {
        let attribute = attribute.map_err(|_| XmlError::Malformed(offset))?;
        if count == ATTRIBUTE_COUNT_MAX {
            return Err(XmlError::TooMany("attributes"));
        }
        if attribute.key.as_namespace_binding().is_some() || attribute.key.prefix().is_some() {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.map_err(|_| XmlError::Malformed(offset))?.into_owned();
        attributes.push((attribute.key.into_inner().to_owned(), value));
    }
    Ok(Element {
        namespace,
        name: start.local_name().into_inner().to_owned(),
        attributes,
        ..Element::default()
    })
}

/// Text of an element or of an attribute in double quotes; control characters, which XML has no place for, are left out.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => {}
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_and_the_rest_is_refused() {
        let root = read(b"<a:x xmlns:a='urn:a' p='1 &amp; 2'><y xmlns='urn:b'> t&#65;&lt; </y><!-- c --><z/></a:x>\n");
        let root = root.unwrap();
        assert!(root.is("urn:a", "x"));
        assert_eq!(root.attribute("p"), Some("1 & 2"));
        assert_eq!(root.child("urn:b", "y").map(|y| y.text.trim()), Some("tA<"));
        assert!(root.child("", "z").is_some());

        let check = |text: &str, expected: XmlError| assert_eq!(read(text.as_bytes()).unwrap_err(), expected, "{text}");
        check("<!DOCTYPE a><a/>", XmlError::Refused("document types"));
        check(
            "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
            XmlError::Refused("document types"),
        );
        check("<a>&e;</a>", XmlError::Refused("entities"));
        check("<a><![CDATA[x]]></a>", XmlError::Refused("CDATA sections"));
        check("<?php x?><a/>", XmlError::Refused("processing instructions"));
        check(&"<a>".repeat(17), XmlError::TooMany("elements inside each other"));
        check(
            &format!("<a>{}</a>", "<b/>".repeat(20_000)),
            XmlError::TooMany("elements"),
        );
        let many: String = (0..40).map(|n| format!(" a{n}='1'")).collect();
        check(&format!("<a{many}/>"), XmlError::TooMany("attributes"));
        check(
            &format!("<a{}/>", many.replace(" a", " xmlns:a")),
            XmlError::TooMany("attributes"),
        );
        assert!(read("\u{feff}<?xml version='1.0'?><a/>".as_bytes()).is_ok());
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<p:a/>",
            "<a b='1' b='2'/>",
            "<a b='&e;'/>",
            "\u{feff}",
            "<a/>x",
        ] {
            assert!(matches!(read(text.as_bytes()), Err(XmlError::Malformed(_))), "{text}");
        }
        assert!(read(&vec![b' '; DOCUMENT_SIZE_BYTES_MAX + 1]).is_err());
        assert!(read(b"<a>\xff</a>").is_err());
    }
}
