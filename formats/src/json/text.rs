//! JSON's texts, a byte at a time: escapes, surrogate pairs, and UTF-8 that comes in pieces.

use super::super::error::Fault;

/// The longest text that a format knows is 24 bytes ("backing depth 4294967295").
const KEPT: usize = 40;

/// What is kept of a text while it comes in.
pub(crate) trait Keep {
    /// A text begins.
    fn clear(&mut self);
    /// Adds one character, or the digit of a number.
    fn push(&mut self, character: &[u8]);
    /// What is kept. It is made of whole characters.
    fn text(&self) -> &str;
    /// Whether that is all of it.
    fn is_whole(&self) -> bool;
}

/// The beginning of a text, as far as a list of extents needs it.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    bytes: [u8; KEPT],
    length: usize,
    whole: bool,
}

impl Buffer {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; KEPT], length: 0, whole: true }
    }
}

impl Keep for Buffer {
    fn clear(&mut self) {
        self.length = 0;
        self.whole = true;
    }

    /// Nothing more is added once a character did not fit.
    fn push(&mut self, character: &[u8]) {
        let end = self.length + character.len();
        match self.bytes.get_mut(self.length..end) {
            Some(room) if self.whole => {
                room.copy_from_slice(character);
                self.length = end;
            }
            _ => self.whole = false,
        }
    }

    fn text(&self) -> &str {
        self.bytes.get(..self.length).and_then(|kept| std::str::from_utf8(kept).ok()).unwrap_or_default()
    }

    fn is_whole(&self) -> bool {
        self.whole
    }
}

/// All of a text: for input whose size is limited by somebody else.
impl Keep for String {
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn push(&mut self, character: &[u8]) {
        self.push_str(std::str::from_utf8(character).unwrap_or_default());
    }

    fn text(&self) -> &str {
        self
    }

    fn is_whole(&self) -> bool {
        true
    }
}

/// How far into a text the bytes have come.
#[derive(Clone, Copy, Debug)]
enum State {
    Plain,
    /// Within a character of more than one byte: the bytes so far, how many, and how many there are to be.
    Character([u8; 4], usize, usize),
    /// Behind a backslash.
    Escape,
    /// Behind \u and some hexadecimal digits.
    Hex(u16, u8),
}

/// A text in the making.
#[derive(Clone, Debug)]
pub(super) struct Text {
    state: State,
    /// The first half of a surrogate pair, whose second half must follow.
    high: Option<u16>,
}

impl Text {
    /// Behind the opening quote.
    pub(super) const fn new() -> Self {
        Self { state: State::Plain, high: None }
    }

    /// Takes a byte; true when it was the closing quote.
    pub(super) fn step(&mut self, byte: u8, buffer: &mut impl Keep) -> Result<bool, Fault> {
        match self.state {
            State::Plain => return self.plain(byte, buffer),
            State::Character(mut bytes, have, need) => {
                if let Some(place) = bytes.get_mut(have) {
                    *place = byte;
                }
                let come = bytes.get(..=have).unwrap_or_default();
                if have + 1 < need {
                    self.state = State::Character(bytes, have + 1, need);
                } else {
                    std::str::from_utf8(come).map_err(|_| Fault::NotUnicode)?;
                    buffer.push(come);
                    self.state = State::Plain;
                }
            }
            State::Escape => self.escape(byte, buffer)?,
            State::Hex(value, digits) => {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    b'A'..=b'F' => byte - b'A' + 10,
                    found => return Err(Fault::Unexpected { found, expected: "a hexadecimal digit" }),
                };
                let value = value << 4 | u16::from(digit);
                self.state = State::Hex(value, digits + 1);
                if digits == 3 {
                    self.state = State::Plain;
                    self.unit(value, buffer)?;
                }
            }
        }
        Ok(false)
    }

    fn plain(&mut self, byte: u8, buffer: &mut impl Keep) -> Result<bool, Fault> {
        if self.high.is_some() && byte != b'\\' {
            return Err(Fault::NotUnicode);
        }
        match byte {
            b'"' => return Ok(true),
            b'\\' => self.state = State::Escape,
            0..0x20 => return Err(Fault::Unexpected { found: byte, expected: "text" }),
            0x20..0x80 => buffer.push(&[byte]),
            0xc2..=0xdf => self.state = State::Character([byte, 0, 0, 0], 1, 2),
            0xe0..=0xef => self.state = State::Character([byte, 0, 0, 0], 1, 3),
            0xf0..=0xf4 => self.state = State::Character([byte, 0, 0, 0], 1, 4),
            _ => return Err(Fault::NotUnicode),
        }
        Ok(false)
    }

    fn escape(&mut self, byte: u8, buffer: &mut impl Keep) -> Result<(), Fault> {
        let character = match byte {
            b'u' => {
                self.state = State::Hex(0, 0);
                return Ok(());
            }
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            found => return Err(Fault::Unexpected { found, expected: "an escape" }),
        };
        if self.high.is_some() {
            return Err(Fault::NotUnicode);
        }
        self.state = State::Plain;
        buffer.push(&[character]);
        Ok(())
    }

    /// Takes a unit of UTF-16.
    fn unit(&mut self, unit: u16, buffer: &mut impl Keep) -> Result<(), Fault> {
        let code = match (self.high.take(), unit) {
            (None, 0xd800..0xdc00) => {
                self.high = Some(unit);
                return Ok(());
            }
            (None, unit) => u32::from(unit),
            (Some(high), 0xdc00..0xe000) => {
                0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00)
            }
            (Some(_), _) => return Err(Fault::NotUnicode),
        };
        let character = char::from_u32(code).ok_or(Fault::NotUnicode)?;
        buffer.push(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}
