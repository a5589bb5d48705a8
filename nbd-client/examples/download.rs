//! Reads a whole export over one connection, and prints how long it took and how much memory:
//! `cargo run --release -p nbd-client --features tls --example download -- nbds://host/disk`.
//! Beside it, `nbdcopy --connections=1 nbds://host/disk null:` does the same with libnbd.

use nbd_client::pipeline::PipelineOptions;
use nbd_client::{Options, Pool, ReadAhead, Uri};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let uri: Uri = std::env::args().nth(1).ok_or("which export? give its URI")?.parse()?;
    let started = Instant::now();
    let mut pool = Pool::connect(&uri, &Options::new(), 1)?;
    let size = pool.export().size();
    let mut blocks = ReadAhead::new(&mut pool, std::iter::once(0..size), PipelineOptions::default())?;
    let mut bytes = 0;
    while let Some(block) = blocks.next_block()? {
        bytes += block.data.len() as u64;
    }
    pool.disconnect()?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{bytes} bytes in {seconds:.3} s, {:.0} MB/s{}", bytes as f64 / 1e6 / seconds, peak());
    Ok(())
}

/// The peak of the memory, where the system tells.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map(|peak| format!(", {} at most", peak.trim())).unwrap_or_default()
}
