//! What a coded bit stream says of itself: parameter sets, headers, RFC 6381 strings.
