//! Calls of a pool that are pipelines from their start to their end.

use super::{PipelineOptions, ReadAhead, WriteBehind, WriteCall};
use crate::error::Error;
use crate::pool::{PoolOver, Worker};
use crate::session::ReadRequest;

impl<W: Worker> PoolOver<W> {
    pub(crate) async fn read_call(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if !buffer.is_empty() {
            self.checks.check_whole(ReadRequest::new(offset).of(buffer.len() as u64))?;
        }
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let mut blocks = ReadAhead::new(self, Some(range), PipelineOptions::default())?;
        let mut rest = buffer;
        while let Some(block) = blocks.next_call().await? {
            let Some((now, later)) = rest.split_at_mut_checked(block.data.len()) else { break };
            now.copy_from_slice(block.data);
            rest = later;
        }
        Ok(())
    }

    /// Makes one call of a writer, and waits for its end.
    pub(crate) async fn write_call(&mut self, call: WriteCall<'_>) -> Result<(), Error> {
        let mut writes = WriteBehind::new(self, PipelineOptions::default())?;
        writes.call(call).await?;
        writes.call(WriteCall::Wait).await
    }
}
