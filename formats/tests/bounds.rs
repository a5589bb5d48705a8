//! The memory of reading and writing a list: no more for 10^7 rows than for 10^3, in every
//! format and in the list of actions. `BOUNDS=long cargo test --release -p nbd-extents-formats --test
//! bounds` goes to 10^7 rows, otherwise the longest lists are left out.

use std::io::{self, Read, Write};

use nbd_extents::Extent;
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents_formats::actions::{self, ActionKind};
use nbd_extents_formats::{Attributes, Format, ImageLayer, Loss, ReadOptions, WriteOptions};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const BLOCK: u64 = 65_536;
/// A reader has one buffer and one row, a writer one page of KubeVirt or CSI.
const LIMIT: usize = 512 << 10;

/// The most bytes that `work` holds beyond those held before it.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (MEMORY.peak_usage().saturating_sub(before), result)
}

fn rows(count: u64) -> impl Iterator<Item = Extent<Attributes>> {
    (0..count).map(|index| {
        let odd = Some(index & 1 == 1);
        let layer = Some(if index & 1 == 1 { ImageLayer::Absent } else { ImageLayer::Depth(1) });
        let compressed = Some(false);
        let known = Attributes { zero: odd, dirty: odd, layer, compressed, ..Attributes::default() };
        Extent::new(index * BLOCK, BLOCK, known).unwrap()
    })
}

/// Hands out a list a piece at a time, as a pipe does.
struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.0.len()).min(8192);
        let (now, later) = self.0.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

/// Counts bytes and keeps none.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Numbers of rows: 10^3 to 10^7, or those that a debug build reads and writes in a second.
fn counts() -> &'static [u64] {
    let long = std::env::var("BOUNDS").is_ok_and(|value| value == "long");
    if long { &[1_000, 100_000, 10_000_000] } else { &[1_000, 30_000] }
}

/// The number of extents in a list, as far as it can be read.
fn extents(mut rows: impl ExtentStream<Error: std::fmt::Debug>) -> u64 {
    let mut extents = 0;
    while rows.next_extent().unwrap().is_some() {
        extents += 1;
    }
    extents
}

/// Writes a list of this number of rows, and reads it again.
fn check(name: &str, count: u64, write: impl Fn(&mut dyn Write), read: impl FnOnce(Pieces<'_>) -> u64) {
    let mut written = Count(0);
    let (writing, ()) = peak(|| write(&mut written));
    let mut list = Vec::new();
    write(&mut list);
    assert_eq!(list.len() as u64, written.0);
    let (reading, extents) = peak(|| read(Pieces(&list)));
    eprintln!("{name}: {count} rows, {} bytes: read in {reading}, written in {writing}", list.len());
    assert!(extents >= count / 2, "{name}: {extents} of {count}");
    assert!(reading <= LIMIT, "{name}: {reading} bytes to read {count} rows");
    assert!(writing <= LIMIT, "{name}: {writing} bytes to write {count} rows");
}

/// One test: the allocator counts the whole process.
#[test]
fn lists_are_read_and_written_in_constant_memory() {
    for &count in counts() {
        let size = Some(count * BLOCK);
        let reading = ReadOptions { size, ..ReadOptions::default() };
        let writing = WriteOptions { size, loss: Loss::Allow, ..WriteOptions::default() };
        for &format in Format::ALL {
            let write = |out: &mut dyn Write| {
                let written = format.writer(out, writing).write_all(from_iter(rows(count)));
                written.unwrap_or_else(|error| panic!("{format}: {error}"));
            };
            check(&format.to_string(), count, write, |list| extents(format.read(list, reading)));
        }
        let decided = || {
            let kind = |known: Attributes| {
                if known.dirty == Some(true) { ActionKind::Copy } else { ActionKind::Skip }
            };
            from_iter(rows(count)).map_status(kind)
        };
        let write = |out: &mut dyn Write| drop(actions::writer(out, writing).write_all(decided()).unwrap());
        check("actions", count, write, |list| extents(actions::read(list, reading)));
    }
}
