//! A new file, written past the page cache by a thread of its own.
//!
//! A backup is made durable at its end, so it waits for the disk in any case, and nobody reads it
//! soon. The page cache costs processor time, and pushes out what the host's guests need: a program
//! that only reads extents of 16 KiB and writes them to ext4 took 8.5 us an extent through it, and
//! 5.1 us past it (benches/floor.c).

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// The bytes written at once: enough for a disk to have several requests at a time.
const CHUNK: usize = 4 << 20;
/// Past the page cache addresses, offsets and lengths are multiples of a disk's block, which is
/// this or a part of it.
const BLOCK: usize = 4096;
/// The chunks that wait for the disk while another one is filled.
const WAITING: usize = 2;

/// A file that is being written: one chunk is filled while others go to the disk.
#[derive(Debug)]
pub(super) struct DiskWriter {
    chunk: Chunk,
    full: Sender<Chunk>,
    written: Receiver<Chunk>,
    /// `None` once its error has been told.
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl DiskWriter {
    /// A writer of a file that is empty.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let (full, to_write) = channel();
        let (back, written) = channel();
        for _ in 0..WAITING {
            // its receiver is here
            back.send(Chunk::new()).ok();
        }
        let thread = std::thread::Builder::new().name("nbd-backup".to_owned());
        let thread = thread.spawn(move || write_all(&file, &to_write, &back))?;
        Ok(Self { chunk: Chunk::new(), full, written, thread: Some(thread) })
    }

    /// Writes the rest. All is in the file then, but it need not be durable.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { chunk, full, thread, .. } = self;
        // fails only after the thread has, which says why
        full.send(chunk).ok();
        drop(full);
        outcome(thread)
    }

    /// Gives the chunk to the thread, and goes on with one that has been written.
    fn hand_over(&mut self) -> io::Result<()> {
        let Ok(written) = self.written.recv() else {
            return outcome(self.thread.take());
        };
        let full = core::mem::replace(&mut self.chunk, written);
        // a thread that has failed since is noticed at the next chunk, or at the end
        self.full.send(full).ok();
        Ok(())
    }
}

impl Write for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.is_full() {
            self.hand_over()?;
        }
        Ok(self.chunk.fill(bytes))
    }

    /// Does nothing: [`finish`](Self::finish) writes the rest.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How the thread has ended. It ends before the caller wants it to only with an error.
fn outcome(thread: Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    let ended = thread.map(JoinHandle::join);
    ended.and_then(Result::ok).unwrap_or_else(|| Err(io::Error::other("the file cannot be written on")))
}

/// Writes chunks until no more of them come.
fn write_all(file: &File, full: &Receiver<Chunk>, back: &Sender<Chunk>) -> io::Result<()> {
    let mut is_direct = set_direct(file, true).is_ok();
    for mut chunk in full {
        // the last chunk is no whole number of blocks
        if is_direct && !chunk.is_full() {
            set_direct(file, false)?;
            is_direct = false;
        }
        write_chunk(file, chunk.bytes(), &mut is_direct)?;
        chunk.clear();
        // nobody waits for the last one
        back.send(chunk).ok();
    }
    Ok(())
}

fn write_chunk(mut file: &File, bytes: &[u8], is_direct: &mut bool) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // some file systems refuse it, and some disks have longer blocks
            Err(error) if *is_direct && error.kind() == ErrorKind::InvalidInput => {
                set_direct(file, false)?;
                *is_direct = false;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says whether the file is written past the page cache from now on.
#[cfg(target_os = "linux")]
fn set_direct(file: &File, is_direct: bool) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, is_direct);
    Ok(fcntl_setfl(file, flags)?)
}

/// Only Linux is told so.
#[cfg(not(target_os = "linux"))]
fn set_direct(_: &File, is_direct: bool) -> io::Result<()> {
    if is_direct { Err(ErrorKind::Unsupported.into()) } else { Ok(()) }
}

/// Bytes to be written, from an address that is a multiple of a block.
#[derive(Debug)]
struct Chunk {
    /// Never grows, so that it stays where it is.
    memory: Vec<u8>,
    start: usize,
}

impl Chunk {
    /// An empty chunk. Its memory has a block more than it holds, so that one begins in it.
    fn new() -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(CHUNK + BLOCK);
        let address = memory.as_ptr().addr();
        let start = address.next_multiple_of(BLOCK) - address;
        memory.resize(start, 0);
        Self { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..).unwrap_or_default()
    }

    fn is_full(&self) -> bool {
        self.bytes().len() == CHUNK
    }

    /// Takes the first of these bytes, as many as there is room for, and says how many.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(CHUNK - self.bytes().len());
        self.memory.extend_from_slice(bytes.get(..count).unwrap_or_default());
        count
    }

    fn clear(&mut self) {
        self.memory.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the pieces, the file has all bytes in their order; chunks are full at every border.
    #[test]
    fn the_file_has_what_was_written() {
        for length in [0, 1, BLOCK, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut writer = DiskWriter::new(file.reopen().unwrap()).unwrap();
            for piece in bytes.chunks(999_999) {
                writer.write_all(piece).unwrap();
            }
            writer.finish().unwrap();
            assert!(std::fs::read(file.path()).unwrap() == bytes, "{length} bytes");
        }
    }

    #[test]
    fn chunks_begin_at_a_block_and_stay_there() {
        let mut chunk = Chunk::new();
        let address = chunk.bytes().as_ptr().addr();
        assert!(address.is_multiple_of(BLOCK));
        assert_eq!((chunk.fill(&vec![1; CHUNK + 1]), chunk.is_full(), chunk.fill(&[1])), (CHUNK, true, 0));
        assert_eq!(chunk.bytes().as_ptr().addr(), address);
        chunk.clear();
        assert_eq!((chunk.bytes().len(), chunk.fill(&[1, 2])), (0, 2));
    }

    /// The error of the file is told: by the write that waits for the thread, or at the end.
    #[test]
    fn an_error_of_the_file_is_told() {
        for chunks in [0, 8] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut read_only = File::open(file.path()).unwrap();
            let expected = read_only.write(&[1]).unwrap_err().raw_os_error();
            let mut writer = DiskWriter::new(read_only).unwrap();
            let written = writer.write_all(&vec![1; chunks * CHUNK + 1]);
            assert_eq!(written.is_err(), chunks == 8);
            let error = written.and_then(|()| writer.finish()).unwrap_err();
            assert_eq!(error.raw_os_error(), expected);
        }
    }

    /// A write that the system refuses past the page cache goes through it, and so do all later ones.
    #[test]
    fn a_refused_write_goes_through_the_page_cache() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut is_direct = set_direct(file.as_file(), true).is_ok();
        let mut chunk = Chunk::new();
        chunk.fill(&vec![7; CHUNK]);
        let unaligned = &chunk.bytes()[1..];
        write_chunk(file.as_file(), unaligned, &mut is_direct).unwrap();
        assert!(std::fs::read(file.path()).unwrap() == unaligned);
        write_chunk(file.as_file(), unaligned, &mut is_direct).unwrap();
        assert_eq!(file.as_file().metadata().unwrap().len(), 2 * unaligned.len() as u64);
    }
}
