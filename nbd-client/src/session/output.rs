//! The bytes to send: headers, and the payloads of writes as they came from the caller, without a
//! copy.

use alloc::collections::VecDeque;

/// The source of zeroes that are written as data.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
/// Headers that were sent are forgotten together: when no other is left, or this number of bytes.
const SENT_HEADERS: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// None of them is empty.
    pieces: VecDeque<QueuedBytes>,
    /// The headers of all pieces, from `first_header` on: one memory for all of them, which is used
    /// again.
    headers: Vec<u8>,
    first_header: usize,
    /// Bytes of the first piece that were sent.
    sent: usize,
    /// Bytes that are not sent yet.
    pub(super) unsent: u64,
    /// Bytes sent since the session began, and those of them that were payload.
    pub(super) position: u64,
    pub(super) payload_sent: u64,
}

#[derive(Debug)]
pub(super) enum QueuedBytes {
    /// This number of bytes of the queue's headers.
    Headers(usize),
    /// The data of a write.
    Payload(Vec<u8>),
    /// Bytes of the buffer that belongs to a transfer, or that its caller lends with each call.
    Lent { owner: u64, at: usize, length: usize },
    /// This number of zeroes, as the data of a write.
    Zeroes(usize),
}

impl QueuedBytes {
    fn len(&self) -> usize {
        match self {
            Self::Payload(bytes) => bytes.len(),
            Self::Headers(length) | Self::Lent { length, .. } | Self::Zeroes(length) => *length,
        }
    }
}

impl SendQueue {
    /// Appends headers, which are not empty.
    pub(super) fn headers(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.headers.len();
        write(&mut self.headers);
        let written = self.headers.len() - before;
        debug_assert!(written > 0, "no piece is empty");
        self.unsent += written as u64;
        match self.pieces.back_mut() {
            Some(QueuedBytes::Headers(length)) => *length += written,
            _ => self.pieces.push_back(QueuedBytes::Headers(written)),
        }
    }

    /// Zeroes as the payload of the header that was appended last.
    pub(super) fn zeroes(&mut self, length: usize) {
        for start in (0..length).step_by(ZEROES.len()) {
            self.push(QueuedBytes::Zeroes(ZEROES.len().min(length - start)));
        }
    }

    /// The payload of the header that was appended last; it is not empty.
    pub(super) fn push(&mut self, piece: QueuedBytes) {
        self.unsent += piece.len() as u64;
        self.pieces.push_back(piece);
    }

    /// Copies the unsent rest of a lent buffer, which goes away.
    pub(super) fn release(&mut self, released: u64, buffer: &[u8]) {
        for piece in &mut self.pieces {
            if let QueuedBytes::Lent { owner, at, length } = *piece
                && owner == released
            {
                let rest = buffer.get(at..at + length);
                debug_assert!(rest.is_some(), "{length} bytes at {at} of {} lent", buffer.len());
                *piece = QueuedBytes::Payload(rest.unwrap_or_default().to_vec());
            }
        }
    }

    /// The bytes to send, in order; no slice is empty. `lender` returns the buffer
    /// that an owner has lent.
    pub(super) fn slices<'a>(&'a self, lender: impl Fn(u64) -> &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut header = self.first_header;
        let mut skip = self.sent;
        self.pieces.iter().filter_map(move |piece| {
            let bytes = match piece {
                QueuedBytes::Payload(bytes) => Some(bytes.as_slice()),
                &QueuedBytes::Headers(length) => {
                    header += length;
                    self.headers.get(header - length..header)
                }
                &QueuedBytes::Lent { owner, at, length } => lender(owner).get(at..at + length),
                &QueuedBytes::Zeroes(length) => ZEROES.get(..length),
            };
            // only the first piece was sent in part, and none was sent whole
            bytes?.get(core::mem::take(&mut skip)..).filter(|rest| !rest.is_empty())
        })
    }

    /// `count` more bytes were sent; `keep` gets the memory of payloads that are through.
    pub(super) fn advance(&mut self, count: usize, mut keep: impl FnMut(Vec<u8>)) {
        debug_assert!(count as u64 <= self.unsent, "more was sent than there was");
        self.position += count as u64;
        self.unsent = self.unsent.saturating_sub(count as u64);
        let mut left = count;
        while let Some(first) = self.pieces.front() {
            let now = left.min(first.len() - self.sent);
            self.payload_sent += if matches!(first, QueuedBytes::Headers(_)) { 0 } else { now as u64 };
            self.sent += now;
            left -= now;
            if self.sent < first.len() {
                return;
            }
            self.sent = 0;
            match self.pieces.pop_front() {
                Some(QueuedBytes::Payload(bytes)) => keep(bytes),
                Some(QueuedBytes::Headers(length)) => self.drop_headers(length),
                _ => {}
            }
        }
    }

    /// The first `length` bytes of headers were sent.
    fn drop_headers(&mut self, length: usize) {
        self.first_header += length;
        if self.first_header >= SENT_HEADERS.min(self.headers.len()) {
            self.headers.drain(..self.first_header);
            self.first_header = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> SendQueue {
        let mut output = SendQueue::default();
        output.headers(|tail| tail.extend(b"ab"));
        output.push(QueuedBytes::Payload(b"cde".to_vec()));
        output.push(QueuedBytes::Lent { owner: 7, at: 1, length: 2 });
        output.headers(|tail| tail.extend(b"h"));
        output.zeroes(ZEROES.len() + 2);
        output.push(QueuedBytes::Payload(b"f".to_vec()));
        output.headers(|tail| tail.extend(b"gh"));
        output
    }

    #[test]
    fn whatever_the_pieces_the_bytes_are_the_same_and_payloads_come_back() {
        let expected = [b"abcdeyzh".as_slice(), &vec![0; ZEROES.len() + 2], b"fgh"].concat();
        for piece in [1, 2, 3, 5, 7, 1000, 1 << 20] {
            let mut output = filled();
            let (mut seen, mut kept) = (Vec::new(), Vec::new());
            while output.unsent > 0 {
                let rest = output.slices(|owner| if owner == 7 { b"xyz" } else { b"" }).collect::<Vec<_>>();
                assert!(rest.iter().all(|slice| !slice.is_empty()));
                let first = rest[0];
                let count = piece.min(first.len());
                seen.extend_from_slice(&first[..count]);
                output.advance(count, |bytes| kept.push(bytes));
            }
            assert!(seen == expected, "pieces of {piece}");
            assert_eq!(output.position, expected.len() as u64);
            assert_eq!(output.payload_sent, 3 + 2 + ZEROES.len() as u64 + 2 + 1);
            assert_eq!(kept, [b"cde".to_vec(), b"f".to_vec()]);
        }
    }

    /// A system call sends few slices at a time, so headers in a row are one.
    #[test]
    fn headers_in_a_row_are_one_slice_and_forgotten_together() {
        let mut output = SendQueue::default();
        for header in [b"ab", b"cd", b"ef"] {
            output.headers(|tail| tail.extend(header));
        }
        output.push(QueuedBytes::Payload(b"g".to_vec()));
        output.headers(|tail| tail.extend(b"hi"));
        assert!(output.slices(|_| &[]).eq([&b"abcdef"[..], b"g", b"hi"]));
        output.advance(7, drop);
        assert_eq!((output.first_header, output.headers.len()), (6, 8));
        output.advance(2, drop);
        assert_eq!((output.first_header, output.headers.len()), (0, 0));
    }

    /// One write of the transport may end anywhere, several pieces after the one in which it began.
    #[test]
    fn a_count_may_span_pieces() {
        let mut output = filled();
        output.advance(3, drop);
        output.advance(4, drop);
        assert_eq!(output.slices(|_| b"xyz").next(), Some(&b"h"[..]));
    }

    #[test]
    fn a_lent_buffer_that_goes_away_is_copied() {
        let mut output = filled();
        output.advance(6, drop);
        output.release(7, b"xyz");
        assert_eq!(output.slices(|_| &[]).next(), Some(&b"z"[..]));
    }
}
