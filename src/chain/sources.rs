//! Many layers into one: each range is served by the newest layer that has an action for it. One
//! pass, with one extent of each layer in memory.
//!
//! At each moment a layer is in one of three places: *waiting* for the byte where its next extent
//! starts, *active* once that extent has started, or at its end. The newest active layer serves the
//! position. A layer hidden by a newer one is read on only when the newer one's extent ends. So
//! each extent is read once and moved between two heaps once, which takes time logarithmic in the
//! number of layers, even where all of them overlap.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use super::error::SourceError;
use super::source::Source;
use crate::action::Action;
use crate::extent::Extent;
use crate::stream::{Check, Clip, ExtentSource, ExtentStream};

/// The source of each byte in a restore or a merge: a stream of [`Source`]s. See
/// [`Chain::restore`](super::Chain::restore) and [`Chain::merge`](super::Chain::merge), which make
/// it.
///
/// It covers the disk of its newest layer exactly once. Neighbours may be equal where a layer's
/// stream is cut; [`coalesce`](ExtentStream::coalesce) joins them.
///
/// ```
/// use nbd_extents::chain::{Chain, ChainLayer, Sources};
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{Action, Extent};
///
/// let full = from_iter(Extent::new(0, 4096, Action::Copy));
/// let sources: Sources<_> = Chain::new([(ChainLayer::full("vda", "sunday", 4096), full)])?.restore();
/// assert_eq!(sources.collect_vec()?[0].to_string(), "0..4096 copy from layer 0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Sources<S: ExtentStream> {
    readers: Vec<Reader<S>>,
    /// The position in the chain of the first reader.
    first: usize,
    /// Layers whose next extent starts further on, by its start.
    waiting: BinaryHeap<Reverse<(u64, usize)>>,
    /// Layers whose extent has started. It may have ended too; that is seen when the layer comes to
    /// the top.
    active: BinaryHeap<usize>,
    /// The oldest reader whose bytes are not all cut off here.
    oldest: usize,
    /// The size of the disk in the layer below the first reader; `None` where the first is a full
    /// backup.
    below: Option<u64>,
    /// Bytes that a layer skips beyond the end of the one before read as zero.
    growth_is_zero: bool,
    position: u64,
    end: u64,
    started: bool,
    /// The stream has ended or failed.
    over: bool,
}

/// A layer being read.
#[derive(Clone)]
struct Reader<S: ExtentStream> {
    stream: Clip<Check<S>>,
    /// From here on nothing of the layer is left: the smallest size of the disk from this layer on.
    limit: u64,
    /// The next extent that is copied or zeroed.
    head: Option<Extent<Served>>,
}

/// The layer that serves a byte, and its extent there.
struct Newest {
    nth: usize,
    head: Extent<Served>,
}

/// The action of a layer that serves bytes.
#[derive(Clone, Copy, Debug)]
enum Served {
    Copy,
    Zero { may_unmap: bool },
}

impl<S: ExtentStream<Status = Action>> Sources<S> {
    /// `layers` are sizes and streams, oldest first; the first of them has position `first` in the
    /// chain. `below` is the size of the disk in the layer below it, `None` where it is a full
    /// backup.
    pub(super) fn new(layers: Vec<(u64, S)>, first: usize, below: Option<u64>, growth_is_zero: bool) -> Self {
        let end = layers.last().map_or(0, |(size, _)| *size);
        let mut readers: Vec<_> = layers.into_iter().rev().scan(u64::MAX, read).collect();
        readers.reverse();
        Self {
            readers,
            first,
            waiting: BinaryHeap::new(),
            active: BinaryHeap::new(),
            oldest: 0,
            below,
            growth_is_zero,
            position: 0,
            end,
            started: false,
            over: false,
        }
    }

    /// Reads a layer on to its first extent that ends beyond the current position, and puts it
    /// where it belongs.
    fn advance(&mut self, nth: usize) -> Result<(), SourceError<S::Error>> {
        let Some(reader) = self.readers.get_mut(nth) else { return Ok(()) };
        let layer = self.first + nth;
        reader.read_beyond(self.position).map_err(|error| SourceError::Layer { layer, error })?;
        match &reader.head {
            Some(head) if head.start() > self.position => self.waiting.push(Reverse((head.start(), nth))),
            Some(_) => self.active.push(nth),
            None => {}
        }
        Ok(())
    }

    /// The newest layer that serves the current position, and its extent there.
    fn newest(&mut self) -> Result<Option<Newest>, SourceError<S::Error>> {
        while let Some(&nth) = self.active.peek() {
            match self.readers.get(nth).and_then(|reader| reader.head) {
                Some(head) if head.end() > self.position => return Ok(Some(Newest { nth, head })),
                _ => {
                    self.active.pop();
                    self.advance(nth)?;
                }
            }
        }
        Ok(None)
    }

    /// Moves the layers whose extents start before `end` to the active ones, up to the first that
    /// is newer than `top`: that is where the range ends.
    fn until_hidden(&mut self, top: usize, end: u64) -> u64 {
        while let Some(&Reverse((start, nth))) = self.waiting.peek() {
            if start >= end {
                break;
            }
            if nth > top {
                return start;
            }
            self.waiting.pop();
            self.active.push(nth);
        }
        end
    }

    /// Moves the layers whose extents start here to the active ones.
    fn wake(&mut self) {
        while let Some(&Reverse((start, nth))) = self.waiting.peek() {
            if start > self.position {
                break;
            }
            self.waiting.pop();
            self.active.push(nth);
        }
    }

    /// A range that no layer has: it lies below the first layer, or a full backup leaves it out, or
    /// the disk has grown there.
    fn unserved(&mut self) -> Result<(u64, Source), SourceError<S::Error>> {
        let next = self.waiting.peek().map_or(self.end, |Reverse((start, _))| *start);
        let limit = loop {
            match self.readers.get(self.oldest) {
                Some(reader) if reader.limit <= self.position => self.oldest += 1,
                Some(reader) => break reader.limit,
                None => break self.end,
            }
        };
        let end = next.min(limit);
        let range = self.position..end;
        let layer = self.first + self.oldest;
        match self.below {
            Some(below) if self.oldest == 0 && self.position < below => Ok((end.min(below), Source::Below)),
            None if self.oldest == 0 => Err(SourceError::Uncovered { range }),
            _ if self.growth_is_zero => Ok((end, Source::Zero { layer, may_unmap: true })),
            _ => Err(SourceError::Grown { layer, range }),
        }
    }

    fn next_range(&mut self) -> Result<Option<Extent<Source>>, SourceError<S::Error>> {
        if !self.started {
            self.started = true;
            for nth in 0..self.readers.len() {
                self.advance(nth)?;
            }
        }
        if self.position >= self.end {
            return Ok(None);
        }
        let (end, source) = self.step()?;
        let start = core::mem::replace(&mut self.position, end);
        Ok(Some(Extent::trusted(start, end, source)))
    }

    fn step(&mut self) -> Result<(u64, Source), SourceError<S::Error>> {
        self.wake();
        let Some(Newest { nth, head }) = self.newest()? else { return self.unserved() };
        let end = self.until_hidden(nth, head.end());
        let layer = self.first + nth;
        let source = match *head.status() {
            Served::Copy => Source::Copy { layer },
            Served::Zero { may_unmap } => Source::Zero { layer, may_unmap },
        };
        Ok((end, source))
    }
}

/// Makes the reader of a layer, from the newest on. `limit` is the smallest size of the layers
/// above.
fn read<S: ExtentStream>(limit: &mut u64, (size, stream): (u64, S)) -> Option<Reader<S>> {
    *limit = size.min(*limit);
    Some(Reader { stream: stream.covering(0..size).clip(0..*limit), limit: *limit, head: None })
}

impl<S: ExtentStream<Status = Action>> Reader<S> {
    fn read_beyond(&mut self, position: u64) -> Result<(), S::Error> {
        loop {
            let Some(extent) = self.stream.next_extent()? else {
                self.head = None;
                return Ok(());
            };
            if extent.end() <= position {
                continue;
            }
            let served = match extent.status() {
                Action::Copy => Served::Copy,
                Action::Zero { may_unmap } => Served::Zero { may_unmap: *may_unmap },
                Action::Skip | Action::Absent => continue,
            };
            self.head = Some(extent.map(|_| served));
            return Ok(());
        }
    }
}

impl<S: ExtentStream<Status = Action>> ExtentSource for Sources<S> {
    type Status = Source;
    type Error = SourceError<S::Error>;

    fn pull(&mut self) -> Result<Option<Extent<Source>>, Self::Error> {
        if self.over {
            return Ok(None);
        }
        let next = self.next_range();
        // a layer that has failed is in none of the three places any more: to read on would yield
        // the older bytes that it hides
        self.over = !matches!(next, Ok(Some(_)));
        next
    }
}

impl<S: ExtentStream + Clone> Clone for Sources<S> {
    fn clone(&self) -> Self {
        Self {
            readers: self.readers.clone(),
            waiting: self.waiting.clone(),
            active: self.active.clone(),
            ..*self
        }
    }
}

impl<S: ExtentStream> fmt::Debug for Sources<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("layers", &(self.first..self.first + self.readers.len()))
            .field("position", &self.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
