//! One lane of a copy: a connection to the source and one to the target, driven by one thread.
//!
//! A block goes from the read to the write in the same buffer and the same thread, so a request
//! costs no wait for another thread. Nothing is asked for that has no room in memory.

use alloc::collections::VecDeque;
use core::ops::Range;
use std::collections::HashMap;
use std::time::Instant;

use super::queue::{Piece, PieceTask, Queue};
use super::target_status::zero_ranges;
use super::{CopyError, CopyMonitor};
use crate::client::{BlockingDriver, Client};
use crate::connection::{Lent, Transfer, TransferBytes, earlier};
use crate::error::Error;
use crate::frame::{During, Headers};
use crate::pipeline::PipelineOptions;
use crate::session::{Cookie, Event, StatusRequest, TakeAll, WriteRequest, ZeroRequest};
use crate::transport::{Ready, Socket, Transport as _};

/// Zeroes shorter than this are written without a look at the target: the question costs as much.
const WORTH_ASKING: u64 = 64 << 10;

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
    reads: HashMap<Cookie, Read>,
    writes: HashMap<Cookie, Write>,
    /// Bytes of the buffers in use.
    held: u64,
    /// A piece that is no whole blocks of the target is under way.
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
    /// What was written is read back: these bytes, or zeroes.
    Check {
        range: Range<u64>,
        expected: Option<Vec<u8>>,
    },
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

fn in_memory(length: u64) -> usize {
    debug_assert!(usize::try_from(length).is_ok(), "a piece longer than memory");
    usize::try_from(length).unwrap_or(usize::MAX)
}

impl Lane {
    pub(super) fn new(
        number: usize,
        source: Client,
        target: Client,
        options: PipelineOptions,
        verify: bool,
    ) -> Self {
        let export = target.export();
        let allocation = export.context("base:allocation").map(|context| context.id);
        let (target_headers, target_size) = (export.headers, export.size());
        let target_block = export.minimum_block();
        let options = options.within(source.limits().lower(target.limits()));
        Self {
            number,
            allocation,
            target_headers,
            target_size,
            target_block,
            source: source.into_driver(),
            target: target.into_driver(),
            options,
            verify,
            pieces: VecDeque::new(),
            checks: VecDeque::new(),
            reads: HashMap::new(),
            writes: HashMap::new(),
            held: 0,
            is_ragged: false,
        }
    }

    /// Moves pieces until no more come.
    pub(super) fn run(&mut self, shared: Shared<'_>) -> Result<(), CopyError> {
        let waker = self
            .source
            .transport
            .waker()
            .map_err(|source| CopyError::Source(Error::Io { during: During::Connect, source }))?;
        if let Some(waker) = &waker {
            shared.queue.register(self.number, waker.clone());
        }
        loop {
            self.take_events(shared)?;
            if let Some(waker) = &waker {
                // before the last look for work: work that comes after that look ends the wait
                waker.will_wait();
            }
            self.begin_pieces(shared)?;
            if shared.queue.is_over() {
                return Ok(());
            }
            if self.in_flight() > 0 {
                self.exchange()?;
            } else if self.pieces.is_empty() && !self.wait_for_piece(shared)? {
                return Ok(());
            }
        }
    }

    /// Makes the writes of all lanes durable: their last answers are there.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if !self.target.connection.export().is_some_and(|export| export.flags.can_flush()) {
            return Ok(());
        }
        self.target.connection.begin(Transfer::Flush, Instant::now())?;
        while let Some(event) = self.target.next_event(&mut TakeAll, &mut Lent::default())? {
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

    /// Waits for a piece while nothing is in flight. `false` when none will come.
    fn wait_for_piece(&mut self, shared: Shared<'_>) -> Result<bool, CopyError> {
        let connections = [&self.source.connection, &self.target.connection];
        let [source, target] = connections.map(|connection| connection.poll_timeout());
        let goes_on = shared.queue.wait(self.number == 0, earlier(source, target));
        self.handle_timeouts()?;
        Ok(goes_on)
    }

    fn handle_timeouts(&mut self) -> Result<(), CopyError> {
        let now = Instant::now();
        self.source.connection.handle_timeout(now).map_err(CopyError::Source)?;
        self.target.connection.handle_timeout(now).map_err(CopyError::Target)
    }

    // ---- bytes

    /// Sends whatever can be sent, waits for either server or a piece, and reads what is there.
    fn exchange(&mut self) -> Result<(), CopyError> {
        let lent = &mut Lent::default();
        self.source.send(lent).map_err(|error| self.source_error(error))?;
        self.target.send(lent).map_err(|error| self.target_error(error))?;
        let [source, target] = self.wait()?;
        if source.read {
            self.source.receive(lent).map_err(|error| self.source_error(error))?;
        }
        if target.read {
            self.target.receive(lent).map_err(|error| self.target_error(error))?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<[Ready; 2], CopyError> {
        let Self { source, target, .. } = self;
        source.set_deadline().map_err(CopyError::Source)?;
        target.set_deadline().map_err(CopyError::Target)?;
        let [wanted, others] = [&*source, &*target].map(|driver| Ready {
            read: driver.connection.in_flight() > 0,
            write: driver.connection.has_output(),
        });
        match source.transport.wait_either(wanted, &mut target.transport, others) {
            Ok(ready) => Ok(ready),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(<[Ready; 2]>::default()),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                self.handle_timeouts().map(|()| <[Ready; 2]>::default())
            }
            Err(error) => Err(CopyError::Source(source.failed(error))),
        }
    }

    /// The error of the source's connection. Why the server failed a part says more than that it
    /// went away then.
    fn source_error(&self, error: Error) -> CopyError {
        let failure = self.reads.keys().find_map(|&cookie| self.source.connection.failure(cookie));
        CopyError::Source(failure.map_or(error, Error::from))
    }

    fn target_error(&self, error: Error) -> CopyError {
        let failure = self.writes.keys().find_map(|&cookie| self.target.connection.failure(cookie));
        CopyError::Target(failure.map_or(error, Error::from))
    }

    // ---- pieces

    /// Begins pieces as long as there is room for them.
    fn begin_pieces(&mut self, shared: Shared<'_>) -> Result<(), CopyError> {
        while let Some(range) = self.checks.front().cloned() {
            let length = self.options.cut(u32::MAX, range.start, range.end);
            if !self.options.has_room(self.in_flight(), self.held, length) {
                return Ok(());
            }
            if let Some(rest) = self.checks.front_mut() {
                rest.start += length;
            }
            if length == range.end - range.start {
                self.checks.pop_front();
            }
            self.check(range.start..range.start + length, None)?;
        }
        if self.number == 0
            && !self.is_ragged
            && let Some(piece) = shared.queue.take_ragged()
        {
            self.is_ragged = true;
            self.begin_ragged(piece)?;
        }
        loop {
            if self.pieces.is_empty() {
                let room = self.options.room(self.in_flight());
                if room > 0 {
                    shared.queue.take(self.number, room, &mut self.pieces);
                }
            }
            let Some(piece) = self.pieces.front() else { return Ok(()) };
            if !self.options.has_room(self.in_flight(), self.held, self.holds(piece)) {
                return Ok(());
            }
            let Some(Piece { range, task }) = self.pieces.pop_front() else { return Ok(()) };
            match task {
                PieceTask::Copy => self.read(range, false)?,
                PieceTask::Zero { may_unmap } => self.begin_zero(range, may_unmap, shared)?,
            }
        }
    }

    /// The memory that a piece takes, in bytes: one buffer, or with one to read back two more.
    fn holds(&self, piece: &Piece) -> u64 {
        match piece.task {
            PieceTask::Copy if self.verify => length(&piece.range).saturating_mul(3),
            PieceTask::Copy => length(&piece.range),
            PieceTask::Zero { .. } => 0,
        }
    }

    /// Memory for `bytes` bytes: that of a write that is over, if there is some.
    fn buffer(&mut self, bytes: u64) -> Vec<u8> {
        let mut buffer = self.target.connection.spare_buffer();
        buffer.resize(in_memory(bytes), 0);
        buffer
    }

    fn read(&mut self, range: Range<u64>, is_ragged: bool) -> Result<(), CopyError> {
        let buffer = self.buffer(length(&range));
        let read = Transfer::Read { offset: range.start, bytes: TransferBytes::Own(buffer) };
        let begun = self.source.connection.begin(read, Instant::now()).map_err(CopyError::Source)?;
        self.held += length(&range);
        self.reads.insert(begun, Read { range, is_ragged });
        Ok(())
    }

    fn begin_write(&mut self, transfer: Transfer, write: Write) -> Result<(), CopyError> {
        let begun = self.target.connection.begin(transfer, Instant::now()).map_err(CopyError::Target)?;
        self.writes.insert(begun, write);
        Ok(())
    }

    /// Writes a buffer that is counted already.
    fn write(
        &mut self,
        offset: u64,
        bytes: Vec<u8>,
        part: Option<u64>,
        shared: Shared<'_>,
    ) -> Result<(), CopyError> {
        shared.monitor.begin_to_write();
        let kept = self.verify.then(|| bytes.clone());
        self.held += kept.as_ref().map_or(0, |kept| kept.len() as u64);
        let range = offset..offset + bytes.len() as u64;
        let request = WriteRequest::new(offset);
        let transfer = Transfer::Write { request, bytes: TransferBytes::Own(bytes) };
        self.begin_write(transfer, Write::Data { range, kept, part })
    }

    /// Asks the target where a range is zero already, if that may save work.
    fn begin_zero(
        &mut self,
        range: Range<u64>,
        may_unmap: bool,
        shared: Shared<'_>,
    ) -> Result<(), CopyError> {
        let is_worth_it = may_unmap && length(&range) >= WORTH_ASKING && self.allocation.is_some();
        if !is_worth_it {
            return self.zero(range, may_unmap, shared);
        }
        let request = StatusRequest::new(range.start, length(&range));
        let connection = &mut self.target.connection;
        let begun = connection.start(Instant::now(), |session| session.start_block_status(&request));
        let status = Write::Status { range, zeroes: Vec::new() };
        self.writes.insert(begun.map_err(CopyError::Target)?, status);
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>, may_unmap: bool, shared: Shared<'_>) -> Result<(), CopyError> {
        shared.monitor.begin_to_write();
        let (offset, length) = (range.start, length(&range));
        let can_zero = self.target.connection.export().is_some_and(|export| export.flags.can_write_zeroes());
        let transfer = if may_unmap || !can_zero {
            Transfer::Zero { offset, length }
        } else {
            Transfer::WriteZeroes(ZeroRequest::new(offset, length).no_hole())
        };
        self.begin_write(transfer, Write::Zero { range })
    }

    /// Reads a range of the target back.
    fn check(&mut self, range: Range<u64>, expected: Option<Vec<u8>>) -> Result<(), CopyError> {
        let buffer = self.buffer(length(&range));
        self.held += length(&range);
        let read = Transfer::Read { offset: range.start, bytes: TransferBytes::Own(buffer) };
        self.begin_write(read, Write::Check { range, expected })
    }

    // ---- parts of the target's blocks

    fn begin_ragged(&mut self, piece: Piece) -> Result<(), CopyError> {
        match piece.task {
            PieceTask::Copy => self.read(piece.range, true),
            PieceTask::Zero { .. } => {
                let bytes = self.buffer_of_zeroes(length(&piece.range));
                self.held += bytes.len() as u64;
                self.read_block(piece.range.start, bytes)
            }
        }
    }

    fn buffer_of_zeroes(&mut self, bytes: u64) -> Vec<u8> {
        let mut buffer = self.buffer(bytes);
        buffer.fill(0);
        buffer
    }

    /// Reads the whole blocks of the target around bytes that are to be written.
    fn read_block(&mut self, start: u64, bytes: Vec<u8>) -> Result<(), CopyError> {
        let end = start + bytes.len() as u64;
        let block = self.target_block;
        let whole = start - start % block..end.div_ceil(block).saturating_mul(block).min(self.target_size);
        let buffer = self.buffer(length(&whole));
        self.held += length(&whole);
        let read = Transfer::Read { offset: whole.start, bytes: TransferBytes::Own(buffer) };
        self.begin_write(read, Write::Block { block: whole, start, bytes })
    }

    // ---- answers

    fn take_events(&mut self, shared: Shared<'_>) -> Result<(), CopyError> {
        while let Some(event) = self
            .source
            .connection
            .poll(&mut TakeAll, Instant::now())
            .map_err(|error| self.source_error(error))?
        {
            self.take_source_event(event, shared)?;
        }
        while let Some(event) = self
            .target
            .connection
            .poll(&mut TakeAll, Instant::now())
            .map_err(|error| self.target_error(error))?
        {
            self.take_target_event(event, shared)?;
        }
        Ok(())
    }

    fn take_source_event(&mut self, event: Event, shared: Shared<'_>) -> Result<(), CopyError> {
        match event {
            Event::Read { cookie, data } => {
                let Some(Read { range, is_ragged }) = self.reads.remove(&cookie) else { return Ok(()) };
                debug_assert_eq!(length(&range), data.len() as u64, "a read of another length");
                if is_ragged {
                    self.read_block(range.start, data)
                } else {
                    self.write(range.start, data, None, shared)
                }
            }
            Event::Failed { error, .. } => Err(CopyError::Source(error.into())),
            _ => Ok(()),
        }
    }

    fn take_target_event(&mut self, event: Event, shared: Shared<'_>) -> Result<(), CopyError> {
        match event {
            Event::Read { cookie, data } => match self.writes.remove(&cookie) {
                Some(Write::Block { block, start, bytes }) => {
                    self.held -= bytes.len() as u64;
                    self.write_block(block, start, &bytes, data, shared)
                }
                Some(Write::Check { range, expected }) => {
                    self.compare(&range, expected.as_deref(), &data, shared)?;
                    self.held -= data.len() as u64 + expected.as_ref().map_or(0, |bytes| bytes.len() as u64);
                    self.target.connection.recycle_buffer(data);
                    Ok(())
                }
                _ => Ok(()),
            },
            Event::Status { cookie, payload, .. } => {
                if let Some(Write::Status { range, zeroes }) = self.writes.get_mut(&cookie) {
                    *zeroes = zero_ranges(range, &payload, self.target_headers);
                }
                self.target.connection.recycle(payload);
                Ok(())
            }
            Event::Drained { .. } => Ok(()),
            Event::Done { cookie } => match self.writes.remove(&cookie) {
                Some(write) => self.finish(write, shared),
                None => Ok(()),
            },
            Event::Failed { cookie, error } => match self.writes.remove(&cookie) {
                // the question was to save work, and nothing depends on its answer
                Some(Write::Status { range, .. }) if !error.is_shutdown() => self.zero(range, true, shared),
                _ => Err(CopyError::Target(error.into())),
            },
        }
    }

    /// A request to the target was answered well.
    fn finish(&mut self, write: Write, shared: Shared<'_>) -> Result<(), CopyError> {
        match write {
            Write::Data { range, kept, part } => {
                self.held -= length(&range);
                shared.monitor.add_copied(part.unwrap_or(length(&range)));
                self.is_ragged &= part.is_none();
                kept.map_or(Ok(()), |kept| self.check(range, Some(kept)))
            }
            Write::Zero { range } => {
                shared.monitor.add_zeroed(length(&range));
                if self.verify {
                    self.checks.push_back(range);
                }
                Ok(())
            }
            Write::Status { range, zeroes } => self.zero_rest(range, &zeroes, shared),
            // their data came before
            Write::Block { .. } | Write::Check { .. } => Ok(()),
        }
    }

    /// Makes zero whatever the target did not call zero.
    fn zero_rest(
        &mut self,
        range: Range<u64>,
        zeroes: &[Range<u64>],
        shared: Shared<'_>,
    ) -> Result<(), CopyError> {
        let mut at = range.start;
        for zero in zeroes.iter().cloned().chain(core::iter::once(range.end..range.end)) {
            if at < zero.start {
                self.zero(at..zero.start, true, shared)?;
            }
            shared.monitor.add_zeroed(length(&zero));
            shared.monitor.add_zero_already(length(&zero));
            if self.verify && !zero.is_empty() {
                self.checks.push_back(zero.clone());
            }
            at = zero.end;
        }
        Ok(())
    }

    /// Writes whole blocks that were read, with these bytes in them.
    fn write_block(
        &mut self,
        block: Range<u64>,
        start: u64,
        bytes: &[u8],
        mut whole: Vec<u8>,
        shared: Shared<'_>,
    ) -> Result<(), CopyError> {
        let at = in_memory(start - block.start);
        debug_assert!(at + bytes.len() <= whole.len(), "a part beyond its block");
        if let Some(part) = whole.get_mut(at..at + bytes.len()) {
            part.copy_from_slice(bytes);
        }
        self.write(block.start, whole, Some(bytes.len() as u64), shared)
    }

    fn compare(
        &self,
        range: &Range<u64>,
        expected: Option<&[u8]>,
        found: &[u8],
        shared: Shared<'_>,
    ) -> Result<(), CopyError> {
        let is_same = match expected {
            Some(expected) => expected == found,
            None => found.iter().all(|&byte| byte == 0),
        };
        if !is_same {
            return Err(CopyError::Differs { offset: range.start, length: length(range) });
        }
        shared.monitor.add_verified(length(range));
        Ok(())
    }
}
