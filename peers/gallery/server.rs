//! The server of a fault: answers by the disk, and misbehaves as the fault says.

use core::time::Duration;
use std::io::Result;

use nbd_client::frame::{chunk_type, command, option_type};
use testkit::scripted::{Conn, DONE, Good, Reaction, ScriptedServer, SeenRequest};

use crate::disk::KnownDisk;
use crate::faults::{Behaviour, KnownFault};

const EINVAL: u32 = 22;
const REQ_ONE: u16 = 8;
const BITMAP: u32 = 1;

pub fn start(fault: &KnownFault) -> ScriptedServer {
    let (disk, behaviours) = (fault.disk.clone(), fault.behaviours);
    let script = move |conn: &mut Conn| serve(conn, &disk, behaviours);
    ScriptedServer::start(script).expect("a socket and a thread")
}

fn serve(conn: &mut Conn, disk: &KnownDisk, behaviours: &[Behaviour]) -> Result<()> {
    let mut good = Good::compact().size(disk.size());
    if !behaviours.contains(&Behaviour::BitmapGone) {
        good = good.context(BITMAP, "qemu:dirty-bitmap:b0");
    }
    conn.handshake_with(&good, |_, option| {
        // an old qemu closes the connection on STARTTLS; nobody asks for it here
        assert_ne!(option.number, option_type::STARTTLS);
        Ok(Reaction::Honest)
    })?;
    let server = FaultyServer { disk, behaviours };
    conn.serve(|conn, request| match request.command {
        command::READ => server.read(conn, request),
        command::BLOCK_STATUS => server.status(conn, request),
        _ => conn.error(request, EINVAL, "read-only", DONE),
    })
}

struct FaultyServer<'a> {
    disk: &'a KnownDisk,
    behaviours: &'a [Behaviour],
}

impl FaultyServer<'_> {
    fn does(&self, behaviour: Behaviour) -> bool {
        self.behaviours.contains(&behaviour)
    }

    fn read(&self, conn: &mut Conn, request: &SeenRequest) -> Result<()> {
        let half = if self.does(Behaviour::HalfRead) { request.length / 2 } else { request.length };
        let range = request.offset..request.offset + half;
        conn.data(request, request.offset, &self.disk.data(range), DONE)
    }

    fn status(&self, conn: &mut Conn, request: &SeenRequest) -> Result<()> {
        let end = request.offset + request.length;
        if end > self.disk.size() || request.length == 0 {
            return conn.error(request, EINVAL, "beyond the end", DONE);
        }
        let later = end > self.disk.size() / 2;
        let contexts = conn.contexts().to_vec();
        let clean = || self.disk.parts(request.offset..end).any(|(_, block)| !block.is_dirty());
        if self.does(Behaviour::DirtyOnly) && contexts.contains(&0) && clean() {
            return conn.error(request, EINVAL, "can't get block status", DONE);
        }
        if self.does(Behaviour::Endless) && later {
            loop {
                conn.pause(Duration::from_millis(50))?;
                conn.chunk_header(request, 0, chunk_type::ERROR, 6)?;
                conn.send(&[0, 0, 0, 5, 0, 0])?;
            }
        }
        let contexts: Vec<u32> = contexts
            .into_iter()
            .filter(|&context| !(self.does(Behaviour::NoBitmap) && later && context == BITMAP))
            .collect();
        let fails = self.does(Behaviour::LateError) && later;
        let last = contexts.len().saturating_sub(1);
        for (nth, &context) in contexts.iter().enumerate() {
            let twice = self.does(Behaviour::Twice);
            let done = if nth == last && !twice && !fails { DONE } else { 0 };
            conn.status(request, context, &self.list(context, request, later), done)?;
            if twice {
                let flags = if context == BITMAP { 0 } else { 3 };
                let done = if nth == last { DONE } else { 0 };
                conn.status(request, context, &[(request.length, flags)], done)?;
            }
            if fails {
                return conn.error(request, 5, "the disk does not answer", DONE);
            }
        }
        if contexts.is_empty() {
            conn.done(request)?;
        }
        Ok(())
    }

    /// The descriptors of one context from the start of a request on.
    fn list(&self, context: u32, request: &SeenRequest, later: bool) -> Vec<(u64, u64)> {
        let mut list: Vec<(u64, u64)> = Vec::new();
        let reserved = if self.does(Behaviour::ReservedBit) { 0x10 } else { 0 };
        let flags = |block: crate::disk::BlockTruth| match context {
            BITMAP => u64::from(block.is_dirty()),
            _ => u64::from(block.allocation() | reserved),
        };
        for (part, block) in self.disk.parts(request.offset..request.offset + request.length) {
            let (length, flags) = (part.end - part.start, flags(block));
            match list.last_mut() {
                Some(last) if last.1 == flags && last.0 + length < 1 << 32 => last.0 += length,
                _ => list.push((length, flags)),
            }
        }
        for behaviour in self.behaviours {
            if let Behaviour::Caps { allocation, bitmap } = *behaviour {
                list.truncate(if context == BITMAP { bitmap } else { allocation });
            }
        }
        if request.flags & REQ_ONE != 0 {
            list.truncate(1);
        }
        let reach = request.offset + list.iter().map(|(length, _)| length).sum::<u64>();
        let ends_with_request = reach == request.offset + request.length && reach < self.disk.size();
        if self.does(Behaviour::ExtraExtent) && ends_with_request {
            let next = self.disk.parts(reach..reach + self.disk.block).next();
            list.extend(next.map(|(part, block)| (part.end - part.start, flags(block))));
        }
        if self.does(Behaviour::NoBytes) && later {
            list.insert(0, (0, 0));
            list.truncate(1);
        }
        list
    }
}
