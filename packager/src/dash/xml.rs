//! An append-only XML writer: elements close themselves, text and attribute values can not leave their place.

/// Writes one document into a buffer.
#[derive(Debug, Default)]
pub(super) struct XmlWriter {
    out: Vec<u8>,
    depth: usize,
}

/// An element whose start tag is still open for attributes.
#[derive(Debug)]
pub(super) struct StartTag<'a> {
    writer: &'a mut XmlWriter,
    name: &'static str,
}

impl XmlWriter {
    pub(super) fn document(capacity_bytes: usize) -> XmlWriter {
        let mut out = Vec::with_capacity(capacity_bytes);
        out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        XmlWriter { out, depth: 0 }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    fn indent(&mut self) {
        for _ in 0..self.depth {
            self.out.push(b' ');
        }
    }

    /// Begins an element; it ends with [`StartTag::empty`], [`StartTag::text`] or [`StartTag::children`].
    pub(super) fn element(&mut self, name: &'static str) -> StartTag<'_> {
        self.indent();
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        StartTag { writer: self, name }
    }

    /// A comment; two hyphens can not stand in one (XML 1.0 2.5).
    pub(super) fn comment(&mut self, text: &str) {
        self.indent();
        self.out.extend_from_slice(b"<!-- ");
        self.out.extend_from_slice(text.replace("--", "- -").as_bytes());
        self.out.extend_from_slice(b" -->\n");
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.out.extend_from_slice(b"&amp;"),
                '<' => self.out.extend_from_slice(b"&lt;"),
                '>' => self.out.extend_from_slice(b"&gt;"),
                '"' => self.out.extend_from_slice(b"&quot;"),
                // Line breaks in attributes would be read back as spaces; other control characters are not XML at all.
                control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => self.out.push(b' '),
                _ => self
                    .out
                    .extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

impl StartTag<'_> {
    fn open_attribute(&mut self, name: &str) {
        self.writer.out.push(b' ');
        self.writer.out.extend_from_slice(name.as_bytes());
        self.writer.out.extend_from_slice(b"=\"");
    }

    pub(super) fn attribute(mut self, name: &str, value: &str) -> Self {
        self.open_attribute(name);
        self.writer.escaped(value);
        self.writer.out.push(b'"');
        self
    }

    pub(super) fn number(mut self, name: &str, value: u64) -> Self {
        self.open_attribute(name);
        self.writer
            .out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.writer.out.push(b'"');
        self
    }

    /// Two numbers with something between them: `16:9`, `24000/1001`, `0-831`.
    pub(super) fn pair(mut self, name: &str, (first, between, second): (u64, u8, u64)) -> Self {
        self.open_attribute(name);
        self.writer
            .out
            .extend_from_slice(itoa::Buffer::new().format(first).as_bytes());
        self.writer.out.push(between);
        self.writer
            .out
            .extend_from_slice(itoa::Buffer::new().format(second).as_bytes());
        self.writer.out.push(b'"');
        self
    }

    pub(super) fn optional(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.attribute(name, value),
            None => self,
        }
    }

    pub(super) fn empty(self) {
        self.writer.out.extend_from_slice(b"/>\n");
    }

    pub(super) fn text(self, text: &str) {
        self.writer.out.push(b'>');
        self.writer.escaped(text);
        self.close();
    }

    pub(super) fn children(self, write: impl FnOnce(&mut XmlWriter)) {
        self.writer.out.extend_from_slice(b">\n");
        self.writer.depth += 1;
        write(self.writer);
        self.writer.depth -= 1;
        self.writer.indent();
        self.close();
    }

    fn close(self) {
        self.writer.out.extend_from_slice(b"</");
        self.writer.out.extend_from_slice(self.name.as_bytes());
        self.writer.out.extend_from_slice(b">\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_can_not_leave_their_place() {
        let mut writer = XmlWriter::document(64);
        writer
            .element("A")
            .attribute("b", "\"<&>'\n\u{0}")
            .number("c", 7)
            .pair("d", (16, b':', 9))
            .children(|w| {
                w.element("T").text("a<b>&\"");
                w.element("E").optional("x", None).optional("y", Some("1")).empty();
                w.comment("two -- hyphens");
            });
        let text = String::from_utf8(writer.finish()).unwrap();
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <A b=\"&quot;&lt;&amp;&gt;'  \" c=\"7\" d=\"16:9\">\n <T>a&lt;b&gt;&amp;&quot;</T>\n <E y=\"1\"/>\n \
            <!-- two - - hyphens -->\n</A>\n";
        assert_eq!(text, expected);
    }
}
