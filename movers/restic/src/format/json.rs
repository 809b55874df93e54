//! JSON as Go's `encoding/json` and `strconv.Quote` write it, byte for byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::printable::is_printable;

/// Appends a number in decimal.
pub(crate) fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        if let Some(digit) = digits.get_mut(first) {
            *digit = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// Appends a string, quoted. What is not UTF-8 becomes U+FFFD, byte by byte.
pub(crate) fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if bytes.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                write_char(out, character);
            }
            // One for every byte: Go looks at them one by one.
            for _ in chunk.invalid() {
                out.extend_from_slice(b"\\ufffd");
            }
        }
    }
    out.push(b'"');
}

/// ASCII that stands for itself.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

fn write_char(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // Go keeps them out of HTML and JavaScript.
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            write_escape(out, "\\u", u32::from(character), 4);
        }
        _ => {
            let mut buffer = [0; 4];
            out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

fn write_escape(out: &mut Vec<u8>, lead: &str, code: u32, digits: u32) {
    out.extend_from_slice(lead.as_bytes());
    for digit in (0..digits).rev() {
        let value = code >> (4 * digit) & 15;
        out.push(char::from_digit(value, 16).map_or(b'0', |digit| digit as u8));
    }
}

/// Appends bytes as a quoted string in Base64.
pub(crate) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// What Base64 stands for; `None` if it is none.
pub(crate) fn parse_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Appends a name as `strconv.Quote` would write it, without its quotes, as a JSON string.
pub(crate) fn write_name(out: &mut Vec<u8>, name: &[u8]) {
    if name.iter().all(|byte| is_plain(*byte)) {
        out.push(b'"');
        out.extend_from_slice(name);
        out.push(b'"');
    } else {
        write_string(out, &quote(name));
    }
}

/// Go's `strconv.Quote`, without the quotes.
pub(crate) fn quote(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 16);
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\u{7}' => out.extend_from_slice(b"\\a"),
                '\u{8}' => out.extend_from_slice(b"\\b"),
                '\u{c}' => out.extend_from_slice(b"\\f"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\u{b}' => out.extend_from_slice(b"\\v"),
                ' '..='~' => out.push(character as u8),
                '\0'..='\u{7f}' => write_escape(&mut out, "\\x", u32::from(character), 2),
                _ if is_printable(character) => {
                    let mut buffer = [0; 4];
                    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                }
                '\u{80}'..='\u{ffff}' => write_escape(&mut out, "\\u", u32::from(character), 4),
                _ => write_escape(&mut out, "\\U", u32::from(character), 8),
            }
        }
        for byte in chunk.invalid() {
            write_escape(&mut out, "\\x", u32::from(*byte), 2);
        }
    }
    out
}

/// Go's `strconv.Unquote` of the same, given without the quotes; `None` if it is malformed.
pub(crate) fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut letters = escape.chars();
        if letters.next() != Some('\\') {
            return None;
        }
        let letter = letters.next()?;
        rest = letters.as_str();
        let digits = match letter {
            'a' => Err(7),
            'b' => Err(8),
            'f' => Err(12),
            'n' => Err(b'\n'),
            'r' => Err(b'\r'),
            't' => Err(b'\t'),
            'v' => Err(11),
            '\\' | '"' => Err(letter as u8),
            'x' => Ok((2, 16)),
            'u' => Ok((4, 16)),
            'U' => Ok((8, 16)),
            '0'..='7' => {
                rest = escape.get(1..)?;
                Ok((3, 8))
            }
            _ => return None,
        };
        match digits {
            Err(byte) => out.push(byte),
            Ok((count, radix)) => {
                let (digits, behind) = rest.split_at_checked(count)?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                let code = u32::from_str_radix(digits, radix).ok()?;
                rest = behind;
                if count == 2 || radix == 8 {
                    out.push(u8::try_from(code).ok()?);
                } else {
                    let mut buffer = [0; 4];
                    let character = char::from_u32(code)?;
                    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                }
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_string(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    /// What Go 1.26 prints for these.
    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(string(b"a<b>&c"), r#""a\u003cb\u003e\u0026c""#);
        assert_eq!(string(b"\x00\x08\x0c\n\r\t\x1f\x7f"), "\"\\u0000\\b\\f\\n\\r\\t\\u001f\x7f\"");
        assert_eq!(string(b"\"\\\xff\xe2\x82x"), r#""\"\\\ufffd\ufffd\ufffdx""#);
        assert_eq!(string("\u{e4}\u{2028}".as_bytes()), "\"\u{e4}\\u2028\"");
    }

    #[test]
    fn names_are_quoted_as_go_does() {
        let quoted = |name: &[u8]| String::from_utf8(quote(name)).unwrap();
        assert_eq!(quoted(b"\x07\x0b\x1b\x7f\xff\""), r#"\a\v\x1b\x7f\xff\""#);
        assert_eq!(
            quoted("\u{a0}\u{e4}\u{200b}\u{e0001}".as_bytes()),
            "\\u00a0\u{e4}\\u200b\\U000e0001"
        );
    }

    #[test]
    fn malformed_names_are_none() {
        for bad in
            [r"\", r"\q", r"\x1", r"\xgg", r"\ud800", "\"", r"\U00110000", r"\400", r"\x+1", "a\nb"]
        {
            assert_eq!(unquote(bad), None, "{bad}");
        }
        assert_eq!(unquote(r"\101\u00e4").unwrap(), "A\u{e4}".as_bytes());
    }

    proptest! {
        #[test]
        fn names_come_back(name in proptest::collection::vec(any::<u8>(), 0..40), text in ".*") {
            for name in [&name[..], text.as_bytes()] {
                let quoted = String::from_utf8(quote(name)).unwrap();
                prop_assert_eq!(unquote(&quoted).unwrap(), name);
                let mut json = Vec::new();
                write_name(&mut json, name);
                prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), quoted);
            }
        }

        #[test]
        fn nothing_panics(text in ".*") {
            unquote(&text);
        }
    }
}
