//! Writes of any range to targets of any minimum block, against a model that writes bytes.
#![cfg(target_os = "linux")]

use std::sync::{Arc, Mutex};

use nbd_client::Options;
use nbd_client::frame::command;
use nbd_client::pipeline::PipelineOptions;
use proptest::prelude::*;
use testkit::pools::PoolKind;
use testkit::scripted::{DONE, Good, ScriptedServer};

const SIZE: u64 = 1 << 20;
/// HAS_FLAGS, FLUSH, WRITE_ZEROES, CAN_MULTI_CONN.
const FLAGS: u16 = 1 | 1 << 2 | 1 << 6 | 1 << 8;

/// The bytes of a disk, and how often they were read.
type Disk = Arc<Mutex<(Vec<u8>, u64)>>;

/// A disk full of 0xee that refuses requests of parts of a block, and counts its reads.
fn disk(block: u64, size: u64) -> (ScriptedServer, Disk) {
    let disk = Arc::new(Mutex::new((vec![0xee; size as usize], 0)));
    let theirs = Arc::clone(&disk);
    let server = ScriptedServer::start(move |conn| {
        let blocks = [block as u32, 65536.max(block as u32), 1 << 25];
        conn.handshake(&Good::extended().size(size).flags(FLAGS).block_sizes(blocks))?;
        conn.serve(|conn, request| {
            let end = request.offset + request.length;
            assert!(request.offset.is_multiple_of(block), "{request:?}");
            assert!(end.is_multiple_of(block) || end == size, "{request:?}");
            let place = request.offset as usize..end as usize;
            let mut disk = theirs.lock().unwrap();
            match request.command {
                command::READ => {
                    disk.1 += 1;
                    let data = disk.0[place].to_vec();
                    drop(disk);
                    return conn.data(request, request.offset, &data, DONE);
                }
                command::WRITE => disk.0[place].copy_from_slice(&request.data),
                command::WRITE_ZEROES => disk.0[place].fill(0),
                _ => {}
            }
            drop(disk);
            conn.done(request)
        })
    });
    (server.unwrap(), disk)
}

/// A write of bytes, or of zeroes; `follows` begins where the last one ended, and `joined` may wait for
/// the next one.
#[derive(Clone, Copy, Debug)]
struct Piece {
    follows: bool,
    joined: bool,
    offset: u64,
    length: u64,
    byte: u8,
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let length = prop_oneof![1..300_u64, 1..9000_u64, 1..200_000_u64, Just(512), Just(4096), Just(65536)];
    let offset = prop_oneof![0..SIZE, (0..SIZE / 512).prop_map(|at| at * 512), Just(SIZE)];
    let piece = (any::<[bool; 2]>(), offset, length, 0..4_u8).prop_map(
        |([follows, joined], offset, length, byte)| Piece { follows, joined, offset, length, byte },
    );
    prop::collection::vec(piece, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_writes_end_up_as_bytes(
        pieces in pieces(),
        block in prop::sample::select(vec![1_u64, 512, 4096, 65536]),
        tail in prop::sample::select(vec![0_u64, 1, 511, 512, 5000]),
        connections in 1..3_usize,
        kind in prop::sample::select(PoolKind::ALL.to_vec()),
    ) {
        let size = SIZE + tail;
        let (server, disk) = disk(block, size);
        let mut pool = kind.connect(&server.uri().parse().unwrap(), &Options::new(), connections).unwrap();
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        let mut model = vec![0xee; size as usize];
        let mut last = 0;
        for Piece { follows, joined, offset, length, byte } in pieces {
            let start = if follows { last } else { offset.min(size) };
            let end = (start + length).min(size);
            last = end;
            model[start as usize..end as usize].fill(byte);
            if byte == 0 {
                writes.zero(start, end - start).unwrap();
                continue;
            }
            let data = vec![byte; (end - start) as usize];
            if joined {
                writes.write_joined(start, &data).unwrap();
            } else {
                writes.write(start, data).unwrap();
            }
        }
        writes.finish().unwrap();
        prop_assert!(disk.lock().unwrap().0 == model, "another disk");
    }
}

/// The rest of a block is read once, wherever in the block the bytes are.
#[test]
fn a_part_of_one_block_costs_one_read() {
    for (kind, start) in PoolKind::ALL.into_iter().flat_map(|kind| [0, 512, 3584].map(|start| (kind, start)))
    {
        let (server, disk) = disk(4096, SIZE);
        let mut pool = kind.connect(&server.uri().parse().unwrap(), &Options::new(), 1).unwrap();
        pool.write(4096 + start, &[7; 512]).unwrap();
        let disk = disk.lock().unwrap();
        assert_eq!(disk.1, 1, "{kind:?}, {start}");
        let place = 4096 + start as usize..4608 + start as usize;
        assert!(disk.0[place.clone()].iter().all(|&byte| byte == 7));
        assert!(disk.0[..place.start].iter().chain(&disk.0[place.end..]).all(|&byte| byte == 0xee));
    }
}

/// Pieces that come in order are joined: nothing but the ends has to be read.
#[test]
fn neighbours_are_joined_and_not_read() {
    for kind in PoolKind::ALL {
        let (server, disk) = disk(4096, SIZE);
        let mut pool = kind.connect(&server.uri().parse().unwrap(), &Options::new(), 1).unwrap();
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        for at in (512..100_000).step_by(512) {
            writes.write(at, vec![7; 512]).unwrap();
        }
        writes.finish().unwrap();
        let disk = disk.lock().unwrap();
        assert_eq!(disk.1, 2, "the first block and the last");
        assert!(disk.0[512..99_840].iter().all(|&byte| byte == 7));
        assert!(disk.0[..512].iter().chain(&disk.0[99_840 + 512..]).all(|&byte| byte == 0xee));
    }
}
