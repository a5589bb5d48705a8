//! A simulated server: the status of each byte in each context, and replies of any legal shape. It
//! also checks the client's requests.

use core::ops::Range;

use nbd_extents::wire::{Form, encode};
use nbd_extents::{Allocation, Context, Depth, Dirtiness, Request, Status, Topic};

use super::style::Style;

/// One context of the export: the flags of each byte.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) context: Context,
    /// The index of this bitmap, from 0, in the order in which the client wants them; 0 for the
    /// others.
    pub(crate) bitmap: usize,
    pub(crate) id: u32,
    pub(crate) flags: Vec<u64>,
}

impl Source {
    /// `status` with the meaning of `flags` in this context.
    pub(crate) fn add(&self, status: Status, flags: u64) -> Status {
        match self.context {
            Context::Allocation => status.with_allocation(Allocation::from_flags(flags)),
            Context::Depth => status.with_depth(Depth::from_flags(flags)),
            _ => status.with_bitmap(self.bitmap.try_into().unwrap(), Dirtiness::from_flags(flags)),
        }
    }

    pub(crate) fn is_bitmap(&self) -> bool {
        matches!(self.context, Context::Bitmap(_))
    }

    fn junk(&self, junk: u32) -> u64 {
        match self.context {
            Context::Allocation => u64::from(junk & !3),
            Context::Depth => 0,
            _ => u64::from(junk & !1),
        }
    }
}

/// The usable part of a reply about a range of bytes in one context.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) source: usize,
    pub(crate) bytes: Range<usize>,
    pub(crate) flags: Vec<u64>,
}

/// How often the interesting cases occurred, so that a test cannot pass without them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) short: u64,
    pub(crate) uneven: u64,
    pub(crate) overshot: u64,
    pub(crate) extra: u64,
    pub(crate) equal_neighbours: u64,
    pub(crate) details: u64,
    pub(crate) tails: u64,
    pub(crate) at_once: u64,
}

/// The server's side of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) sources: Vec<Source>,
    pub(crate) form: Form,
    pub(crate) min_block: usize,
    /// The limit that the client promised to keep.
    pub(crate) max_request: u64,
    /// Lists end at multiples of this, or at the end of the export.
    pub(crate) grain: usize,
    pub(crate) styles: Vec<Style>,
    /// A request about details must touch no block that is clean in all bitmaps.
    pub(crate) snapshot_access: bool,
    pub(crate) requests: u64,
    /// The limit on requests in flight.
    pub(crate) in_flight: usize,
    /// The order in which the replies continue.
    pub(crate) schedule: Vec<u8>,
    pub(crate) told: Vec<Told>,
    pub(crate) seen: Seen,
}

impl Server {
    pub(crate) fn size(&self) -> usize {
        self.sources[0].flags.len()
    }

    /// The chunks of the reply to `request`.
    pub(crate) fn answer(&mut self, request: &Request) -> Vec<Vec<u8>> {
        let asked = self.judge(request);
        let style = self.styles[usize::try_from(self.requests).unwrap() % self.styles.len()].clone();
        self.requests += 1;
        let mut chunks = Vec::new();
        let mut ends = Vec::new();
        for &id in request.context_ids() {
            let nth = self.sources.iter().position(|source| source.id == id).expect("an id of this server");
            let (payload, end) = self.list(nth, &style, asked.clone(), request.one_extent());
            chunks.push(payload);
            ends.push(end);
        }
        self.seen.uneven += u64::from(ends.windows(2).any(|pair| pair[0] != pair[1]));
        style.shuffle(&mut chunks);
        chunks
    }

    fn list(&mut self, nth: usize, style: &Style, asked: Range<usize>, one: bool) -> (Vec<u8>, usize) {
        let source = &self.sources[nth];
        let mut style = style.clone();
        if one {
            style = Style { one_each: true, extra: false, splits: 0, overshoot: vec![0], ..style };
        }
        let (mut list, end) = style.list(nth, &source.flags, asked.clone(), self.grain);
        if one {
            list.truncate(1);
        }
        let described: u64 = list.iter().map(|descriptor| descriptor.length).sum();
        self.seen.short += u64::from(end < asked.end);
        self.seen.overshot += u64::from(end > asked.end);
        self.seen.extra += u64::from(asked.start as u64 + described > end as u64);
        self.seen.equal_neighbours +=
            list.windows(2).filter(|pair| pair[0].flags == pair[1].flags).count() as u64;
        for (index, descriptor) in list.iter_mut().enumerate() {
            descriptor.flags |= source.junk(style.junk.rotate_left(u32::try_from(index % 32).unwrap()));
        }
        self.told.push(Told {
            source: nth,
            bytes: asked.start..end,
            flags: source.flags[asked.start..end].to_vec(),
        });
        (encode(self.form, source.id, list).unwrap(), end)
    }

    /// The rules for requests: a server would answer a violation with an error, or worse.
    #[track_caller]
    fn judge(&mut self, request: &Request) -> Range<usize> {
        let (block, size) = (self.min_block as u64, self.size() as u64);
        let (start, length) = (request.offset(), request.length());
        let end = start.checked_add(length).expect("a request that overflows");
        assert!(length > 0, "a request for nothing: {request:?}");
        assert!(end <= size, "past the export of {size}: {request:?}");
        assert_eq!(start % block, 0, "unaligned start: {request:?}");
        assert!(length % block == 0 || end == size, "unaligned end: {request:?}");
        let most = (self.max_request - self.max_request % block).max(block);
        assert!(length <= most, "more than {most}: {request:?}");
        assert!(self.form == Form::Extended || length <= 1 << 31, "too long for compact: {request:?}");
        self.judge_contexts(request);
        self.seen.tails += u64::from(length % block != 0);
        let asked = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        if request.topic() == Topic::Details {
            self.seen.details += 1;
            self.judge_details(asked.clone());
        }
        asked
    }

    fn judge_contexts(&self, request: &Request) {
        let wanted = |source: &&Source| match request.topic() {
            Topic::Bitmaps => source.is_bitmap(),
            Topic::Details => !source.is_bitmap(),
            _ => true,
        };
        let mut ids: Vec<u32> = self.sources.iter().filter(wanted).map(|source| source.id).collect();
        let mut asked = request.context_ids().to_vec();
        ids.sort_unstable();
        asked.sort_unstable();
        assert_eq!(asked, ids, "{request:?}");
    }

    /// Each block of the request has a dirty byte.
    fn judge_details(&self, asked: Range<usize>) {
        if !self.snapshot_access {
            return;
        }
        let dirty =
            |at: usize| self.sources.iter().any(|source| source.is_bitmap() && source.flags[at] & 1 == 1);
        for start in asked.clone().step_by(self.min_block) {
            let mut block = start..(start + self.min_block).min(asked.end);
            assert!(block.any(dirty), "a request for details touches the clean block at {start}");
        }
    }
}
