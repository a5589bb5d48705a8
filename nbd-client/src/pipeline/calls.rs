//! Calls of a pool that are pipelines from their start to their end.

use super::{JoinedWrites, PipelineOptions, ReadAhead, WriteBehind};
use crate::error::Error;
use crate::pool::{PoolOver, Worker};
use crate::session::{ReadRequest, WriteRequest};

impl<W: Worker> PoolOver<W> {
    pub(crate) async fn read_call(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.check_idle()?;
        if !buffer.is_empty() {
            self.checks.check_whole(ReadRequest::new(offset).of(buffer.len() as u64))?;
        }
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let mut blocks = ReadAhead::new(self, Some(range), PipelineOptions::default())?;
        let mut rest = buffer;
        while let Some(at) = blocks.advance().await? {
            let block = blocks.block(at);
            let Some((now, later)) = rest.split_at_mut_checked(block.data.len()) else { break };
            now.copy_from_slice(block.data);
            rest = later;
        }
        Ok(())
    }

    pub(crate) async fn write_call(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.check_idle()?;
        if !data.is_empty() {
            self.checks.check_writable(WriteRequest::new(offset).of(data.len() as u64))?;
        }
        let mut writes = JoinedWrites::new(self, PipelineOptions::default())?;
        writes.write_call(offset, data).await?;
        writes.wait_call().await
    }

    pub(crate) async fn zero_call(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        let mut writes = WriteBehind::new(self, PipelineOptions::default())?;
        writes.zero_call(offset, length).await?;
        writes.wait_call().await
    }

    pub(crate) async fn flush_call(&mut self) -> Result<(), Error> {
        WriteBehind::new(self, PipelineOptions::default())?.finish_call().await
    }
}
