//! The ranges that a pass has not yet read: pieces in order, each in one of four states.
//!
//! ```text
//! read        |<- front                                              end ->|
//! ============|  answered  | asked | asked | answered |   open   | settled |
//!               readable                     waits for the two before it
//! ```
//!
//! Replies come in any order; an answered piece waits until all pieces before it have been read.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::mem;
use core::ops::Range;

use super::layer::Answer;
use super::request::RequestId;
use super::window::ReplyLayers;
use crate::status::Status;

/// A range of bytes that share a state.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    /// The status of the whole range known from elsewhere: the bitmaps, when the details are
    /// requested separately.
    pub(super) known: Answer,
    pub(super) state: PieceState,
}

#[derive(Clone, Debug)]
pub(super) enum PieceState {
    /// Nothing to request: the known status is final.
    Settled,
    /// Still to be requested.
    Open,
    /// Part of the request with this id.
    Asked(RequestId),
    /// Described by a reply, which other pieces may share.
    Answered(Arc<ReplyLayers>),
}

impl Piece {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, PieceState::Open)
    }

    /// The request that covers the piece, while that is in flight.
    pub(super) fn asked_in(&self) -> Option<RequestId> {
        match self.state {
            PieceState::Asked(id) => Some(id),
            _ => None,
        }
    }

    fn is_asked(&self, id: RequestId) -> bool {
        self.asked_in() == Some(id)
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, PieceState::Settled | PieceState::Answered(_))
    }

    /// True if `next`, which follows, can be joined to this piece.
    fn goes_on_in(&self, next: &Self) -> bool {
        let alike = matches!(
            (&self.state, &next.state),
            (PieceState::Open, PieceState::Open) | (PieceState::Settled, PieceState::Settled)
        );
        alike && self.range.end == next.range.start && self.known == next.known
    }
}

/// The pieces of one pass, in order and disjoint. A gap is a range that the pass has not been given
/// yet.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    list: VecDeque<Piece>,
}

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Piece> {
        self.list.iter()
    }

    /// Adds a range after all others, joined to the last piece if both are alike.
    pub(super) fn push(&mut self, range: Range<u64>, known: Answer, state: PieceState) {
        if range.is_empty() {
            return;
        }
        let piece = Piece { range, known, state };
        match self.list.back_mut() {
            Some(last) if last.goes_on_in(&piece) => last.range.end = piece.range.end,
            _ => self.list.push_back(piece),
        }
    }

    /// Takes the first piece if it can be read.
    pub(super) fn pop_ready(&mut self) -> Option<Piece> {
        if self.list.front()?.is_ready() { self.list.pop_front() } else { None }
    }

    /// The index of the first open piece, and whether an earlier piece is awaited.
    pub(super) fn first_open(&self) -> Option<(usize, bool)> {
        let place = self.list.iter().position(Piece::is_open)?;
        let awaits = self.list.iter().take(place).any(|piece| !piece.is_ready());
        Some((place, awaits))
    }

    /// The offset of the first byte without an answer, or the end when all are answered.
    pub(super) fn unanswered(&self) -> Option<u64> {
        let missing = self.list.iter().find(|piece| !piece.is_ready());
        missing.map(|piece| piece.range.start).or_else(|| self.list.back().map(|last| last.range.end))
    }

    /// True if all bytes before this request have been answered.
    pub(super) fn is_first(&self, id: RequestId) -> bool {
        self.list.iter().find(|piece| !piece.is_ready()).is_some_and(|piece| piece.is_asked(id))
    }

    /// The end of a request that starts with the piece at `place` and must end at `most` or before.
    ///
    /// The request covers that piece and, if `joins` is set, the open pieces that follow it without
    /// a gap, or with settled pieces of at most `over` bytes in between. `None` if there is no such
    /// piece.
    pub(super) fn span_end(&self, place: usize, most: u64, joins: bool, over: u64) -> Option<u64> {
        let mut rest = self.list.iter().skip(place);
        let first = rest.next()?;
        let mut span = first.range.clone();
        for next in rest.take_while(|_| joins) {
            let gap = next.range.start.saturating_sub(span.end);
            let reachable = next.range.start < most && gap <= over;
            match next.state {
                PieceState::Open if reachable => span.end = next.range.end,
                PieceState::Settled if reachable => {}
                _ => break,
            }
        }
        Some(span.end.min(most))
    }

    /// Marks the open bytes from the piece at `place` up to `end` as requested.
    pub(super) fn ask(&mut self, place: usize, end: u64, id: RequestId) {
        let mut place = place;
        while let Some(piece) = self.list.get_mut(place).filter(|piece| piece.range.start < end) {
            if piece.is_open() {
                self.mark(place, end, PieceState::Asked(id));
            }
            place += 1;
        }
    }

    /// The bytes that a request still asks about, and the end of the bytes that its reply may also
    /// answer.
    ///
    /// The first range reaches from the request's first piece to its last. The reply may also
    /// answer the open piece right after it, if the same status is known of both.
    pub(super) fn in_question(&self, id: RequestId) -> Option<(Range<u64>, u64)> {
        let first = self.list.iter().position(|piece| piece.is_asked(id))?;
        let last = self.list.iter().rposition(|piece| piece.is_asked(id))?;
        let (start, last_piece) = (self.list.get(first)?.range.start, self.list.get(last)?);
        let end = last_piece.range.end;
        let after = self
            .list
            .get(last + 1)
            .filter(|next| next.is_open() && next.range.start == end && next.known == last_piece.known);
        Some((start..end, after.map_or(end, |next| next.range.end)))
    }

    /// Gives the pieces of a request an answer that holds up to `end`. The request ends at `asked`;
    /// its bytes beyond `end` are open again.
    pub(super) fn answer(&mut self, id: RequestId, asked: u64, end: u64, layers: &Arc<ReplyLayers>) {
        let (mut place, mut short) = (0, false);
        let mut known = None;
        let last = asked.max(end);
        while let Some(piece) = self.list.get(place).filter(|piece| piece.range.start < last) {
            // an open piece right after an answered one, with the same known status
            let follows =
                piece.is_open() && known.is_some_and(|known| known == (piece.range.start, piece.known));
            let asked = piece.is_asked(id);
            if (asked || follows) && piece.range.start < end {
                known = Some((piece.range.end, piece.known));
                self.mark(place, end, PieceState::Answered(Arc::clone(layers)));
            } else {
                known = None;
                short |= asked;
            }
            place += 1;
        }
        if short {
            self.reopen(id);
        }
    }

    /// Opens all pieces of this request again.
    pub(super) fn reopen(&mut self, id: RequestId) {
        for piece in &mut self.list {
            if piece.is_asked(id) {
                piece.state = PieceState::Open;
            }
        }
        self.join_open();
    }

    /// Gives all pieces of this request the safe status, without an answer. Returns their bytes.
    pub(super) fn settle(&mut self, id: RequestId, safe: Status) -> u64 {
        let mut bytes = 0;
        for piece in &mut self.list {
            if piece.is_asked(id) {
                piece.state = PieceState::Settled;
                piece.known = piece.known.combine(safe);
                bytes += piece.range.end - piece.range.start;
            }
        }
        bytes
    }

    /// Opens the last answered piece after this request again, so that the payload of its answer can
    /// be freed. Returns `false` if there is none.
    pub(super) fn reopen_last_after(&mut self, id: RequestId) -> bool {
        let mut after = self.list.iter_mut().rev().take_while(|piece| !piece.is_asked(id));
        let Some(last) = after.find(|piece| matches!(piece.state, PieceState::Answered(_))) else {
            return false;
        };
        last.state = PieceState::Open;
        self.join_open();
        true
    }

    /// The pieces after the last one of this request.
    pub(super) fn after(&self, id: RequestId) -> impl Iterator<Item = &Piece> {
        self.list.iter().rev().take_while(move |piece| !piece.is_asked(id))
    }

    /// Joins open neighbours that were split for requests.
    fn join_open(&mut self) {
        for Piece { range, known, state } in mem::take(&mut self.list) {
            self.push(range, known, state);
        }
    }

    /// Gives the bytes of a piece before `end` this state; the others become a piece of their own.
    fn mark(&mut self, place: usize, end: u64, state: PieceState) {
        let Some(piece) = self.list.get_mut(place) else { return };
        let rest = Piece { range: end..piece.range.end, ..piece.clone() };
        (piece.range.end, piece.state) = (piece.range.end.min(end), state);
        if !rest.range.is_empty() {
            self.list.insert(place + 1, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settled bytes are asked again only between open ones that the request reaches.
    #[test]
    fn a_span_ends_before_settled_bytes_that_nothing_open_follows() {
        let mut pieces = Pieces::default();
        let known = Answer::new(Status::UNKNOWN);
        pieces.push(0..100, known, PieceState::Open);
        pieces.push(100..200, known, PieceState::Settled);
        pieces.push(200..300, known, PieceState::Open);
        assert_eq!(pieces.span_end(0, 200, true, 100), Some(100), "the next open one is out of reach");
        assert_eq!(pieces.span_end(0, 300, true, 100), Some(300));
        assert_eq!(pieces.span_end(0, 300, true, 99), Some(100));
        assert_eq!(pieces.span_end(0, 300, false, 100), Some(100));
    }
}
