//! One harness over the pools of both clients and their pipelines: a fault that is scripted once
//! judges both. All calls block, whatever the pool.

use std::ops::Range;
use std::os::unix::net::UnixStream;

use nbd_client::export::Export;
use nbd_client::pipeline::{Block, PipelineOptions};
use nbd_client::stats::SessionStats;
use nbd_client::transport::Socket;
use nbd_client::{Client, Error, Options, Pool, ReadAhead, Uri, WriteBehind, aio};
use tokio::runtime::Runtime;

use crate::clients::{boxed, runtime};

/// The kinds of pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Connections with threads.
    Blocking,
    /// Connections with tasks.
    Async,
}

impl PoolKind {
    pub const ALL: [Self; 2] = [Self::Blocking, Self::Async];

    pub fn connect(self, uri: &Uri, options: &Options, connections: usize) -> Result<AnyPool, Error> {
        Ok(match self {
            Self::Blocking => AnyPool::Blocking(Box::new(Pool::connect(uri, options, connections)?)),
            Self::Async => {
                let runtime = runtime();
                let pool = runtime.block_on(aio::Pool::connect(uri, options, connections))?;
                AnyPool::Async(runtime, Box::new(pool))
            }
        })
    }
}

impl AnyPool {
    /// A pool of one connection, over a stream that is connected.
    pub(crate) fn over(kind: PoolKind, stream: UnixStream, options: &Options) -> Result<Self, Error> {
        Ok(match kind {
            PoolKind::Blocking => {
                let client = Client::over(Socket::try_from(stream).unwrap(), "", options)?;
                Self::Blocking(Box::new(Pool::of(client, Vec::new())?))
            }
            PoolKind::Async => {
                let runtime = runtime();
                let pool = runtime.block_on(async {
                    aio::Pool::of(aio::Driver::over(boxed(stream), "", options).await?, Vec::new())
                })?;
                Self::Async(runtime, Box::new(pool))
            }
        })
    }
}

/// A pool of any kind, in blocking calls.
#[derive(Debug)]
pub enum AnyPool {
    Blocking(Box<Pool>),
    Async(Runtime, Box<aio::Pool>),
}

/// One call of either kind.
macro_rules! call {
    ($value:expr, $call:ident($($argument:expr),*)) => {
        match $value {
            Self::Blocking(inner) => inner.$call($($argument),*),
            Self::Async(runtime, inner) => runtime.block_on(inner.$call($($argument),*)),
        }
    };
}

impl AnyPool {
    pub fn export(&self) -> &Export {
        match self {
            Self::Blocking(pool) => pool.export(),
            Self::Async(_, pool) => pool.export(),
        }
    }

    pub fn connections(&self) -> usize {
        match self {
            Self::Blocking(pool) => pool.connections(),
            Self::Async(_, pool) => pool.connections(),
        }
    }

    pub fn in_flight(&self) -> usize {
        match self {
            Self::Blocking(pool) => pool.in_flight(),
            Self::Async(_, pool) => pool.in_flight(),
        }
    }

    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        call!(self, read(offset, buffer))
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        call!(self, write(offset, data))
    }

    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        call!(self, zero(offset, length))
    }

    pub fn flush(&mut self) -> Result<(), Error> {
        call!(self, flush())
    }

    pub fn abandon(&mut self) -> Result<(), Error> {
        call!(self, abandon())
    }

    pub fn disconnect(self) -> Result<Vec<SessionStats>, Error> {
        call!(self, disconnect())
    }

    pub fn read_ahead<I: Iterator<Item = Range<u64>>>(
        &mut self,
        ranges: impl IntoIterator<IntoIter = I, Item = Range<u64>>,
        options: PipelineOptions,
    ) -> Result<AnyReadAhead<'_, I>, Error> {
        Ok(match self {
            Self::Blocking(pool) => AnyReadAhead::Blocking(ReadAhead::new(pool, ranges, options)?),
            Self::Async(runtime, pool) => {
                AnyReadAhead::Async(runtime, aio::ReadAhead::new(pool, ranges, options)?)
            }
        })
    }

    pub fn write_behind(&mut self, options: PipelineOptions) -> Result<AnyWriteBehind<'_>, Error> {
        Ok(match self {
            Self::Blocking(pool) => AnyWriteBehind::Blocking(WriteBehind::new(pool, options)?),
            Self::Async(runtime, pool) => {
                AnyWriteBehind::Async(runtime, aio::WriteBehind::new(pool, options)?)
            }
        })
    }
}

#[derive(Debug)]
pub enum AnyReadAhead<'a, I> {
    Blocking(ReadAhead<'a, I>),
    Async(&'a Runtime, aio::ReadAhead<'a, I>),
}

impl<I: Iterator<Item = Range<u64>>> AnyReadAhead<'_, I> {
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, Error> {
        call!(self, next_block())
    }

    /// The error that ends it; all blocks before it are taken.
    pub fn error(&mut self) -> Error {
        loop {
            match self.next_block() {
                Ok(block) => assert!(block.is_some(), "it ended well"),
                Err(error) => return error,
            }
        }
    }
}

#[derive(Debug)]
pub enum AnyWriteBehind<'a> {
    Blocking(WriteBehind<'a>),
    Async(&'a Runtime, aio::WriteBehind<'a>),
}

impl AnyWriteBehind<'_> {
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        match self {
            Self::Blocking(writes) => writes.buffer(length),
            Self::Async(_, writes) => writes.buffer(length),
        }
    }

    pub fn write(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        call!(self, write(offset, data))
    }

    pub fn write_joined(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        call!(self, write_joined(offset, bytes))
    }

    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        call!(self, zero(offset, length))
    }

    pub fn finish(self) -> Result<(), Error> {
        call!(self, finish())
    }
}
