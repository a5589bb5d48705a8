//! JSON, a token at a time, from bytes in pieces of any size. Strict as RFC 8259 has it, and sized for lists of extents: whole numbers are exact, what
//! is kept of a text is bounded, and nesting is limited, so that no input can make it hold more than its own size.

mod number;
mod quote;
mod text;

use super::error::{Fault, Position, ReadError};
use number::Number;
pub(super) use quote::Quoted;
use text::{Buffer, Keep, Text};

/// How deep arrays and objects may nest. The formats need four levels; the rest is for fields that are passed over.
pub(super) const MAX_DEPTH: u8 = 16;

/// A token. Texts are cut to what lists of extents need, unless all of them is [kept](Tokens::whole_texts).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    BeginObject,
    EndObject,
    BeginArray,
    EndArray,
    Key(Kept<'a>),
    Text(Kept<'a>),
    Number(Kept<'a>),
    Bool(bool),
    Null,
}

/// What is kept of a text or a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kept<'a> {
    text: &'a str,
    /// Whether that is all of it.
    whole: bool,
}

impl<'a> Kept<'a> {
    /// The text, unless it is longer than anything that a format knows.
    pub(super) fn known(self) -> Option<&'a str> {
        self.whole.then_some(self.text)
    }
}

/// A token and where it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lexed<'a> {
    pub(super) at: Position,
    pub(super) token: Token<'a>,
}

/// A token whose text is still in the buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    BeginObject,
    EndObject,
    BeginArray,
    EndArray,
    Key,
    Text,
    Number,
    Bool(bool),
    Null,
}

/// What one byte came to.
enum Step {
    /// The byte is used, and may have ended a token.
    Used(Option<Kind>),
    /// The byte ended a token that it is no part of.
    Unused(Kind),
}

/// What may come next, between tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
    Nothing,
}

impl Expect {
    const fn words(self) -> &'static str {
        match self {
            Self::Value => "a value",
            Self::ValueOrEnd => "a value or ']'",
            Self::KeyOrEnd => "a key or '}'",
            Self::Key => "a key",
            Self::Colon => "':'",
            Self::CommaOrEnd => "',' or the end of the list or object",
            Self::Nothing => "nothing",
        }
    }
}

/// The token that has begun.
#[derive(Clone, Debug)]
enum Within {
    Nothing,
    Key(Text),
    Text(Text),
    Number(Number),
    /// A word, and how much of it has come.
    Word(&'static str, Kind, u8),
}

/// The tokens of one JSON text, or of several, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Tokens<K = Buffer> {
    at: Position,
    /// Where the token in hand began.
    began: Position,
    /// One bit a level, the lowest for the innermost: 1 is an object, 0 an array.
    objects: u32,
    depth: u8,
    many: bool,
    expect: Expect,
    within: Within,
    buffer: K,
}

impl Tokens {
    /// Of one text.
    pub(super) const fn one() -> Self {
        Self::keeping(Buffer::new(), false)
    }

    /// Of any number of texts.
    pub(super) const fn many() -> Self {
        Self::keeping(Buffer::new(), true)
    }
}
impl Tokens<String> {
    /// Of one text whose size the caller limits, with all of the texts in it.
    pub(super) const fn whole_texts() -> Self {
        Self::keeping(String::new(), false)
    }
}

impl<K> Tokens<K> {
    const fn keeping(buffer: K, many: bool) -> Self {
        Self {
            at: Position::START,
            began: Position::START,
            objects: 0,
            depth: 0,
            many,
            expect: Expect::Value,
            within: Within::Nothing,
            buffer,
        }
    }
}

impl<K: Keep> Tokens<K> {
    /// The position of the next byte.
    pub(super) const fn position(&self) -> Position {
        self.at
    }

    /// The next token; takes the bytes that it reads off the front of `input`. `None` when more bytes are needed.
    pub(super) fn next<'t>(&'t mut self, input: &mut &[u8]) -> Result<Option<Lexed<'t>>, ReadError> {
        while let Some((&byte, rest)) = input.split_first() {
            let step = self.step(byte).map_err(|fault| fault.at(self.at))?;
            let kind = match step {
                Step::Unused(kind) => kind,
                Step::Used(kind) => {
                    self.at.step(byte);
                    *input = rest;
                    match kind {
                        Some(kind) => kind,
                        None => continue,
                    }
                }
            };
            return Ok(Some(self.lexed(kind)));
        }
        Ok(None)
    }

    /// The input ends here: a number that only the end could end, then `None`.
    pub(super) fn end(&mut self) -> Result<Option<Lexed<'_>>, ReadError> {
        if let Within::Number(number) = &self.within
            && self.depth == 0
            && number.is_whole()
        {
            self.close_value();
            return Ok(Some(self.lexed(Kind::Number)));
        }
        let expected = match &self.within {
            Within::Nothing if self.depth == 0 && self.expect == Expect::Nothing => return Ok(None),
            Within::Nothing if self.depth == 0 && self.many => return Ok(None),
            Within::Nothing => self.expect.words(),
            Within::Key(_) | Within::Text(_) => "'\"'",
            Within::Number(number) if number.is_whole() => Expect::CommaOrEnd.words(),
            Within::Number(_) => "a digit",
            Within::Word(word, ..) => word,
        };
        Err(Fault::Ended { expected }.at(self.at))
    }

    fn lexed(&self, kind: Kind) -> Lexed<'_> {
        let kept = || Kept { text: self.buffer.text(), whole: self.buffer.is_whole() };
        let token = match kind {
            Kind::BeginObject => Token::BeginObject,
            Kind::EndObject => Token::EndObject,
            Kind::BeginArray => Token::BeginArray,
            Kind::EndArray => Token::EndArray,
            Kind::Key => Token::Key(kept()),
            Kind::Text => Token::Text(kept()),
            Kind::Number => Token::Number(kept()),
            Kind::Bool(value) => Token::Bool(value),
            Kind::Null => Token::Null,
        };
        Lexed { at: self.began, token }
    }

    fn step(&mut self, byte: u8) -> Result<Step, Fault> {
        let ended = match &mut self.within {
            Within::Nothing => return self.begin(byte).map(Step::Used),
            Within::Key(text) => text.step(byte, &mut self.buffer)?.then_some(Kind::Key),
            Within::Text(text) => text.step(byte, &mut self.buffer)?.then_some(Kind::Text),
            Within::Number(number) => {
                if number.step(byte)? {
                    self.buffer.push(&[byte]);
                    return Ok(Step::Used(None));
                }
                self.close_value();
                return Ok(Step::Unused(Kind::Number));
            }
            Within::Word(word, kind, come) => {
                if word.as_bytes().get(usize::from(*come)) != Some(&byte) {
                    return Err(Fault::Unexpected { found: byte, expected: word });
                }
                *come += 1;
                (usize::from(*come) == word.len()).then_some(*kind)
            }
        };
        match ended {
            Some(Kind::Key) => {
                self.within = Within::Nothing;
                self.expect = Expect::Colon;
            }
            Some(_) => self.close_value(),
            None => {}
        }
        Ok(Step::Used(ended))
    }

    /// A byte between tokens.
    fn begin(&mut self, byte: u8) -> Result<Option<Kind>, Fault> {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return Ok(None);
        }
        self.began = self.at;
        let in_object = self.objects & 1 == 1;
        match (self.expect, byte) {
            (Expect::Value | Expect::ValueOrEnd, b'{') => self.open(true).map(Some),
            (Expect::Value | Expect::ValueOrEnd, b'[') => self.open(false).map(Some),
            (Expect::Value | Expect::ValueOrEnd, byte) if self.begin_scalar(byte) => Ok(None),
            (Expect::Key | Expect::KeyOrEnd, b'"') => {
                self.buffer.clear();
                self.within = Within::Key(Text::new());
                Ok(None)
            }
            (Expect::Colon, b':') => {
                self.expect = Expect::Value;
                Ok(None)
            }
            (Expect::CommaOrEnd, b',') => {
                self.expect = if in_object { Expect::Key } else { Expect::Value };
                Ok(None)
            }
            (Expect::KeyOrEnd | Expect::CommaOrEnd, b'}') if in_object => {
                Ok(Some(self.close(Kind::EndObject)))
            }
            (Expect::ValueOrEnd | Expect::CommaOrEnd, b']') if !in_object => {
                Ok(Some(self.close(Kind::EndArray)))
            }
            (expect, found) => Err(Fault::Unexpected { found, expected: expect.words() }),
        }
    }

    /// Begins a text, a number or a word, if the byte is the start of one.
    fn begin_scalar(&mut self, byte: u8) -> bool {
        self.buffer.clear();
        self.within = match byte {
            b'"' => Within::Text(Text::new()),
            b'-' | b'0'..=b'9' => {
                self.buffer.push(&[byte]);
                Within::Number(Number::starting_with(byte))
            }
            b't' => Within::Word("true", Kind::Bool(true), 1),
            b'f' => Within::Word("false", Kind::Bool(false), 1),
            b'n' => Within::Word("null", Kind::Null, 1),
            _ => return false,
        };
        true
    }

    fn open(&mut self, object: bool) -> Result<Kind, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::TooDeep { limit: MAX_DEPTH });
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u32::from(object);
        self.expect = if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
        Ok(if object { Kind::BeginObject } else { Kind::BeginArray })
    }

    const fn close(&mut self, kind: Kind) -> Kind {
        self.depth -= 1; // begin() has seen that one is open
        self.objects >>= 1;
        self.close_value();
        kind
    }

    const fn close_value(&mut self) {
        self.within = Within::Nothing;
        self.expect = match (self.depth, self.many) {
            (0, false) => Expect::Nothing,
            (0, true) => Expect::Value,
            _ => Expect::CommaOrEnd,
        };
    }
}

#[cfg(test)]
mod tests;
