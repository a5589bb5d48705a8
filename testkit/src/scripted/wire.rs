//! The bytes of a scripted connection, in plaintext or over TLS.

use std::io::{BufRead, Error, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

#[derive(Debug)]
pub(super) enum ScriptedWire {
    Plain(UnixStream),
    Tls(Box<StreamOwned<ServerConnection, UnixStream>>),
}

impl ScriptedWire {
    pub(super) fn socket(&self) -> &UnixStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Goes through the handshake of TLS.
    pub(super) fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<()> {
        let mut tls = ServerConnection::new(config).map_err(Error::other)?;
        let mut socket = self.socket().try_clone()?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        *self = Self::Tls(Box::new(StreamOwned::new(tls, socket)));
        Ok(())
    }

    /// Says over TLS that no more will be sent.
    pub(super) fn close_notify(&mut self) -> Result<()> {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        Ok(())
    }

    /// True if bytes of the client are decrypted and not read.
    pub(super) fn has_plaintext(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.conn.reader().fill_buf().is_ok_and(|bytes| !bytes.is_empty()),
        }
    }
}

impl Read for ScriptedWire {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for ScriptedWire {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
