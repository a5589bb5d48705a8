//! The pieces of work between the thread that plans and the lanes that move them: bounded, so that
//! a plan never runs far ahead.

use alloc::collections::VecDeque;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::transport::{Canceller, Waker};

/// The most pieces that wait.
const CAPACITY: usize = 1024;
/// How often a thread that waits looks whether the job is over.
const LOOK: Duration = Duration::from_millis(100);

/// A part of a step, short enough for a request or two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    pub(super) task: PieceTask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceTask {
    /// Read it, and write it.
    Copy,
    /// Make it read as zero.
    Zero {
        /// It may lose its space.
        may_unmap: bool,
    },
}

/// Pieces that wait for a lane.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// A piece has come or gone, or the queue has been closed.
    changed: Condvar,
    /// Ends the connections of the survey, once the job has failed: nothing more is started.
    pub(super) over: Canceller,
    /// The last piece that was added has filled the queue.
    was_filled: AtomicBool,
}

#[derive(Debug, Default)]
struct QueueState {
    whole: VecDeque<Piece>,
    /// Pieces that are no whole blocks of the target. One lane does them one after the other, since
    /// two of them may share a block.
    ragged: VecDeque<Piece>,
    /// The thread that plans waits for room.
    is_awaited: bool,
    /// No more pieces come.
    is_closed: bool,
    /// Lanes that found no piece and are waiting for a server.
    hungry: Vec<usize>,
    /// All lanes, as far as they can be woken.
    wakers: Vec<(usize, Waker)>,
}

impl QueueState {
    fn is_full(&self) -> bool {
        self.whole.len() + self.ragged.len() >= CAPACITY
    }

    /// The waker of a lane.
    fn waker(&self, lane: usize) -> Option<Waker> {
        self.wakers.iter().find(|(other, _)| *other == lane).map(|(_, waker)| waker.clone())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to wake a lane that waits for a server.
    pub(super) fn register(&self, lane: usize, waker: Waker) {
        self.lock().wakers.push((lane, waker));
    }

    /// Ends the job early.
    pub(super) fn stop(&self) {
        self.over.cancel();
        self.wake_all();
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    fn wake_all(&self) {
        let wakers = self.lock().wakers.clone();
        self.changed.notify_all();
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// True while a piece would have to wait for room.
    pub(super) fn is_full(&self) -> bool {
        // the thread that adds pieces is the one that asks: before most pieces it need not lock
        self.was_filled.load(Ordering::Relaxed) && self.lock().is_full() && !self.is_over()
    }

    /// Adds a piece, when there is room for it. `false` when the job is over.
    pub(super) fn push(&self, piece: Piece, is_ragged: bool) -> bool {
        let mut state = self.lock();
        while state.is_full() && !self.is_over() {
            state.is_awaited = true;
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        let was_empty = state.whole.is_empty();
        if is_ragged { &mut state.ragged } else { &mut state.whole }.push_back(piece);
        self.was_filled.store(state.is_full(), Ordering::Relaxed);
        // the first lane does the ragged pieces, and a hungry one the others
        let hungry = if is_ragged { Some(0) } else { state.hungry.pop() };
        let waker = hungry.and_then(|lane| state.waker(lane));
        drop(state);
        if was_empty || is_ragged {
            self.changed.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        !self.is_over()
    }

    /// Says that no more pieces come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake_all();
    }

    /// Waits for `time`, or until the job is over.
    pub(super) fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut state = self.lock();
        while !self.is_over() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state =
                self.changed.wait_timeout(state, left.min(LOOK)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Moves up to `room` pieces to a lane. A lane that gets none is woken when there is one.
    pub(super) fn take(&self, lane: usize, room: usize, pieces: &mut VecDeque<Piece>) {
        let mut state = self.lock();
        let count = room.min(state.whole.len());
        pieces.extend(state.whole.drain(..count));
        if count < room && !state.hungry.contains(&lane) {
            state.hungry.push(lane);
        }
        // not for each piece: to wake a thread costs more than a piece does
        let has_room = state.is_awaited && state.whole.len() <= CAPACITY / 2;
        state.is_awaited &= !has_room;
        drop(state);
        if has_room {
            self.changed.notify_all();
        }
    }

    /// The next ragged piece.
    pub(super) fn take_ragged(&self) -> Option<Piece> {
        self.lock().ragged.pop_front()
    }

    /// True if no piece will come for a lane any more.
    pub(super) fn is_done(&self, takes_ragged: bool) -> bool {
        let state = self.lock();
        state.is_closed && state.whole.is_empty() && (!takes_ragged || state.ragged.is_empty())
    }

    /// Waits a little for a piece, where a lane cannot be woken.
    pub(super) fn wait(&self) {
        let state = self.lock();
        if state.whole.is_empty() && !state.is_closed {
            drop(self.changed.wait_timeout(state, LOOK));
        }
    }
}
