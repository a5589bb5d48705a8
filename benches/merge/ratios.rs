//! How many times the floor: the number that holds on a noisy machine, because all functions of a group are measured side by side.

use core::hint::black_box;
use core::time::Duration;
use std::time::Instant;

use crate::answer::Segment;
use crate::contender::{Contender, FLOOR, Run, Sink};
use crate::workloads::Workload;

/// In each round every function has its turn.
const ROUNDS: usize = 7;
/// A turn repeats a short function until it has taken about this long: as long as a call of the slower ones, so that a busy
/// machine, which takes the core away every few milliseconds, slows all of them alike.
const TURN: Duration = Duration::from_millis(20);

/// Measures the functions in `ran` against the floor in interleaved rounds; one line for each of them.
pub(crate) fn measure(
    sink: &Sink,
    ran: &[&'static Contender],
    workload: &Workload,
    out: &mut [Segment],
) -> Vec<String> {
    if ran.is_empty() {
        return Vec::new();
    }
    let others: Vec<_> = ran.iter().filter(|contender| contender.name != FLOOR.name).collect();
    let mut floor_times = Vec::new();
    let mut times = vec![Vec::new(); others.len()];
    for _ in 0..ROUNDS {
        floor_times.push(turn(FLOOR.run, workload, out));
        for (contender, times) in others.iter().zip(&mut times) {
            times.push(turn(contender.run, workload, out));
        }
    }
    let floor = median(floor_times);
    let line = |name, time| format!("ratio {}/{} {name} {:.2}", sink.name, workload.name, time / floor);
    let mut lines: Vec<_> =
        others.iter().zip(times).map(|(other, times)| line(other.name, median(times))).collect();
    if others.len() < ran.len() {
        lines.insert(0, line(FLOOR.name, floor));
    }
    lines
}

/// The seconds that one call takes. A first call, not counted, brings the caches to what this function leaves behind.
fn turn(run: Run, workload: &Workload, out: &mut [Segment]) -> f64 {
    let once = seconds(run, workload, out, 1);
    let repeats = (TURN.as_secs_f64() / once).clamp(1.0, 1e6);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a million")]
    seconds(run, workload, out, repeats as u32)
}

fn seconds(run: Run, workload: &Workload, out: &mut [Segment], repeats: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..repeats {
        black_box(run(black_box(workload), black_box(&mut *out)));
    }
    start.elapsed().as_secs_f64() / f64::from(repeats)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
