//! Text that a server wrote, made safe to print.
//!
//! Error messages, descriptions and names come from the peer. Printed raw, they could move the
//! cursor, forge a line of a log or reverse the reading order. They are therefore escaped once,
//! here, and everywhere else only the safe form exists.

use core::fmt;

/// Text of a server: decoded lossily, capped at [`ServerText::MAX`] bytes, control characters
/// escaped.
///
/// `Display` prints one line and never a control character (C0, C1, DEL), a line separator or a
/// character that changes the direction of the text.
///
/// ```
/// use nbd_client::text::ServerText;
///
/// let text = ServerText::new(b"no\x1b[2Jsuch\nexport");
/// assert_eq!(text.to_string(), r"no\u{1b}[2Jsuch\nexport");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerText(Box<str>);

impl ServerText {
    /// The most bytes of a server's text that are looked at: the protocol's own limit of a string
    /// (NBD protocol, "Protocol phases").
    pub const MAX: usize = 4096;

    /// Makes bytes of the peer printable. Bytes beyond [`Self::MAX`] are dropped.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let capped = bytes.get(..Self::MAX).unwrap_or(bytes);
        let mut safe = String::with_capacity(capped.len());
        for c in String::from_utf8_lossy(capped).chars() {
            if must_escape(c) {
                safe.extend(c.escape_default());
            } else {
                safe.push(c);
            }
        }
        Self(safe.into_boxed_str())
    }

    /// The safe text; empty if the server sent none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `: text`, or nothing when there is no text: the tail of an error message.
    pub(crate) fn tail(&self) -> String {
        if self.0.is_empty() { String::new() } else { format!(": {self}") }
    }
}

impl fmt::Display for ServerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ServerText {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

/// Control characters, and the invisible ones that reorder or hide text.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_40_text_that_is_not_utf8_is_decoded_lossily() {
        assert_eq!(ServerText::new(b"bad \xff byte").as_str(), "bad \u{fffd} byte");
    }

    #[test]
    fn controls_bidi_and_newlines_are_escaped() {
        let hostile = "a\u{202e}b\u{85}c\u{7f}d\re\u{2028}f\u{2066}g";
        let safe = ServerText::from(hostile);
        assert_eq!(safe.as_str(), r"a\u{202e}b\u{85}c\u{7f}d\re\u{2028}f\u{2066}g");
        assert!(!safe.as_str().chars().any(must_escape));
    }

    #[test]
    fn text_is_capped_also_inside_a_character() {
        let long = "é".repeat(4000);
        let safe = ServerText::from(long.as_str());
        assert!(safe.as_str().chars().count() <= 2048);
    }
}
