//! FairPlay's key URI: vendors disagree on it, so it is made from a template.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::KeyId;

/// The template that most servers take.
pub const TEMPLATE: &str = "skd://{kid}";

/// What is wrong with a URI template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner, or a name in braces that is not one of ours.
    #[error("a URI template may hold {{kid}}, {{kid_hex}}, {{kid_base64}} and {{iv}}, and no other braces")]
    Placeholder,
    /// `{iv}` where no initialisation vector is known.
    #[error("a URI template asks for {{iv}} where there is none")]
    NoIv,
    /// Quotes, spaces and control characters stand in no URI.
    #[error("a URI template holds a character that no URI has")]
    Character,
}

/// Fills in `{kid}` (a UUID), `{kid_hex}` (32 digits), `{kid_base64}` and `{iv}` (32 capital digits).
pub fn fill(template: &str, key_id: KeyId, iv: Option<[u8; 16]>) -> Result<String, TemplateError> {
    if template
        .chars()
        .any(|character| character.is_control() || character.is_whitespace() || "\"<>\\^`".contains(character))
    {
        return Err(TemplateError::Character);
    }
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(TemplateError::Placeholder)?;
        push_literal(&mut out, before)?;
        match name {
            "kid" => out += &key_id.to_string(),
            "kid_hex" => out += &key_id.hex(),
            "kid_base64" => STANDARD.encode_string(key_id.0, &mut out),
            "iv" => out += &KeyId(iv.ok_or(TemplateError::NoIv)?).hex().to_ascii_uppercase(),
            _ => return Err(TemplateError::Placeholder),
        }
        rest = after;
    }
    push_literal(&mut out, rest)?;
    Ok(out)
}

fn push_literal(out: &mut String, text: &str) -> Result<(), TemplateError> {
    if text.contains('}') {
        return Err(TemplateError::Placeholder);
    }
    *out += text;
    Ok(())
}
