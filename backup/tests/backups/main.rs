//! Whole backups with one fault: either they are refused before a byte is written, or the restored
//! disk is the source.
//!
//! Each round makes a random disk that changes, grows and shrinks, backs up each of its states,
//! does one thing to the streams that goes wrong in practice, and restores them onto a target full
//! of other bytes. The judge is the last state of the disk. No server takes part, so that a round
//! takes well under a millisecond; the same through the program and real servers stands in
//! `cli/tests/live_backup_faults.rs`.
#![cfg(unix)]

mod python;

use nbd_extents_backup::sparse_stream::{self, Contents, ContentsError, Event};

use testkit::backups::{Disk, Dress, Fault, OLD, SeededNumbers, StreamSet};

/// The rounds of each test: 100, or as many as `BACKUP_ROUNDS` says.
fn rounds() -> u64 {
    std::env::var("BACKUP_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Checks streams as `verify` and `restore` do, and applies them as `restore` does. `None`: they
/// were refused.
fn restore(streams: &[Vec<u8>], base: Option<&str>, target: &mut [u8]) -> Option<()> {
    let contents: Vec<_> =
        streams.iter().map(|stream| Contents::read(&stream[..])).collect::<Result<_, _>>().ok()?;
    sparse_stream::chain(&contents, base).ok()?;
    for (nth, stream) in streams.iter().enumerate() {
        // Bytes that a later stream cuts off are not written: the target need not have room for
        // them.
        let limit =
            contents[nth..].iter().map(|contents| contents.meta().virtual_size).min().unwrap() as usize;
        let read = sparse_stream::read(&stream[..], |event| {
            match event {
                Event::Payload { offset, bytes } => {
                    let start = (offset as usize).min(limit);
                    let end = (start + bytes.len()).min(limit);
                    target[start..end].copy_from_slice(&bytes[..end - start]);
                }
                Event::Zero { range } => {
                    target[(range.start as usize).min(limit)..(range.end as usize).min(limit)].fill(0);
                }
                _ => {}
            }
            Ok::<(), ContentsError>(())
        });
        read.expect("it was checked");
    }
    Some(())
}

/// A chain without a fault is taken, whatever its streams state, and restores every state of the
/// disk.
#[test]
fn sound_backups_restore_the_disk() {
    for seed in 0..rounds() {
        let mut rng = SeededNumbers::new(seed);
        let disk = Disk::random(&mut rng);
        for dress in Dress::ALL {
            let set = StreamSet::of(&disk, dress, &mut rng);
            for states in 1..=disk.states.len() {
                let last = &disk.states[states - 1];
                let mut target = vec![OLD; last.len()];
                assert!(
                    restore(&set.bytes()[..states], None, &mut target).is_some(),
                    "seed {seed}, {dress:?}"
                );
                assert_eq!(&target, last, "seed {seed}, {dress:?}");
            }
        }
    }
}

/// Incrementals alone, onto a target that holds the state below them.
#[test]
fn incrementals_restore_onto_their_base_and_onto_no_other() {
    for seed in 0..rounds() {
        let mut rng = SeededNumbers::new(seed);
        let disk = Disk::random(&mut rng);
        for dress in [Dress::After, Dress::ByHand] {
            let set = StreamSet::of(&disk, dress, &mut rng);
            let from = 1 + rng.below(disk.states.len() - 1);
            let last = disk.states.last().unwrap();
            let on_target = |state: &Vec<u8>| {
                let mut target = state.clone();
                target.resize(last.len().max(state.len()), OLD);
                target
            };
            let mut target = on_target(&disk.states[from - 1]);
            let base = set.checkpoint(from - 1);
            assert!(restore(&set.bytes()[from..], Some(&base), &mut target).is_some(), "seed {seed}");
            assert_eq!(&target[..last.len()], last, "seed {seed}");
            for other in (0..disk.states.len()).filter(|&other| other != from - 1) {
                let mut target = on_target(&disk.states[other]);
                let refused =
                    restore(&set.bytes()[from..], Some(&set.checkpoint(other)), &mut target).is_none();
                assert!(refused, "seed {seed}: {from}.. on {other}");
            }
        }
        // Streams that name nothing cannot be tied to a base.
        let set = StreamSet::of(&disk, Dress::Plain, &mut rng);
        assert!(restore(&set.bytes()[1..], Some("c0"), &mut vec![OLD; 1 << 20]).is_none(), "seed {seed}");
    }
}

/// One fault, of each kind that the streams promise to find.
#[test]
fn one_fault_is_refused_or_does_not_matter() {
    let mut refused = 0;
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..rounds() {
        let mut rng = SeededNumbers::new(seed);
        let disk = Disk::random(&mut rng);
        for dress in Dress::ALL {
            let set = StreamSet::of(&disk, dress, &mut rng);
            for fault in Fault::all(&set, &mut rng) {
                let Some(faulty) = fault.apply(&set, &disk, &mut rng) else { continue };
                let mut target = vec![OLD; disk.largest()];
                let source = faulty.source(&disk);
                let taken = restore(&faulty.streams, None, &mut target).is_some();
                let is_right = target[..source.len()] == source[..];
                assert!(!taken || is_right, "seed {seed}, {dress:?}, {fault:?}: a wrong disk");
                refused += usize::from(!taken);
                let counts: &mut [u32; 2] = seen.entry(format!("{dress:?} {}", fault.kind())).or_default();
                counts[usize::from(taken)] += 1;
            }
        }
    }
    assert!(refused > 0, "no fault was found, so that none was made");
    // No kind of fault passes each time: the test would not notice that its check is gone.
    for (kind, [refused, taken]) in seen {
        assert!(refused > 0 || taken < 20, "{kind}: taken {taken} times, never refused");
    }
}
