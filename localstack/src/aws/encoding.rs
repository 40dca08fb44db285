//! Percent-encoding as URLs, forms and signatures use it.

/// Percent-encodes everything but unreserved characters and those in `keep`.
#[must_use]
pub fn encode(bytes: &[u8], keep: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// Whether `+` stands for a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    Space,
    Literal,
}

/// Undoes [`encode`]. `None` for a broken escape.
#[must_use]
pub fn decode(text: &str, plus: Plus) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| {
                    char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
                };
                digit(bytes.next())? << 4 | digit(bytes.next())?
            }
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    Some(out)
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 as lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let text = "a b+c/ü%=&~";
        let encoded = encode(text.as_bytes(), b"");
        assert_eq!(encoded, "a%20b%2Bc%2F%C3%BC%25%3D%26~");
        assert_eq!(decode(&encoded, Plus::Literal).unwrap(), text.as_bytes());
    }

    #[test]
    fn a_broken_escape_decodes_to_nothing() {
        for broken in ["%", "%4", "a%zz"] {
            assert_eq!(decode(broken, Plus::Space), None, "{broken}");
        }
        assert_eq!(decode("a+b", Plus::Space).unwrap(), b"a b");
    }
}
