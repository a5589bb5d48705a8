//! Lines of text from bytes in pieces of any size. A line is at most as long as any format needs, so that no input can make it hold more.

use super::error::{Fault, Position, ReadError};

/// The longest line of nbdinfo is 80 bytes; the lists that people write may have blanks.
const LONGEST: usize = 256;

/// A line in the making.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    at: Position,
    /// Where the line in hand begins.
    began: Position,
    bytes: [u8; LONGEST],
    length: usize,
    /// The line in hand has been handed out.
    taken: bool,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { at: Position::START, began: Position::START, bytes: [0; LONGEST], length: 0, taken: false }
    }

    /// Where the line that was handed out last begins.
    pub(super) const fn began(&self) -> Position {
        self.began
    }

    /// The next line without its end; takes the bytes that it reads off the front of `input`. `None` when more bytes are needed.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<&str>, ReadError> {
        if std::mem::take(&mut self.taken) {
            self.length = 0;
            self.began = self.at;
        }
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.at.step(byte);
            if byte == b'\n' {
                self.taken = true;
                return self.text().map(Some);
            }
            let Some(place) = self.bytes.get_mut(self.length) else {
                return Err(Fault::Ended { expected: "the end of a line, which is too long," }.at(self.began));
            };
            *place = byte;
            self.length += 1;
        }
        Ok(None)
    }

    /// What stands behind the last end of line, if anything does.
    pub(super) fn rest(&mut self) -> Result<Option<&str>, ReadError> {
        if std::mem::replace(&mut self.taken, true) || self.length == 0 {
            return Ok(None);
        }
        self.text().map(Some)
    }

    fn text(&self) -> Result<&str, ReadError> {
        let line = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(line).map_err(|_| Fault::NotUnicode.at(self.began))
    }
}

/// The next word of a line, and what follows it.
pub(super) fn word(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches([' ', '\t']);
    if line.is_empty() {
        return None;
    }
    Some(line.split_once([' ', '\t']).unwrap_or((line, "")))
}
