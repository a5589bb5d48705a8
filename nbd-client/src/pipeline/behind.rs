//! Writes that are not waited for one by one.

use alloc::collections::VecDeque;
use core::ops::Range;

use super::{Ask, Pace, Requests};
use crate::client::{QUICK_EFFECT, SLOW_EFFECT};
use crate::error::Error;
use crate::session::{Cookie, Errno, Event, WriteRequest, ZeroRequest};

/// Writes data and zeroes with several requests in flight, and waits for all of them in the end.
///
/// Requests in flight may be done in any order, so one that overlaps another waits for it: the export holds in the end what it would hold
/// had they been done one after the other.
///
/// ```no_run
/// use nbd_client::{Client, Options, Pace, WriteBehind};
///
/// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &Options::new())?;
/// let mut writes = WriteBehind::new(&mut client, Pace::default())?;
/// for block in 0..16 {
///     let mut data = writes.buffer(1 << 20);
///     data.fill(block);
///     writes.write(u64::from(block) << 20, data)?;
/// }
/// writes.zero(16 << 20, 16 << 20)?;
/// // Only now is all of it written, and durable.
/// writes.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Without [`Self::finish`] nothing is known of what was started last.
#[derive(Debug)]
#[must_use]
pub struct WriteBehind<'a, R> {
    requests: &'a mut R,
    pace: Pace,
    longest: u32,
    in_flight: Vec<InFlight>,
    /// Bytes of data in flight.
    held: u64,
    zeroing: Zeroing,
    /// Ranges that are to read as zeroes and have not been asked for, or were refused and need another way.
    to_zero: VecDeque<Range<u64>>,
    failed: bool,
}

#[derive(Debug)]
struct InFlight {
    cookie: Cookie,
    range: Range<u64>,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Data,
    Zeroes(Zeroing),
}

/// How zeroes are written: the best way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Zeroing {
    /// WRITE_ZEROES with FAST_ZERO.
    Fast,
    /// WRITE_ZEROES.
    Plain,
    /// WRITE, of zeroes.
    Data,
}

impl<'a, R: Requests> WriteBehind<'a, R> {
    /// Begins.
    ///
    /// # Errors
    ///
    /// [`StartError::Busy`](crate::StartError::Busy) while other requests are in flight.
    pub fn new(requests: &'a mut R, pace: Pace) -> Result<Self, Error> {
        requests.check_idle()?;
        let flags = requests.export().flags;
        let zeroing = match (flags.send_write_zeroes(), flags.send_fast_zero()) {
            (true, true) => Zeroing::Fast,
            (true, false) => Zeroing::Plain,
            (false, _) => Zeroing::Data,
        };
        Ok(Self {
            longest: requests.longest_payload(),
            pace: pace.within(requests.limits()),
            requests,
            in_flight: Vec::new(),
            held: 0,
            zeroing,
            to_zero: VecDeque::new(),
            failed: false,
        })
    }

    /// A buffer of `length` bytes for [`Self::write`], out of memory that was used before if there is some. What it holds is of no meaning.
    #[must_use]
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        let mut buffer = self.requests.spare_buffer();
        buffer.resize(length, 0);
        buffer
    }

    /// Starts to write `data` to `offset`, after it has waited for room. Data longer than one request may be are copied into several.
    ///
    /// # Errors
    ///
    /// [`Error::RequestAt`] if any request started so far failed; all of them have then been waited for, and the connection is usable.
    /// [`Error::Start`] for a range that cannot be written, [`Error::Stopped`] after an earlier error, the errors of a connection otherwise.
    pub fn write(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        let result = self.write_all(offset, data);
        self.note(result)
    }

    /// Starts to make `length` bytes from `offset` read as zeroes, in the best way that the server has: quickly (FAST_ZERO), else slowly, else
    /// by writing zeroes. The range may become a hole.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.to_zero.push_back(offset..offset.saturating_add(length));
        let result = self.catch_up();
        self.note(result)
    }

    /// How much of `length` bytes at `offset` one request should write.
    pub(crate) fn piece(&self, offset: u64, length: usize) -> usize {
        let end = offset.saturating_add(length as u64);
        usize::try_from(self.pace.cut(self.longest, offset, end)).unwrap_or(length)
    }

    /// Waits for all that was started.
    pub(crate) fn wait(mut self) -> Result<(), Error> {
        let result = self.wait_for_all();
        self.note(result)
    }

    /// Waits for all that was started, and then makes it durable (FLUSH, where the server has it).
    ///
    /// # Errors
    ///
    /// As [`Self::write`]. Only without an error is everything written.
    pub fn finish(mut self) -> Result<(), Error> {
        let result = self.wait_for_all().and_then(|()| self.flush());
        self.note(result)
    }

    fn write_all(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Stopped);
        }
        let longest = self.longest as usize;
        if data.len() <= longest {
            return if data.is_empty() { Ok(()) } else { self.write_one(offset, data) };
        }
        let mut at = offset;
        for piece in data.chunks(longest) {
            let mut copy = self.buffer(piece.len());
            copy.copy_from_slice(piece);
            self.write_one(at, copy)?;
            at = at.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    fn write_one(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        let length = data.len() as u64;
        let range = offset..offset.saturating_add(length);
        loop {
            self.catch_up()?;
            self.wait_for_room(&range, length)?;
            if self.to_zero.is_empty() {
                break;
            }
        }
        let cookie = self.requests.start(Ask::Write(WriteRequest::new(offset), data))?;
        self.held += length;
        self.in_flight.push(InFlight { cookie, range, what: What::Data });
        Ok(())
    }

    /// Asks for the zeroes that are to be asked for.
    fn catch_up(&mut self) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Stopped);
        }
        while let Some(mut range) = self.to_zero.pop_front() {
            while !range.is_empty() {
                range.start += self.zero_some(&range)?;
            }
        }
        Ok(())
    }

    /// Zeroes the start of a range, and says how much of it; 0 if another way has to be taken.
    fn zero_some(&mut self, range: &Range<u64>) -> Result<u64, Error> {
        let way = self.zeroing;
        let left = range.end - range.start;
        let length = match way {
            Zeroing::Fast => left.min(QUICK_EFFECT),
            Zeroing::Plain => left.min(SLOW_EFFECT),
            Zeroing::Data => self.pace.cut(self.longest, range.start, range.end),
        };
        let piece = range.start..range.start + length;
        let moved = if way == Zeroing::Data { length } else { 0 };
        self.wait_for_room(&piece, moved)?;
        if self.zeroing != way {
            return Ok(0);
        }
        let request = ZeroRequest::new(piece.start, length);
        let ask = match way {
            Zeroing::Fast => Ask::Zero(request.fast()),
            Zeroing::Plain => Ask::Zero(request),
            Zeroing::Data => {
                let mut zeroes = self.requests.spare_buffer();
                zeroes.clear();
                zeroes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
                Ask::Write(WriteRequest::new(piece.start), zeroes)
            }
        };
        let cookie = self.requests.start(ask)?;
        self.held += moved;
        let what = if way == Zeroing::Data { What::Data } else { What::Zeroes(way) };
        self.in_flight.push(InFlight { cookie, range: piece, what });
        Ok(length)
    }

    /// Waits until a request of this range can be started.
    fn wait_for_room(&mut self, range: &Range<u64>, moved: u64) -> Result<(), Error> {
        loop {
            let overlaps = |other: &InFlight| other.range.start < range.end && range.start < other.range.end;
            let has_room = self.pace.has_room(self.in_flight.len(), self.held, moved);
            if has_room && !self.in_flight.iter().any(overlaps) {
                return Ok(());
            }
            self.receive()?;
        }
    }

    fn wait_for_all(&mut self) -> Result<(), Error> {
        self.catch_up()?;
        while !self.in_flight.is_empty() {
            self.receive()?;
            self.catch_up()?;
        }
        Ok(())
    }

    /// Only after all writes were answered: FLUSH covers no others.
    fn flush(&mut self) -> Result<(), Error> {
        if !self.requests.export().flags.send_flush() {
            return Ok(());
        }
        let flush = self.requests.start(Ask::Flush)?;
        loop {
            match self.requests.next_event()? {
                Some(Event::Done { cookie }) if cookie == flush => return Ok(()),
                Some(Event::Failed { error, .. }) => return Err(error.into()),
                Some(_) => {}
                None => return Err(Error::GivenUp),
            }
        }
    }

    /// Waits for one event.
    fn receive(&mut self) -> Result<(), Error> {
        match self.requests.next_event()? {
            Some(Event::Done { cookie }) => {
                self.take(cookie);
                Ok(())
            }
            Some(Event::Failed { cookie, error }) => match self.take(cookie) {
                Some(InFlight { what: What::Zeroes(way), range, .. })
                    if error.errno() == Some(Errno::ENOTSUP) =>
                {
                    let next = if way == Zeroing::Fast { Zeroing::Plain } else { Zeroing::Data };
                    self.zeroing = self.zeroing.max(next);
                    self.to_zero.push_back(range);
                    Ok(())
                }
                Some(InFlight { range: Range { start: offset, end }, .. }) => {
                    Err(Error::RequestAt { offset, length: end - offset, error })
                }
                None => Err(error.into()),
            },
            Some(_) => Ok(()),
            None => Err(Error::GivenUp),
        }
    }

    fn take(&mut self, cookie: Cookie) -> Option<InFlight> {
        let index = self.in_flight.iter().position(|request| request.cookie == cookie)?;
        let request = self.in_flight.swap_remove(index);
        if request.what == What::Data {
            self.held = self.held.saturating_sub(request.range.end - request.range.start);
        }
        Some(request)
    }

    /// After a failure nothing more is started, and the connection is left without requests in flight.
    fn note<V>(&mut self, result: Result<V, Error>) -> Result<V, Error> {
        if result.is_err() && !self.failed {
            self.failed = true;
            // what fails now as well is no news
            self.requests.abandon().ok();
            self.in_flight.clear();
        }
        result
    }
}
