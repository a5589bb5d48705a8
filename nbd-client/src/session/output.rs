//! What is to be sent: headers, and the payloads of writes as they came from the caller, without a copy.

use alloc::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Output {
    /// Complete pieces, none of them empty, in order.
    parts: VecDeque<Part>,
    /// Headers behind all of them.
    tail: Vec<u8>,
    /// Bytes of the first piece that were sent.
    sent: usize,
    /// Bytes of the pieces.
    held: usize,
}

#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    is_payload: bool,
}

impl Output {
    /// Where the next header goes.
    pub(super) fn headers(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// The payload of the header that was put in last; it is not empty.
    pub(super) fn payload(&mut self, bytes: Vec<u8>) {
        let headers = core::mem::take(&mut self.tail);
        self.held = self.held.saturating_add(headers.len()).saturating_add(bytes.len());
        if !headers.is_empty() {
            self.parts.push_back(Part { bytes: headers, is_payload: false });
        }
        self.parts.push_back(Part { bytes, is_payload: true });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.tail.is_empty()
    }

    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> u64 {
        self.held.saturating_add(self.tail.len()) as u64
    }

    /// What is not sent yet, in order; no slice is empty.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.parts.iter().map(|part| part.bytes.as_slice()).chain([self.tail.as_slice()]);
        let unsent = pieces
            .enumerate()
            .map(|(nth, piece)| piece.get(if nth == 0 { self.sent } else { 0 }..).unwrap_or_default());
        unsent.filter(|piece| !piece.is_empty())
    }

    /// `count` more bytes were sent; `spare` gets the memory of payloads that are through.
    pub(super) fn advance(&mut self, count: usize, mut spare: impl FnMut(Vec<u8>)) {
        self.sent = self.sent.saturating_add(count);
        while self.parts.front().is_some_and(|first| self.sent >= first.bytes.len()) {
            let Some(first) = self.parts.pop_front() else { break };
            self.sent -= first.bytes.len();
            self.held = self.held.saturating_sub(first.bytes.len());
            if first.is_payload {
                spare(first.bytes);
            }
        }
        if self.parts.is_empty() && self.sent >= self.tail.len() {
            self.sent = 0;
            self.tail.clear();
        }
    }

    /// All of it in one piece.
    pub(super) fn take(&mut self) -> Vec<u8> {
        if self.parts.is_empty() && self.sent == 0 {
            return core::mem::take(&mut self.tail);
        }
        let whole = self.slices().collect::<Vec<_>>().concat();
        *self = Self::default();
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Output {
        let mut output = Output::default();
        output.headers().extend(b"ab");
        output.payload(b"cde".to_vec());
        output.payload(b"f".to_vec());
        output.headers().extend(b"gh");
        output
    }

    #[test]
    fn whatever_the_pieces_the_bytes_are_the_same_and_payloads_come_back() {
        for piece in 1..=8 {
            let mut output = filled();
            let (mut seen, mut spare) = (Vec::new(), Vec::new());
            while !output.is_empty() {
                let rest = output.slices().collect::<Vec<_>>().concat();
                let count = piece.min(rest.len());
                seen.extend_from_slice(&rest[..count]);
                output.advance(count, |bytes| spare.push(bytes));
            }
            assert_eq!((seen.as_slice(), output.held()), (&b"abcdefgh"[..], 0), "pieces of {piece}");
            assert_eq!(spare, [b"cde".to_vec(), b"f".to_vec()]);
        }
        assert_eq!(filled().take(), b"abcdefgh");
    }
}
