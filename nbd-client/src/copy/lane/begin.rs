//! Begins the requests of a lane: pieces of the plan, as long as there is room for them.

use core::ops::Range;

use super::{Lane, Read, Shared, Write, in_memory, length};
use crate::connection::Transfer;
use crate::copy::CopyError;
use crate::copy::queue::{Piece, PieceTask};
use crate::session::{StatusRequest, WriteRequest, ZeroRequest};

/// Zeroes shorter than this are written without a look at the target: the question costs as much.
const WORTH_ASKING: u64 = 64 << 10;

impl Lane {
    /// Begins pieces as long as there is room for them.
    pub(super) fn begin_pieces(&mut self, shared: Shared<'_>) -> Result<(), CopyError> {
        while let Some(range) = self.checks.front().cloned() {
            let length = self.options.cut(range.start, range.end);
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
        // several at a time, once there is room for several
        if self.options.is_nearly_full(self.in_flight(), self.held) {
            return Ok(());
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

    fn read(&mut self, range: Range<u64>, is_ragged: bool) -> Result<(), CopyError> {
        let read = Transfer::read(range.clone());
        let begun = self.source.connection.begin(None, read, self.now).map_err(CopyError::Source)?;
        self.held += length(&range);
        self.reads.insert(begun, Read { range, is_ragged });
        Ok(())
    }

    fn begin_write(&mut self, transfer: Transfer, write: Write) -> Result<(), CopyError> {
        let begun = self.target.connection.begin(None, transfer, self.now).map_err(CopyError::Target)?;
        self.writes.insert(begun, write);
        Ok(())
    }

    /// Writes a buffer that is counted already.
    pub(super) fn write(
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
        let request = WriteRequest::new(offset).of(bytes.len() as u64);
        let transfer = Transfer::new(request).with(bytes);
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
        let begun = connection.start(self.now, |session| session.start_block_status(&request));
        let status = Write::Status { range, zeroes: Vec::new() };
        self.writes.insert(begun.map_err(CopyError::Target)?, status);
        Ok(())
    }

    pub(super) fn zero(
        &mut self,
        range: Range<u64>,
        may_unmap: bool,
        shared: Shared<'_>,
    ) -> Result<(), CopyError> {
        shared.monitor.begin_to_write();
        let (offset, length) = (range.start, length(&range));
        let can_zero = self.target.connection.export().is_some_and(|export| export.flags.can_write_zeroes());
        let transfer = if may_unmap || !can_zero {
            Transfer::zero(offset, length)
        } else {
            Transfer::new(ZeroRequest::new(offset, length).no_hole().0)
        };
        self.begin_write(transfer, Write::Zero { range })
    }

    /// Reads a range of the target back.
    pub(super) fn check(&mut self, range: Range<u64>, expected: Option<Vec<u8>>) -> Result<(), CopyError> {
        self.held += length(&range);
        self.begin_write(Transfer::read(range.clone()), Write::Check { range, expected })
    }

    fn begin_ragged(&mut self, piece: Piece) -> Result<(), CopyError> {
        match piece.task {
            PieceTask::Copy => self.read(piece.range, true),
            PieceTask::Zero { .. } => {
                let bytes = vec![0; in_memory(length(&piece.range))];
                self.held += bytes.len() as u64;
                self.read_block(piece.range.start, bytes)
            }
        }
    }

    /// Reads the whole blocks of the target around bytes that are to be written.
    pub(super) fn read_block(&mut self, start: u64, bytes: Vec<u8>) -> Result<(), CopyError> {
        let end = start + bytes.len() as u64;
        let block = self.target_block;
        let whole = start - start % block..end.div_ceil(block).saturating_mul(block).min(self.target_size);
        self.held += length(&whole);
        self.begin_write(Transfer::read(whole.clone()), Write::Block { block: whole, start, bytes })
    }
}
