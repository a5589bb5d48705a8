//! Reads of short ranges by the thread that writes them out.
//!
//! To hand 16 KiB to another thread costs a quarter of its whole way: the thread has to be woken,
//! and finds the bytes in the cache of another core. So the thread that writes also receives. While
//! its output holds it up, a second thread receives for it, since no server may wait for a consumer
//! that has stopped: libvirt's guest would stop with it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use nbd_client::session::{Cookie, Event, ReadRequest, Session, StartError, take_all};
use nbd_client::{Client, Error};

use super::pump::{Blocks, IN_FLIGHT};

/// The longest request in bytes. No server finds it too long.
const LONGEST: u64 = 64 << 10;
/// A thread that takes longer than this over a block is held up.
const HELD_UP: Duration = Duration::from_millis(5);

/// Reads ranges in order over one connection, as [`ReadAhead`](nbd_client::ReadAhead) does over a
/// pool.
#[derive(Debug)]
pub(super) struct ShortReads<I> {
    shared: Arc<Shared>,
    substitute: Thread,
    ranges: I,
    /// The rest of the range under way.
    range: Range<u64>,
    /// The block that was handed out last.
    current: Vec<u8>,
}

/// The state that both threads work on.
#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    /// The number of blocks handed out: it stands still while the output holds its thread up.
    handed_out: AtomicU64,
    /// The thread that writes waits for the inbox.
    is_wanted: AtomicBool,
    is_over: AtomicBool,
}

/// A connection, and the blocks asked for in order.
#[derive(Debug)]
struct Inbox {
    /// `None` once it is closed.
    client: Option<Client>,
    blocks: VecDeque<ExpectedBlock>,
    /// Why nothing more is received.
    error: Option<Error>,
}

#[derive(Debug)]
struct ExpectedBlock {
    cookie: Cookie,
    offset: u64,
    data: Option<Vec<u8>>,
}

impl<I: Iterator<Item = Range<u64>>> ShortReads<I> {
    /// Begins. Nothing is read before the first block is asked for.
    ///
    /// # Errors
    ///
    /// The system's, when it has no more threads.
    pub(super) fn new(client: Client, ranges: I) -> std::io::Result<Self> {
        let inbox = Inbox { client: Some(client), blocks: VecDeque::new(), error: None };
        let shared = Arc::new(Shared {
            inbox: Mutex::new(inbox),
            handed_out: AtomicU64::new(0),
            is_wanted: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let builder = thread::Builder::new().name("nbd-substitute".to_owned());
        let substitute = builder.spawn(move || theirs.substitute())?.thread().clone();
        Ok(Self { shared, substitute, ranges, range: 0..0, current: Vec::new() })
    }

    /// Says goodbye, and returns the bytes that the connection has received. All blocks were taken.
    pub(super) fn disconnect(self) -> u64 {
        let Some(client) = self.shared.lock().client.take() else { return 0 };
        let received = client.stats().bytes_received;
        // Every request has been answered, so a server that closes badly harms nothing.
        client.disconnect().ok();
        received
    }

    /// Starts several requests together, once half of those in flight are answered.
    fn fill(&mut self, inbox: &mut Inbox) -> Result<(), Error> {
        let Inbox { client: Some(client), blocks, .. } = inbox else { return Err(Error::GivenUp) };
        if blocks.len() > IN_FLIGHT / 2 {
            return Ok(());
        }
        let longest = LONGEST.min(client.longest_payload().into());
        let Some(mut next) = self.next_request(longest) else { return Ok(()) };
        client.start(|session| {
            loop {
                let cookie = match (start_read(session, &next), blocks.back()) {
                    (Ok(cookie), _) => cookie,
                    // the caller's own limits are lower: again, when others are answered
                    (
                        Err(StartError::TooManyInFlight(_) | StartError::TooMuchInFlight { .. }),
                        Some(last),
                    ) => return Ok(last.cookie),
                    (Err(error), _) => return Err(error),
                };
                blocks.push_back(ExpectedBlock { cookie, offset: next.start, data: None });
                self.range.start = next.end;
                match self.next_request(longest) {
                    Some(range) if blocks.len() < IN_FLIGHT => next = range,
                    _ => return Ok(cookie),
                }
            }
        })?;
        Ok(())
    }

    /// The range of the next request, which is still to be started.
    fn next_request(&mut self, longest: u64) -> Option<Range<u64>> {
        while self.range.is_empty() {
            self.range = self.ranges.next()?;
        }
        let Range { start, end } = self.range;
        Some(start..end.min(start + longest - start % longest))
    }
}

fn start_read(session: &mut Session, range: &Range<u64>) -> Result<Cookie, StartError> {
    let mut buffer = session.spare_buffer();
    buffer.resize(usize::try_from(range.end - range.start).unwrap_or(usize::MAX), 0);
    session.start_read(&ReadRequest::new(range.start), buffer)
}

impl<I: Iterator<Item = Range<u64>>> Blocks for ShortReads<I> {
    fn next_block(&mut self) -> Result<Option<(u64, &[u8])>, Error> {
        let shared = Arc::clone(&self.shared);
        shared.is_wanted.store(true, Ordering::SeqCst);
        let mut inbox = shared.lock();
        shared.is_wanted.store(false, Ordering::SeqCst);
        inbox.recycle(core::mem::take(&mut self.current));
        let block = loop {
            self.fill(&mut inbox)?;
            if let Some(ExpectedBlock { data: Some(_), .. }) = inbox.blocks.front() {
                break inbox.blocks.pop_front();
            }
            if !inbox.receive()? {
                break None;
            }
        };
        shared.handed_out.fetch_add(1, Ordering::SeqCst);
        Ok(block.map(|ExpectedBlock { offset, data, .. }| {
            self.current = data.unwrap_or_default();
            (offset, &*self.current)
        }))
    }
}

impl<I> Drop for ShortReads<I> {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.substitute.unpark();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The second thread: receives whatever was asked for while the first is held up.
    fn substitute(&self) {
        let mut seen = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            thread::park_timeout(HELD_UP);
            let handed_out = self.handed_out.load(Ordering::SeqCst);
            if handed_out == seen {
                self.receive_all();
            }
            seen = handed_out;
        }
    }

    fn receive_all(&self) {
        // a thread that waits for the server itself is not held up
        let Ok(mut inbox) = self.inbox.try_lock() else { return };
        while !self.is_wanted.load(Ordering::SeqCst) {
            match inbox.receive() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    inbox.error.get_or_insert(error);
                    return;
                }
            }
        }
    }
}

impl Inbox {
    /// Waits for the next event; `false` if nothing is in flight.
    fn receive(&mut self) -> Result<bool, Error> {
        if let Some(error) = self.error.clone() {
            return Err(error);
        }
        let Some(client) = &mut self.client else { return Ok(false) };
        match client.next_event(&mut take_all)? {
            Some(Event::Read { cookie, data }) => {
                let index = self.blocks.partition_point(|block| block.cookie < cookie);
                match self.blocks.get_mut(index).filter(|block| block.cookie == cookie) {
                    Some(block) => block.data = Some(data),
                    None => return Err(Error::GivenUp),
                }
            }
            Some(Event::Failed { error, .. }) => return Err(error.into()),
            Some(_) => {}
            None => return Ok(false),
        }
        Ok(true)
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        if let Some(client) = &mut self.client {
            client.recycle_buffer(buffer);
        }
    }
}
