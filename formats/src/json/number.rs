//! The grammar of JSON's numbers, a byte at a time. Their value is read from the kept text, where a format wants a whole number.

use super::super::error::Fault;

/// How far into a number the bytes have come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Number {
    /// The state behind the first byte: a digit or a minus.
    pub(super) const fn starting_with(byte: u8) -> Self {
        match byte {
            b'-' => Self::Minus,
            b'0' => Self::Zero,
            _ => Self::Whole,
        }
    }

    /// Whether the number may end here.
    pub(super) const fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }

    /// Takes a byte, or says that the number has ended before it.
    pub(super) const fn step(&mut self, byte: u8) -> Result<bool, Fault> {
        *self = match (*self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus | Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, b'0'..=b'9') => Self::Power,
            (state, _) if state.is_whole() => return Ok(false),
            (_, found) => return Err(Fault::Unexpected { found, expected: "a digit" }),
        };
        Ok(true)
    }
}
