//! HTTP/2 frames as bytes, good and bad ones alike (RFC 9113 4.1).

/// The connection preface, then an empty SETTINGS frame.
pub const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Frame types (RFC 9113 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = payload.len() as u32;
    let mut bytes = size.to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header field in HPACK: a literal without indexing, nothing compressed (RFC 7541 6.2.2).
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // A prefix of seven bits; longer texts go on in bytes of seven bits (RFC 7541 5.1).
        let mut size = text.len();
        if size < 127 {
            bytes.push(size as u8);
        } else {
            bytes.push(127);
            size -= 127;
            while size >= 128 {
                bytes.push((size % 128) as u8 | 128);
                size /= 128;
            }
            bytes.push(size as u8);
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// The header block of a GET.
pub fn request(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "load"),
    ];
    fields.map(|(name, value)| field(name, value)).concat()
}
