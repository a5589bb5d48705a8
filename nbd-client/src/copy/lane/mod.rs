//! One lane of a copy: a connection to the source and one to the target, driven by one thread.
//!
//! A block goes from the read to the write in the same buffer and the same thread, so a request
//! costs no wait for another thread. Nothing is asked for that has no room in memory.

mod answers;
mod begin;

use alloc::collections::VecDeque;
use core::ops::Range;
use std::io::ErrorKind;
use std::time::Instant;

use super::queue::{Piece, Queue};
use super::{CopyError, CopyMonitor};
use crate::client::{BlockingDriver, Client};
use crate::connection::{Connection, Lent, Transfer, in_memory};
use crate::error::Error;
use crate::frame::{During, Headers};
use crate::number_map::NumberMap;
use crate::pipeline::PipelineOptions;
use crate::session::{BufferPool, Cookie, Event, RequestInfo};
use crate::transport::{Ready, Socket, Transport as _};

/// The state of a copy that all lanes share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared<'a> {
    pub(super) queue: &'a Queue,
    pub(super) monitor: &'a CopyMonitor,
}

#[derive(Debug)]
pub(super) struct Lane {
    number: usize,
    source: BlockingDriver<Socket>,
    target: BlockingDriver<Socket>,
    /// The target's context of allocation, if it has one.
    allocation: Option<u32>,
    target_headers: Headers,
    target_size: u64,
    target_block: u64,
    options: PipelineOptions,
    verify: bool,
    /// Pieces taken from the queue and not begun.
    pieces: VecDeque<Piece>,
    /// Zeroes that were written and are to be read back.
    checks: VecDeque<Range<u64>>,
    reads: NumberMap<Cookie, Read>,
    writes: NumberMap<Cookie, Write>,
    /// Bytes of the buffers in use.
    held: u64,
    /// The time at which the last wait ended; the lane takes it as now until the next wait ends.
    now: Instant,
    /// A piece with a part of one of the target's blocks is under way.
    is_ragged: bool,
}

/// A request to the source.
#[derive(Debug)]
struct Read {
    range: Range<u64>,
    is_ragged: bool,
}

/// A request to the target.
#[derive(Debug)]
enum Write {
    /// Data, with a copy of them if they are to be read back. Of a block that was read before only
    /// `part` bytes are new.
    Data {
        range: Range<u64>,
        kept: Option<Vec<u8>>,
        part: Option<u64>,
    },
    Zero {
        range: Range<u64>,
    },
    /// Which parts of a range that is to be zero are zero already.
    Status {
        range: Range<u64>,
        zeroes: Vec<Range<u64>>,
    },
    /// The whole blocks around a part that is to be written with these bytes.
    Block {
        block: Range<u64>,
        start: u64,
        bytes: Vec<u8>,
    },
    /// A written range is read back: these bytes, or zeroes.
    Check {
        range: Range<u64>,
        expected: Option<Vec<u8>>,
    },
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

impl Lane {
    pub(super) fn new(
        number: usize,
        mut source: Client,
        mut target: Client,
        options: PipelineOptions,
        verify: bool,
    ) -> Self {
        // what was written is the memory of the next reads
        let buffers = BufferPool::default();
        source.io.connection.use_buffers(&buffers);
        target.io.connection.use_buffers(&buffers);
        let export = target.export();
        let allocation = export.context("base:allocation").map(|context| context.id);
        let (target_headers, target_size) = (export.headers, export.size());
        let target_block = export.minimum_block();
        let options =
            options.within(source.io.connection.limits().lower(target.io.connection.limits()), u32::MAX);
        Self {
            number,
            allocation,
            target_headers,
            target_size,
            target_block,
            source: source.io,
            target: target.io,
            options,
            verify,
            pieces: VecDeque::new(),
            checks: VecDeque::new(),
            reads: NumberMap::default(),
            writes: NumberMap::default(),
            held: 0,
            now: Instant::now(),
            is_ragged: false,
        }
    }

    /// Moves pieces until no more come.
    pub(super) fn run(&mut self, shared: Shared<'_>) -> Result<(), CopyError> {
        let waker = self
            .source
            .mover
            .0
            .waker()
            .map_err(|source| CopyError::Source(Error::io(During::Connect, source)))?;
        if let Some(waker) = &waker {
            shared.queue.register(self.number, waker.clone());
        }
        self.now = Instant::now();
        loop {
            self.take_target_events(shared)?;
            self.take_source_events(shared)?;
            if let Some(waker) = &waker {
                // before the last look for work: work that comes after that look ends the wait
                waker.will_wait();
            }
            self.begin_pieces(shared)?;
            if shared.queue.is_over() {
                return Ok(());
            }
            if self.in_flight() == 0 {
                if shared.queue.is_done(self.number == 0) {
                    return Ok(());
                }
                if waker.is_none() {
                    shared.queue.wait();
                }
            }
            // also where nothing is awaited: a connection may be lost, or its time be over
            self.exchange(shared)?;
        }
    }

    /// Makes the writes of all lanes durable: their last answers are there.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if !self.target.connection.export().is_some_and(|export| export.flags.can_flush()) {
            return Ok(());
        }
        // this lane's last wait may have ended long before those of the others
        self.target.connection.begin(None, Transfer::new(RequestInfo::FLUSH), Instant::now())?;
        while let Some(event) = self.target.next_event(&mut Lent::default())? {
            if let Event::Failed { error, .. } = event {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Says goodbye. A server that closes badly harms nothing: every answer is there.
    pub(super) fn disconnect(&mut self) {
        self.source.disconnect().ok();
        self.target.disconnect().ok();
    }

    fn in_flight(&self) -> usize {
        self.reads.len() + self.writes.len()
    }

    fn handle_timeouts(&mut self, now: Instant) -> Result<(), CopyError> {
        self.source.connection.handle_timeout(now).map_err(CopyError::Source)?;
        self.target.connection.handle_timeout(now).map_err(CopyError::Target)
    }

    // ---- bytes

    /// Sends whatever can be sent, waits for a server or a piece, and reads the bytes that are
    /// there.
    fn exchange(&mut self, shared: Shared<'_>) -> Result<(), CopyError> {
        let lent = &mut Lent::default();
        self.source.send(lent).map_err(|error| self.source_error(error))?;
        self.target.send(lent).map_err(|error| self.target_error(error))?;
        let has_last_events =
            |connection: &Connection| connection.has_said_goodbye() && !connection.is_idle();
        if has_last_events(&self.source.connection) || has_last_events(&self.target.connection) {
            return Ok(());
        }
        let [source, target] = self.wait()?;
        // that of the last wait: what is late now was given time until then
        let before = core::mem::replace(&mut self.now, Instant::now());
        // The target first: its buffers are needed for the next reads. It is asked in any case,
        // since not all of its answers are waited for.
        if target.read || cfg!(unix) && !self.writes.is_empty() {
            while self.target.receive_now().map_err(|error| self.target_error(error))? {
                self.take_target_events(shared)?;
            }
            self.take_target_events(shared)?;
        }
        if source.read {
            while self.source.receive_now().map_err(|error| self.source_error(error))? {
                self.take_source_events(shared)?;
            }
            self.take_source_events(shared)?;
        }
        // Only now: an answer in the socket is progress. Reads that wait tell of it themselves.
        if cfg!(unix) || self.in_flight() == 0 { self.handle_timeouts(before) } else { Ok(()) }
    }

    /// Waits for either server or a piece, until the time of one is over.
    fn wait(&mut self) -> Result<[Ready; 2], CopyError> {
        let waits_for_target = self.waits_for_target();
        let Self { source, target, .. } = self;
        source.set_deadline().map_err(CopyError::Source)?;
        target.set_deadline().map_err(CopyError::Target)?;
        let [wanted, others] = [(&*source, true), (&*target, waits_for_target)].map(|(driver, waits)| {
            Ready { read: waits && driver.connection.in_flight() > 0, write: driver.connection.has_output() }
        });
        match source.mover.0.wait_either(wanted, &mut target.mover.0, others) {
            Ok(ready) => Ok(ready),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                Ok([Ready { read: true, write: false }; 2])
            }
            Err(error) if target.mover.0.canceller().is_cancelled() => {
                target.failed(error).map_err(CopyError::Target)
            }
            Err(error) => source.failed(error).map_err(CopyError::Source),
        }
    }

    /// True if an answer of the target is worth waking up for: while the source is busy with more
    /// requests, the answers to writes are taken along with its own. Data that come from the target
    /// are taken at once, since they do not fit into the buffer of its socket.
    fn waits_for_target(&self) -> bool {
        self.writes.len() >= self.reads.len() || self.verify || self.is_ragged
    }

    fn source_error(&self, error: Error) -> CopyError {
        CopyError::Source(self.source.connection.transfers.reason(error))
    }

    fn target_error(&self, error: Error) -> CopyError {
        CopyError::Target(self.target.connection.transfers.reason(error))
    }
}
