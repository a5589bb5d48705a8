//! What reading and writing a list holds in memory: no more for 10^7 rows than for 10^3, in every
//! format. `BOUNDS=long cargo test --release -p nbd-extents-formats --test bounds` goes to 10^7 rows,
//! otherwise the longest lists are left out.

use std::io::{self, Read, Write};

use nbd_extents::Extent;
use nbd_extents::stream::{ExtentStream, from_iter};
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

#[test]
fn lists_are_read_and_written_in_constant_memory() {
    let long = std::env::var("BOUNDS").is_ok_and(|value| value == "long");
    let counts: &[u64] = if long { &[1_000, 100_000, 10_000_000] } else { &[1_000, 30_000] };
    for &format in Format::ALL {
        for &count in counts {
            let size = Some(count * BLOCK);
            let options = WriteOptions { size, loss: Loss::Allow, ..WriteOptions::default() };
            let mut written = Count(0);
            let (writing, result) =
                peak(|| format.writer(&mut written, options).write_all(from_iter(rows(count))));
            result.unwrap_or_else(|error| panic!("{format}: {error}"));
            let mut list = Vec::new();
            format.writer(&mut list, options).write_all(from_iter(rows(count))).unwrap();
            assert_eq!(list.len() as u64, written.0);
            let (reading, extents) = peak(|| {
                let mut rows = format.read(Pieces(&list), ReadOptions { size, ..ReadOptions::default() });
                let mut extents = 0_u64;
                while rows.next_extent().unwrap().is_some() {
                    extents += 1;
                }
                extents
            });
            eprintln!(
                "{format}: {count} rows, {} bytes: read in {reading}, written in {writing}",
                list.len()
            );
            assert!(extents >= count / 2, "{format}: {extents} of {count}");
            assert!(reading <= LIMIT, "{format}: {reading} bytes to read {count} rows");
            assert!(writing <= LIMIT, "{format}: {writing} bytes to write {count} rows");
        }
    }
}
