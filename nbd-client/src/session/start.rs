//! Starting requests: everything that can be known to be wrong is an error here, before the wire.

use alloc::sync::Arc;

use super::config::{COMPACT_EFFECT, PAYLOAD};
use super::coverage::Coverage;
use super::output::QueuedBytes;
use super::pending::{ExpectedAnswer, Pending};
use super::receive::OFFSET;
use super::{
    Command, Cookie, ReadRequest, RequestInfo, Session, SessionConfig, StartError, StatusRequest,
    TrimRequest, WriteRequest, ZeroRequest,
};
use crate::export::{BlockSizes, Export};
use crate::frame::{Headers, RequestHeader, command_flag};
use crate::trace::event;

impl Session {
    /// Starts a block status request: it is in the output afterwards.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is sent, and nothing changes.
    pub fn start_block_status(&mut self, request: &StatusRequest<'_>) -> Result<Cookie, StartError> {
        let StatusRequest { info, contexts: only } = *request;
        if self.export().headers == Headers::Simple {
            return Err(StartError::NotOffered("structured replies, and so no block status"));
        }
        self.check(info)?;
        let contexts = match only {
            None => Arc::clone(&self.contexts),
            Some(only) => self.check_contexts(only)?,
        };
        if contexts.is_empty() {
            return Err(StartError::NoContexts);
        }
        let payload = only.map_or(0, |only| 8 + 4 * only.len() as u64);
        let cookie = self.enter(0, info, ExpectedAnswer::Status { contexts, seen: Vec::new() }, payload);
        if let Some(only) = only {
            self.output.headers(|out| {
                out.extend_from_slice(&info.length.to_be_bytes());
                only.iter().for_each(|context| out.extend_from_slice(&context.to_be_bytes()));
            });
        }
        Ok(cookie)
    }

    /// Starts a read of as many bytes as `buffer` has. They go straight into it, and come back with
    /// [`Event::Read`](super::Event::Read).
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is sent, and `buffer` is kept for another [buffer](Self::buffer).
    ///
    /// ```
    /// use nbd_client::frame::Headers;
    /// use nbd_client::session::{Event, ReadRequest, Session, SessionConfig, take_all};
    ///
    /// let mut session = Session::new(SessionConfig::new(Headers::Structured, []));
    /// let cookie = session.start_read(&ReadRequest::new(512), vec![0xa5; 512])?;
    /// assert_eq!(session.take_output().len(), 28);
    ///
    /// // One chunk, DONE: a hole of 512 bytes at 512.
    /// let mut reply: Vec<u8> = vec![0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 2];
    /// reply.extend(cookie.get().to_be_bytes());
    /// reply.extend([0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0]);
    /// session.feed(&reply, &mut take_all)?;
    /// assert_eq!(session.poll(), Some(Event::Read { cookie, data: vec![0; 512] }));
    /// assert_eq!(session.poll(), Some(Event::Done { cookie }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start_read(&mut self, request: &ReadRequest, buffer: Vec<u8>) -> Result<Cookie, StartError> {
        let terms = request.of(buffer.len() as u64);
        if let Err(error) = self.check(terms) {
            self.buffers.keep(buffer);
            return Err(error);
        }
        let answer = ExpectedAnswer::Read { buffer: Some(buffer), at: 0, covered: Coverage::default() };
        Ok(self.enter(0, terms, answer, 0))
    }

    /// Starts a write of `data`, which goes out as it is, without a copy. Its memory is
    /// kept for another [buffer](Self::buffer) when it is through.
    ///
    /// # Errors
    ///
    /// [`StartError`], among them [`StartError::ReadOnly`]; nothing is sent, and the memory of
    /// `data` is kept as well.
    pub fn start_write(&mut self, request: &WriteRequest, data: Vec<u8>) -> Result<Cookie, StartError> {
        let terms = request.of(data.len() as u64);
        if let Err(error) = self.check(terms) {
            self.buffers.keep(data);
            return Err(error);
        }
        let cookie = self.enter(0, terms, ExpectedAnswer::Plain, terms.length);
        self.output.push(QueuedBytes::Payload(data));
        Ok(cookie)
    }

    /// Starts to make a range read as zeroes.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is sent.
    pub fn start_write_zeroes(&mut self, request: &ZeroRequest) -> Result<Cookie, StartError> {
        self.start_plain(request.0)
    }

    /// Starts to give a range up. What it reads as afterwards is anyone's guess.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is sent.
    pub fn start_trim(&mut self, request: &TrimRequest) -> Result<Cookie, StartError> {
        self.start_plain(request.0)
    }

    /// Starts to have the server make `length` bytes from `offset` ready for reading.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is sent.
    pub fn start_cache(&mut self, offset: u64, length: u64) -> Result<Cookie, StartError> {
        self.start_plain(RequestInfo::new(Command::Cache, offset, length))
    }

    /// Starts to make durable whatever was answered before.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is sent.
    pub fn start_flush(&mut self) -> Result<Cookie, StartError> {
        self.start_plain(RequestInfo::FLUSH)
    }

    /// Starts a request that moves no payload.
    pub(super) fn start_plain(&mut self, terms: RequestInfo) -> Result<Cookie, StartError> {
        self.check(terms)?;
        Ok(self.enter(0, terms, ExpectedAnswer::Plain, 0))
    }

    /// Starts a part of a transfer that was [checked](Self::check_whole). Its data are in the
    /// transfer's buffer from `at` on, or zeroes.
    pub(crate) fn start_part(
        &mut self,
        owner: u64,
        terms: RequestInfo,
        at: usize,
        is_zero: bool,
    ) -> Result<Cookie, StartError> {
        self.check_part(terms)?;
        let answer = match terms.command {
            Command::Read => ExpectedAnswer::Read { buffer: None, at, covered: Coverage::default() },
            _ => ExpectedAnswer::Plain,
        };
        if terms.command != Command::Write {
            return Ok(self.enter(owner, terms, answer, 0));
        }
        let cookie = self.enter(owner, terms, answer, terms.length);
        let length = usize::try_from(terms.length).unwrap_or(usize::MAX);
        if is_zero {
            self.output.zeroes(length);
        } else {
            self.output.push(QueuedBytes::Lent { owner, at, length });
        }
        Ok(cookie)
    }

    /// A buffer of `length` bytes, out of memory that is kept if there is some: of a payload that was
    /// sent, of a read that failed, or [given back](Self::recycle_buffer). Its content has no meaning.
    #[must_use]
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        self.buffers.sized(length)
    }

    /// Gives memory back, to be had again as a [buffer](Self::buffer).
    pub fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.buffers.keep(buffer);
    }

    /// The longest read or write that can be answered in one chunk, in bytes: what the server says,
    /// at most 32 MiB, within the [limits](super::SessionLimits), in whole blocks.
    #[must_use]
    pub fn longest_payload(&self) -> u32 {
        let SessionConfig { export, limits, .. } = &self.config;
        let chunk = limits.max_payload.min(limits.max_reply).saturating_sub(OFFSET);
        let longest = PAYLOAD.min(u32::try_from(chunk).unwrap_or(PAYLOAD));
        self.config.whole_blocks(longest).max(export.block_size.map_or(1, BlockSizes::minimum))
    }

    pub(crate) const fn export(&self) -> &Export {
        &self.config.export
    }

    /// Whether a request that moves `length` bytes would be within the limits of the requests in
    /// flight.
    pub(crate) fn has_room(&self, length: u64) -> bool {
        self.config.limits.check(self.requests.in_flight.len(), self.requests.bytes, length).is_ok()
    }

    // ---- checks

    /// An error if no request at all can be started any more.
    pub(crate) fn check_open(&self) -> Result<(), StartError> {
        if let Some(error) = self.broken {
            return Err(StartError::Broken(error));
        }
        if self.shutting_down || self.disconnected { Err(StartError::Ending) } else { Ok(()) }
    }

    /// An error if this request cannot be started now.
    fn check(&self, terms: RequestInfo) -> Result<(), StartError> {
        self.check_whole(terms)?;
        self.check_part(terms)
    }

    /// An error if this request cannot be started now, although [`check_whole`](Self::check_whole)
    /// has allowed its range: a transfer is checked once as a whole, and each of its requests here.
    fn check_part(&self, terms: RequestInfo) -> Result<(), StartError> {
        self.check_open()?;
        self.check_length(terms)?;
        self.config.limits.check(self.requests.in_flight.len(), self.requests.bytes, terms.moves())
    }

    /// An error if a range of any length cannot be asked for, in as many requests as it takes.
    pub(crate) fn check_whole(&self, terms: RequestInfo) -> Result<(), StartError> {
        self.check_open()?;
        if terms.command.writes() && self.export().flags.is_read_only() {
            return Err(StartError::ReadOnly(terms.command));
        }
        self.check_offered(terms)?;
        if terms.command == Command::Flush { Ok(()) } else { self.check_inside(terms) }
    }

    fn check_offered(&self, terms: RequestInfo) -> Result<(), StartError> {
        let flags = self.export().flags;
        let knows_command = match terms.command {
            Command::Flush => flags.can_flush(),
            Command::Trim => flags.can_trim(),
            Command::Cache => flags.can_cache(),
            Command::WriteZeroes => flags.can_write_zeroes(),
            Command::Read | Command::Write | Command::BlockStatus => true,
        };
        let knows_df = flags.can_df() && self.export().headers != Headers::Simple;
        for (wanted, offered, what) in [
            (true, knows_command, terms.command.name()),
            (terms.has(command_flag::FUA), flags.can_fua(), "FUA"),
            (terms.has(command_flag::FAST_ZERO), flags.can_fast_zero(), "FAST_ZERO"),
            (terms.has(command_flag::DF), knows_df, "DF"),
        ] {
            if wanted && !offered {
                return Err(StartError::NotOffered(what));
            }
        }
        Ok(())
    }

    /// An error if a range cannot be written at all, in whole blocks or not.
    pub(crate) fn check_writable(&self, request: RequestInfo) -> Result<(), StartError> {
        if self.export().flags.is_read_only() {
            return Err(StartError::ReadOnly(request.command));
        }
        self.end_of(request).map(drop)
    }

    /// The end of a range; an error if that is beyond the end of the export.
    fn end_of(&self, request: RequestInfo) -> Result<u64, StartError> {
        let size = self.export().size;
        let end = request.offset.checked_add(request.length).filter(|&end| end <= size);
        end.ok_or(StartError::PastEnd { request, size })
    }

    /// An error if the range is too long for one request.
    fn check_length(&self, terms: RequestInfo) -> Result<(), StartError> {
        let longest = match (terms.command, self.export().headers) {
            // CACHE has no payload, and servers bound it all the same (qemu does)
            (Command::Read | Command::Write | Command::Cache, _) => self.config.whole_blocks(PAYLOAD).into(),
            (_, Headers::Extended) => u64::MAX,
            // nbdkit once died of a length with all bits set
            (Command::BlockStatus, _) => u64::from(u32::MAX) - 1,
            _ => COMPACT_EFFECT,
        };
        if terms.length > longest { Err(StartError::TooLong { request: terms, longest }) } else { Ok(()) }
    }

    /// An error unless the range is inside the export and, except at its end, in whole blocks.
    fn check_inside(&self, terms: RequestInfo) -> Result<(), StartError> {
        if terms.length == 0 {
            return Err(StartError::ZeroLength(terms));
        }
        let (end, minimum) = (self.end_of(terms)?, self.export().minimum_block());
        // a block status request may have any alignment: servers answer it, and a survey aligns its
        // own requests
        let has_whole_end = end.is_multiple_of(minimum) || end == self.export().size;
        let aligned = terms.offset.is_multiple_of(minimum) && has_whole_end;
        if terms.command != Command::BlockStatus && !aligned {
            return Err(StartError::Unaligned { request: terms, minimum });
        }
        Ok(())
    }

    fn check_contexts(&self, only: &[u32]) -> Result<Arc<[u32]>, StartError> {
        if !self.export().payload_status() {
            return Err(StartError::NotOffered("block status of chosen contexts"));
        }
        for (index, &context) in only.iter().enumerate() {
            if !self.contexts.contains(&context) {
                return Err(StartError::UnknownContext(context));
            }
            if only.iter().take(index).any(|&earlier| earlier == context) {
                return Err(StartError::DuplicateContext(context));
            }
        }
        Ok(Arc::from(only))
    }

    // ---- recorded, and out to the wire

    /// Records a request that was checked, and puts its header into the output. The caller puts
    /// `payload` bytes after it: where there are any, the header has their number.
    fn enter(&mut self, owner: u64, info: RequestInfo, answer: ExpectedAnswer, payload: u64) -> Cookie {
        let cookie = self.requests.next_number();
        let headers = self.config.export.headers;
        let is_counted = payload > 0 && headers == Headers::Extended;
        let info = if is_counted { info.with(command_flag::PAYLOAD_LEN) } else { info };
        let RequestInfo { command, flags, offset, .. } = info;
        let length = if payload > 0 { payload } else { info.length };
        let header = RequestHeader { flags, command: command as u16, cookie: cookie.get(), offset, length };
        let before = self.output.unsent;
        self.output.headers(|out| header.encode(headers, out));
        self.unowned += usize::from(owner == 0);
        self.stats.requests += 1;
        self.stats.bytes_sent += self.output.unsent - before + payload;
        let header_end = self.output.position + self.output.unsent;
        let (end, due) = (header_end + payload, answer.due());
        let pending = Pending { info, owner, header_end, end, answer, due, error: None, chunks: 0, bytes: 0 };
        self.requests.enter(cookie, pending);
        event!(debug, "request sent", command = command, cookie = cookie, offset = offset, length = length);
        cookie
    }
}
