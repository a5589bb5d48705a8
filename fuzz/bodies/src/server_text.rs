//! `server_text`: the input is text of a server, and the payload of an error chunk. Asserts that
//! its printed form has no control character, no line break and nothing that turns the direction of
//! the text, is bounded, and stays the same when it is escaped again.

use nbd_client::frame::{ErrorChunk, ErrorChunkFault};
use nbd_client::text::ServerText;

pub fn server_text(data: &[u8]) {
    safe(&ServerText::new(data));
    for kind in [0x8001, 0x8002, 0x8099] {
        error_chunk(kind, data);
    }
}

fn safe(text: &ServerText) {
    let shown = text.to_string();
    assert_eq!(shown, text.as_str());
    assert_printable(&shown);
    // one byte becomes at most six, as in `\u{1b}`
    assert!(shown.len() <= 6 * ServerText::MAX);
    // a longer one would be capped again
    if shown.len() <= ServerText::MAX {
        assert_eq!(ServerText::from(shown.as_str()), *text);
    }
}

/// The payload of an error chunk: the error (4 bytes), the length of the message (2), the message; and
/// with kind 0x8002 an offset (8). Bytes after that are counted as slop.
fn error_chunk(kind: u16, data: &[u8]) {
    let offset_len = if kind == 0x8002 { 8 } else { 0 };
    match ErrorChunk::decode(kind, data, data.len() as u64) {
        Ok(chunk) => {
            let message_len = usize::from(u16::from_be_bytes([data[4], data[5]]));
            assert_eq!(chunk.errno.to_be_bytes(), data[..4]);
            assert_eq!(chunk.text, ServerText::new(&data[6..6 + message_len]));
            assert_eq!(chunk.offset.is_some(), offset_len > 0);
            assert_eq!(6 + message_len as u64 + offset_len + chunk.slop, data.len() as u64);
            safe(&chunk.text);
        }
        Err(ErrorChunkFault::TooShort) => assert!((data.len() as u64) < 6 + offset_len),
        Err(ErrorChunkFault::MessageTooLong { claimed, room }) => {
            assert_eq!(claimed, u16::from_be_bytes([data[4], data[5]]));
            assert!(room < u64::from(claimed));
        }
    }
}

/// Fails unless a terminal can show `text` without harm.
#[track_caller]
pub fn assert_printable(text: &str) {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if let Some(found) = text.chars().find(|&c| harmful(c)) {
        panic!("{found:?} in {text:?}");
    }
}
