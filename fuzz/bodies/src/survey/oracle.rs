//! The expected status of each byte, from a slow reading of the accepted replies.
//!
//! A reply decides about the bytes from the position of its pass (`cursor`) to the end of its
//! shortest context, within the pass's ranges; if no context gets beyond the cursor, about the rest
//! of that block, which gets the safe status. On a read-only export the statuses must then be
//! equal. On a writable one earlier replies may have described a byte as well: there the result
//! must be at least as safe as the deciding reply, and claim nothing that no reply said.
//!
//! With several requests in flight, and for details, the oracle does not know which of several
//! replies about a byte decides: the result must then equal one of them, in all its contexts.

use core::ops::Range;

use super::case::{ALLOCATION, BITMAP, DEPTH, SurveyCase};
use nbd_extents::wire::{Descriptor, Form, parse_compact, parse_extended};
use nbd_extents::{Allocation, Depth, Dirtiness, Request, Status, Topic};

/// One context's list: extents from the request's start on, cut off as the rules demand.
struct Told {
    id: u32,
    extents: Vec<(Range<u128>, u64)>,
}

impl Told {
    fn end(&self) -> u128 {
        self.extents.last().map_or(0, |(range, _)| range.end)
    }

    /// The flags of each byte from `start` to `end`, `None` beyond the list, and whether an extent
    /// starts there.
    fn written_out(&self, start: u128, end: u128) -> Vec<(Option<Status>, bool)> {
        let length = usize::try_from(end.saturating_sub(start)).unwrap();
        let place = |at: u128| usize::try_from(at.saturating_sub(start)).unwrap().min(length);
        let mut said = vec![(None, false); length];
        for (range, flags) in &self.extents {
            let told = Some(status(self.id, *flags));
            said[place(range.start)..place(range.end)].iter_mut().for_each(|byte| byte.0 = told);
            // an extent starts here, and after the last one, where the safe status may be filled in
            for at in [range.start, range.end].into_iter().filter(|&at| start <= at && at < end) {
                said[place(at)].1 = true;
            }
        }
        said
    }
}

fn status(id: u32, flags: u64) -> Status {
    match id {
        // invalid flags of an allocation are in doubt
        ALLOCATION if flags >> 32 != 0 => Status::UNKNOWN.with_allocation(Allocation::DATA),
        ALLOCATION => Status::UNKNOWN.with_allocation(Allocation::from_flags(flags)),
        DEPTH => Status::UNKNOWN.with_depth(Depth::from_flags(flags)),
        _ => Status::UNKNOWN
            .with_bitmap(((id - BITMAP) as usize).try_into().unwrap(), Dirtiness::from_flags(flags)),
    }
}

/// Data, dirty, depth unknown.
fn safe(id: u32) -> Status {
    status(
        id,
        if id == ALLOCATION {
            0
        } else if id == DEPTH {
            u64::MAX
        } else {
            1
        },
    )
}

/// One pass over the range.
#[derive(Clone, Debug)]
struct OraclePass {
    /// The bytes before this one are decided.
    cursor: usize,
    /// The deciding reply's status of each byte.
    decided: Vec<Option<Status>>,
    /// The joined status of each byte in all accepted replies.
    heard: Vec<Status>,
    /// True where an extent of the pass starts.
    cut: Vec<bool>,
    /// The statuses of each byte in each accepted reply.
    said: Vec<Vec<Status>>,
}

impl OraclePass {
    fn new(case: &SurveyCase) -> Self {
        Self {
            cursor: case.range.start,
            decided: vec![None; case.size],
            heard: vec![Status::UNKNOWN; case.size],
            cut: vec![false; case.size],
            said: vec![Vec::new(); case.size],
        }
    }
}

#[derive(Clone, Debug)]
pub struct Oracle {
    case: SurveyCase,
    /// All contexts, or the bitmaps.
    first: OraclePass,
    /// The other contexts of a bitmap-first survey.
    details: OraclePass,
}

impl Oracle {
    pub fn new(case: &SurveyCase) -> Self {
        Self { first: OraclePass::new(case), details: OraclePass::new(case), case: case.clone() }
    }

    /// On a writable export an earlier answer may have made a clean byte dirty: the oracle then
    /// does not know which details are requested.
    fn knows_details(&self) -> bool {
        !self.case.writable
    }

    /// The bytes that the pass of this request covers.
    pub fn todo(&self, topic: Topic) -> Range<usize> {
        if topic != Topic::Details {
            return self.first.cursor..self.case.range.end;
        }
        let dirty = |at: &usize| self.first.decided[*at].is_some_and(|status| status.dirty() == Some(true));
        let known = self.first.cursor;
        let start = (self.details.cursor..known).find(dirty).unwrap_or(known);
        let end = (start + 1..known).find(|at| !dirty(at) || self.first.cut[*at]).unwrap_or(known);
        start..end
    }

    /// True if one cursor determines the bytes that a reply decides.
    fn is_exact(&self, topic: Topic) -> bool {
        topic != Topic::Details && self.case.width() == 1
    }

    /// Checks a request, made while others are in flight.
    pub fn request(&self, request: &Request, flying: &[&Request]) {
        let case = &self.case;
        let (start, length, block) = (request.offset(), request.length(), case.block as u64);
        let end = start.checked_add(length).unwrap();
        assert!(length > 0 && end <= case.export_size(), "{request:?}");
        assert_eq!(start % block, 0, "{request:?}");
        assert!(length % block == 0 || end == case.export_size(), "{request:?}");
        assert!(case.form == Form::Extended || length <= 1 << 31, "{request:?}");
        let most = case.max_request.unwrap_or(1 << 37);
        assert!(length <= (most - most % block).max(block), "{request:?}");
        assert_eq!(request.one_extent(), case.one_extent);
        let topic = request.topic();
        assert_eq!(case.bitmap_first, topic != Topic::All);
        let about = |id: &u32| topic == Topic::All || SurveyCase::is_bitmap(*id) == (topic == Topic::Bitmaps);
        let ids: Vec<u32> = case.ids.iter().copied().filter(about).collect();
        assert_eq!(request.context_ids(), ids);
        if topic == Topic::Details && !self.knows_details() {
            return;
        }
        if !self.is_exact(topic) {
            return self.request_ahead(request, flying);
        }
        // the request begins in the block of the first byte to do, and stays in the blocks of such
        // bytes
        let todo = self.todo(topic);
        assert!(!todo.is_empty(), "{request:?} about nothing");
        let todo = case.base + todo.start as u64..case.base + todo.end as u64;
        assert_eq!(start, todo.start - todo.start % block, "{request:?} for {todo:?}");
        assert!(end < todo.end + block, "{request:?} for {todo:?}");
    }

    /// A request that may be one of several covers only bytes not yet requested, and for details
    /// only blocks with a dirty byte.
    fn request_ahead(&self, request: &Request, flying: &[&Request]) {
        let block = self.case.block as u64;
        let inner = |request: &Request| {
            let (start, end) = (request.offset() + block - 1, request.offset() + request.length());
            start..end.saturating_sub(block - 1)
        };
        for other in flying.iter().filter(|other| other.topic() == request.topic()) {
            let (one, two) = (inner(request), inner(other));
            assert!(one.start >= two.end || two.start >= one.end, "{request:?} while {other:?} is in flight");
        }
        let base = self.case.base;
        let (start, end) = (request.offset(), request.offset() + request.length());
        let range = base + self.case.range.start as u64..base + self.case.range.end as u64;
        assert!(end > range.start && start < range.end, "{request:?}");
        let dirty = |at: u64| {
            let said = range.contains(&at).then(|| &self.first.said[(at - base) as usize]);
            said.is_some_and(|said| said.iter().any(|status| status.dirty() == Some(true)))
        };
        if request.topic() == Topic::Details {
            for from in (start..end).step_by(self.case.block) {
                assert!(
                    (from..(from + block).min(end)).any(dirty),
                    "{request:?} asks the clean block at {from}"
                );
            }
        }
    }

    /// Records a reply's status of each byte, up to the end of the shortest context, or within the
    /// first block.
    fn note(&mut self, request: &Request, told: &[Told]) {
        let case = &self.case;
        let (base, start) = (u128::from(case.base), u128::from(request.offset()));
        let shortest = told.iter().map(Told::end).min().unwrap();
        let end = shortest.max(start + case.block as u128).min(base + case.range.end as u128);
        let pass = if request.topic() == Topic::Details { &mut self.details } else { &mut self.first };
        let said: Vec<_> = told.iter().map(|one| (one.id, one.written_out(start, end))).collect();
        for at in start.max(base + case.range.start as u128)..end {
            let of = |(id, said): &(u32, Vec<(Option<Status>, bool)>)| {
                said[(at - start) as usize].0.unwrap_or_else(|| safe(*id))
            };
            let status = said.iter().map(of).fold(Status::UNKNOWN, |all, one| all.combine(one));
            pass.said[(at - base) as usize].push(status);
        }
    }

    /// Takes an accepted reply: all its chunks, including those about unknown contexts.
    pub fn accepted(&mut self, request: &Request, chunks: &[Vec<u8>]) {
        let topic = request.topic();
        if topic == Topic::Details && !self.knows_details() {
            return;
        }
        let told: Vec<Told> =
            request.context_ids().iter().map(|&id| self.told(id, request, chunks)).collect();
        self.note(request, &told);
        if !self.is_exact(topic) {
            return;
        }
        let todo = self.todo(topic);
        let base = u128::from(self.case.base);
        let shortest = told.iter().map(Told::end).min().unwrap();
        let reached = usize::try_from(shortest.saturating_sub(base).min(todo.end as u128)).unwrap();
        let end = if reached > todo.start {
            reached
        } else {
            (todo.start + 1).next_multiple_of(self.case.block).min(todo.end)
        };
        let pass = if topic == Topic::Details { &mut self.details } else { &mut self.first };
        let longest = told.iter().map(Told::end).max().unwrap().min(base + self.case.range.end as u128);
        let longest = longest.max(base + end as u128);
        for one in &told {
            let said = one.written_out(base + todo.start as u128, longest);
            for (at, (status, starts)) in (todo.start..).zip(said) {
                let status = if at < end { status.or(Some(safe(one.id))) } else { status };
                let Some(status) = status else { continue };
                pass.heard[at] = pass.heard[at].combine(status);
                if at < end {
                    pass.decided[at] = Some(pass.decided[at].map_or(status, |other| other.combine(status)));
                    pass.cut[at] |= starts;
                }
            }
        }
        pass.cut[todo.start] = true;
        pass.cursor = end;
    }

    /// The content of the single chunk about context `id`.
    fn told(&self, id: u32, request: &Request, chunks: &[Vec<u8>]) -> Told {
        let lists = chunks.iter().filter_map(|chunk| parse(self.case.form, chunk));
        let mut about: Vec<_> = lists.filter(|(context, _)| *context == id).collect();
        assert_eq!(about.len(), 1, "a reply was accepted that does not have one chunk for each context");
        let (start, length) = (u128::from(request.offset()), u128::from(request.length()));
        let size = u128::from(self.case.export_size());
        let mut at = start;
        let mut extents = Vec::new();
        for Descriptor { length: told, flags } in about.pop().unwrap().1 {
            let over = at >= start + length || told == 0 || self.case.one_extent && at > start;
            if over {
                break;
            }
            let last = if self.case.one_extent { start + length } else { size };
            let end = (at + u128::from(told)).min(last);
            extents.push((at..end, flags));
            at = end;
        }
        assert!(at > start, "a reply was accepted that says nothing of context {id}");
        Told { id, extents }
    }

    /// Checks an extent of the result, byte by byte.
    ///
    /// `forgetful`: for lack of room some answer ahead was forgotten, and bytes may be dirty or
    /// data although no reply said so.
    pub fn handed_out(&self, range: Range<usize>, status: Status, forgetful: bool) {
        for at in range {
            if !self.case.writable {
                self.was_said(status, at);
            }
            if !self.is_exact(Topic::All) || self.case.bitmap_first && !self.case.writable {
                continue;
            }
            let first = self.first.decided[at];
            let first = first.unwrap_or_else(|| panic!("byte {at} is handed out and was not answered"));
            let dirty = first.dirty() == Some(true);
            let details = if dirty { self.details.decided[at] } else { None };
            if !self.case.writable {
                assert!(!self.case.bitmap_first || !dirty || details.is_some(), "byte {at} without details");
                let expected = details.map_or(first, |details| first.combine(details));
                assert_eq!(status, expected, "byte {at}");
                continue;
            }
            let heard = self.first.heard[at];
            assert_no_safer(status, first, at);
            if !forgetful {
                assert_claims(heard, status, at, self.case.bitmap_first);
            }
        }
    }
}

impl Oracle {
    /// One reply must have given this status of the byte, or one about the bitmaps and one about
    /// the details.
    fn was_said(&self, status: Status, at: usize) {
        let exact = if self.is_exact(Topic::All) { self.first.decided[at] } else { None };
        let said = exact.as_slice().iter().chain(self.first.said[at].iter().filter(|_| exact.is_none()));
        let found = said.into_iter().any(|first| {
            if !self.case.bitmap_first || first.dirty() != Some(true) {
                return *first == status;
            }
            self.details.said[at].iter().any(|details| first.combine(*details) == status)
        });
        let (first, details) = (&self.first.said[at], &self.details.said[at]);
        assert!(found, "byte {at} came out as {status:?}, but the replies said {first:?}, {details:?}");
    }
}

/// The result must be at least as safe as the deciding reply `told`.
fn assert_no_safer(status: Status, told: Status, at: usize) {
    for bitmap in told.dirty_set().indices() {
        assert_eq!(status.dirty_in(bitmap), Some(true), "byte {at}: {told:?} came out as {status:?}");
    }
    if told.zero() == Some(false) {
        assert_eq!(status.zero(), Some(false), "byte {at}: {told:?} came out as {status:?}");
    }
    if told.hole() == Some(false) {
        assert_eq!(status.hole(), Some(false), "byte {at}: {told:?} came out as {status:?}");
    }
    if status.depth().is_some() && told.zero().is_some() {
        assert_eq!(status.depth(), told.depth(), "byte {at}: {told:?} came out as {status:?}");
    }
}

/// Some reply must have given each part of the result. `heard` joins them all; the safer answers
/// win.
fn assert_claims(heard: Status, status: Status, at: usize, bitmaps_only: bool) {
    for bitmap in status.dirty_set().indices() {
        assert_eq!(heard.dirty_in(bitmap), Some(true), "byte {at}: {heard:?} came out as {status:?}");
    }
    if !bitmaps_only && status.zero() == Some(false) {
        assert_eq!(heard.zero(), Some(false), "byte {at}: {heard:?} came out as {status:?}");
    }
}

fn parse(form: Form, chunk: &[u8]) -> Option<(u32, Vec<Descriptor>)> {
    match form {
        Form::Compact => parse_compact(chunk).ok().map(|s| (s.context(), s.descriptors().collect())),
        Form::Extended => parse_extended(chunk).ok().map(|s| (s.context(), s.descriptors().collect())),
    }
}
