//! One harness over the drivers of a connection: a fault scripted once judges all of them.
#![allow(dead_code, reason = "no test uses all of it")]

use nbd_client::{Client, Error, Options, Pool, Uri, aio};
use tokio::runtime::{Builder, Runtime};

/// A client of any kind, in blocking calls.
#[derive(Debug)]
pub(crate) enum AnyClient {
    Blocking(Box<Client>),
    Pool(Box<Pool>),
    Async(Runtime, aio::Client),
}

/// The kinds of client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Blocking,
    Pool,
    Async,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Blocking, Self::Pool, Self::Async];

    pub(crate) fn connect(self, uri: &Uri, options: &Options) -> Result<AnyClient, Error> {
        Ok(match self {
            Self::Blocking => AnyClient::Blocking(Box::new(Client::connect(uri, options)?)),
            Self::Pool => AnyClient::Pool(Box::new(Pool::connect(uri, options, 1)?)),
            Self::Async => {
                let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                let client = runtime.block_on(aio::Client::connect(uri, options))?;
                AnyClient::Async(runtime, client)
            }
        })
    }
}

impl AnyClient {
    pub(crate) fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        // bytes that no answer may leave there
        let mut buffer = vec![0x11; length];
        match self {
            Self::Blocking(client) => client.read(offset, &mut buffer)?,
            Self::Pool(pool) => pool.read(offset, &mut buffer)?,
            Self::Async(runtime, client) => return runtime.block_on(client.read(offset, length)),
        }
        Ok(buffer)
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.write(offset, data),
            Self::Pool(pool) => pool.write(offset, data),
            Self::Async(runtime, client) => runtime.block_on(client.write(offset, data.to_vec())),
        }
    }

    pub(crate) fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.zero(offset, length),
            Self::Pool(pool) => pool.zero(offset, length),
            Self::Async(runtime, client) => runtime.block_on(client.zero(offset, length)),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.flush(),
            Self::Pool(pool) => pool.flush(),
            Self::Async(runtime, client) => runtime.block_on(client.flush()),
        }
    }
}
