//! The answers to a lane's requests: data from the source is written to the target, and read back
//! from there if the copy is verified.

use core::ops::Range;

use super::{Lane, Read, Shared, Write, in_memory, length};
use crate::copy::CopyError;
use crate::copy::target_status::zero_ranges;
use crate::session::{Event, take_all};

impl Lane {
    pub(super) fn take_source_events(&mut self, shared: Shared<'_>) -> Result<(), CopyError> {
        loop {
            let event = self.source.connection.poll(&mut take_all, self.now);
            match event.map_err(|error| self.source_error(error))? {
                Some(event) => self.take_source_event(event, shared)?,
                None => return Ok(()),
            }
        }
    }

    pub(super) fn take_target_events(&mut self, shared: Shared<'_>) -> Result<(), CopyError> {
        loop {
            let event = self.target.connection.poll(&mut take_all, self.now);
            match event.map_err(|error| self.target_error(error))? {
                Some(event) => self.take_target_event(event, shared)?,
                None => return Ok(()),
            }
        }
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

    /// Makes the ranges zero that the target did not call zero.
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
