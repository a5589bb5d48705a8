//! What a pass has to do, from the first byte that was not read yet: pieces in order, each in one of four states.
//!
//! ```text
//! read        |<- front                                              end ->|
//! ============|  answered  | asked | asked | answered |   open   | settled |
//!               readable                     waits for the two before it
//! ```
//!
//! Answers come in any order; the pieces keep them until all before them has come.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::ops::Range;

use super::layer::Answer;
use super::request::RequestId;
use super::window::Told;
use crate::status::Status;

/// A range of bytes that share a state.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    /// What is known of all of it from elsewhere: the bitmaps, when the details are asked apart.
    pub(super) known: Answer,
    pub(super) state: PieceState,
}

#[derive(Clone, Debug)]
pub(super) enum PieceState {
    /// There is nothing to ask: what is known from elsewhere is all that is wanted.
    Settled,
    /// To be asked.
    Open,
    /// In the request with this id.
    Asked(RequestId),
    /// Described by a reply, which it may share with other pieces.
    Answered(Arc<Told>),
}

impl Piece {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, PieceState::Open)
    }

    /// The request that it is in, while that is in flight.
    pub(super) fn asked_in(&self) -> Option<RequestId> {
        match self.state {
            PieceState::Asked(id) => Some(id),
            _ => None,
        }
    }

    fn is_asked(&self, id: RequestId) -> bool {
        matches!(self.state, PieceState::Asked(other) if other == id)
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, PieceState::Settled | PieceState::Answered(_))
    }

    /// Whether `next`, which follows, is more of the same.
    fn goes_on_in(&self, next: &Self) -> bool {
        let alike = matches!(
            (&self.state, &next.state),
            (PieceState::Open, PieceState::Open) | (PieceState::Settled, PieceState::Settled)
        );
        alike && self.range.end == next.range.start && self.known == next.known
    }
}

/// The pieces of one pass, in order. They do not overlap; only where a range has not been handed to the pass yet is there a gap.
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

    /// Adds a range behind all others, joined to the last piece where that is the same.
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

    /// The place of the first piece that is to be asked, and whether an earlier one is awaited.
    pub(super) fn first_open(&self) -> Option<(usize, bool)> {
        let place = self.list.iter().position(Piece::is_open)?;
        let awaits = self.list.iter().take(place).any(|piece| !piece.is_ready());
        Some((place, awaits))
    }

    /// Where the first byte lies that has not been answered: the end when all have.
    pub(super) fn unanswered(&self) -> Option<u64> {
        let missing = self.list.iter().find(|piece| !piece.is_ready());
        missing.map(|piece| piece.range.start).or_else(|| self.list.back().map(|last| last.range.end))
    }

    /// Whether all before this request has been answered.
    pub(super) fn is_first(&self, id: RequestId) -> bool {
        self.list.iter().find(|piece| !piece.is_ready()).is_some_and(|piece| piece.is_asked(id))
    }

    /// Where a request ends that starts with the piece at `place` and must end at `most`: it asks about that piece and, when `joins` says
    /// so, the open ones that follow without a gap, or with settled pieces of at most `over` bytes in between. `None` without such a piece.
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

    /// Marks what is open from the piece at `place` up to `end` as asked.
    pub(super) fn ask(&mut self, place: usize, end: u64, id: RequestId) {
        let mut place = place;
        while let Some(piece) = self.list.get_mut(place).filter(|piece| piece.range.start < end) {
            if piece.is_open() {
                self.split(place, end);
                self.set(place, PieceState::Asked(id));
            }
            place += 1;
        }
    }

    /// The bytes of a request that are in question, from its first piece to its last, and the end of what an answer may describe besides: the
    /// open piece right behind, if no more is known of it than of the last.
    pub(super) fn in_question(&self, id: RequestId) -> Option<(Range<u64>, u64)> {
        let first = self.list.iter().position(|piece| piece.is_asked(id))?;
        let last = self.list.iter().rposition(|piece| piece.is_asked(id))?;
        let (start, last_piece) = (self.list.get(first)?.range.start, self.list.get(last)?);
        let end = last_piece.range.end;
        let behind = self
            .list
            .get(last + 1)
            .filter(|next| next.is_open() && next.range.start == end && next.known == last_piece.known);
        Some((start..end, behind.map_or(end, |next| next.range.end)))
    }

    /// Gives the pieces of a request, which end at `asked`, their answer, which is good up to `end`; what lies behind is open again.
    pub(super) fn answer(&mut self, id: RequestId, asked: u64, end: u64, told: &Arc<Told>) {
        let (mut place, mut short) = (0, false);
        let mut known = None;
        let last = asked.max(end);
        while let Some(piece) = self.list.get(place).filter(|piece| piece.range.start < last) {
            // what is behind the request, and like it
            let follows =
                piece.is_open() && known.is_some_and(|known| known == (piece.range.start, piece.known));
            let asked = piece.is_asked(id);
            if (asked || follows) && piece.range.start < end {
                known = Some((piece.range.end, piece.known));
                self.split(place, end);
                self.set(place, PieceState::Answered(Arc::clone(told)));
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

    /// All that was asked in this request is open again.
    pub(super) fn reopen(&mut self, id: RequestId) {
        for piece in &mut self.list {
            if piece.is_asked(id) {
                piece.state = PieceState::Open;
            }
        }
        self.join_open();
    }

    /// Gives all that was asked in this request the safe status, without an answer. Returns how many bytes that are.
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

    /// Opens the last answered piece behind this request again. `false` when there is none.
    pub(super) fn reopen_last_behind(&mut self, id: RequestId) -> bool {
        for piece in self.list.iter_mut().rev() {
            if piece.is_asked(id) {
                return false;
            }
            if matches!(piece.state, PieceState::Answered(_)) {
                piece.state = PieceState::Open;
                self.join_open();
                return true;
            }
        }
        false
    }

    /// The pieces behind the last of this request.
    pub(super) fn behind(&self, id: RequestId) -> impl Iterator<Item = &Piece> {
        self.list.iter().rev().take_while(move |piece| !piece.is_asked(id))
    }

    /// Joins open neighbours again that were split for requests.
    fn join_open(&mut self) {
        let mut place = 1;
        while let (Some(one), Some(next)) = (self.list.get(place - 1), self.list.get(place)) {
            if one.is_open() && one.goes_on_in(next) {
                let end = next.range.end;
                self.list.remove(place);
                self.list.range_mut(place - 1..place).for_each(|one| one.range.end = end);
            } else {
                place += 1;
            }
        }
    }

    fn set(&mut self, place: usize, state: PieceState) {
        if let Some(piece) = self.list.get_mut(place) {
            piece.state = state;
        }
    }

    /// Cuts the piece at `place` in two where `end` lies within it.
    fn split(&mut self, place: usize, end: u64) {
        let Some(piece) = self.list.get_mut(place) else { return };
        if piece.range.start < end && end < piece.range.end {
            let behind = Piece { range: end..piece.range.end, ..piece.clone() };
            piece.range.end = end;
            self.list.insert(place + 1, behind);
        }
    }
}
