//! How the benches take time. Functions take turns, so that a busy spell of the machine slows all
//! of them, and the median of the turns counts. The benches report the ratio of two such medians,
//! since a time alone says little on a shared machine.
#![allow(dead_code, reason = "each bench that includes this file uses another part of it")]

use core::time::Duration;
use std::time::Instant;

/// Turns of each function; a slow one gets fewer.
const ROUNDS: usize = 11;
/// The turns of even the slowest function.
const FEW: usize = 3;
/// A function that has taken this much time in [`FEW`] turns or more gets no further turn.
const ENOUGH: f64 = 0.8;
/// A turn repeats a short function until it has taken about this long: as long as a call of the
/// slower ones. A busy machine takes the core away every few milliseconds, and so slows all of them
/// alike.
const TURN: f64 = 0.02;

/// The clock that counts the seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// Processor time of this thread: other programs' work in between does not count. Same as
    /// `Wall` on systems that do not report it.
    Thread,
    /// Wall-clock time, for work on several threads.
    Wall,
}

impl Clock {
    fn now(self) -> Duration {
        match self {
            #[cfg(unix)]
            Self::Thread => {
                use rustix::time::{ClockId, clock_gettime};
                let time = clock_gettime(ClockId::ThreadCPUTime);
                Duration::try_from(time).unwrap_or_default()
            }
            _ => {
                static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
                START.elapsed()
            }
        }
    }

    /// The seconds that `work` takes.
    pub(crate) fn seconds(self, work: impl FnOnce()) -> f64 {
        let start = self.now();
        work();
        self.now().saturating_sub(start).as_secs_f64()
    }

    /// Calls each of `count` functions, `call(nth)`, in turns; returns the median of the seconds
    /// that one call of each takes.
    pub(crate) fn in_turns(self, count: usize, call: impl FnMut(usize)) -> Vec<f64> {
        self.all_turns(count, call).into_iter().map(median).collect()
    }

    /// Calls each of `count` functions in turns; returns the seconds of each turn of each function.
    ///
    /// A slow function has fewer turns: after the first `FEW`, none once its turns add up to `ENOUGH`
    /// seconds.
    pub(crate) fn all_turns(self, count: usize, mut call: impl FnMut(usize)) -> Vec<Vec<f64>> {
        let mut times = vec![Vec::new(); count];
        for round in 0..ROUNDS {
            for (nth, times) in times.iter_mut().enumerate() {
                if round < FEW || times.iter().sum::<f64>() < ENOUGH {
                    times.push(self.turn(|| call(nth)));
                }
            }
        }
        times
    }

    /// The seconds of one call. The first call of a short function is not counted: it brings the
    /// caches into the state in which this function leaves them.
    fn turn(self, mut call: impl FnMut()) -> f64 {
        let once = self.seconds(&mut call);
        if once >= TURN {
            return once;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a million")]
        let repeats = (TURN / once.max(1e-9)).clamp(1.0, 1e6) as u32;
        self.seconds(|| (0..repeats).for_each(|_| call())) / f64::from(repeats)
    }
}

/// The middle one; of an even number the larger of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The share of the machine that other programs take during a measurement.
#[derive(Debug)]
pub(crate) struct Others {
    start: Instant,
    /// Processor seconds, of all processes and of this one.
    before: Option<(f64, f64)>,
}

impl Others {
    pub(crate) fn watch() -> Self {
        Self { start: Instant::now(), before: busy() }
    }

    /// The number of cores that they have held since then, on average; `None` on systems that do
    /// not report it.
    pub(crate) fn cores(&self) -> Option<f64> {
        let ((all, own), (all_before, own_before)) = (busy()?, self.before?);
        let others = (all - all_before) - (own - own_before);
        Some((others / self.start.elapsed().as_secs_f64()).max(0.0))
    }
}

/// Linux: the processor seconds used since the start, of all processes and of this one.
fn busy() -> Option<(f64, f64)> {
    /// Ticks per second, as Linux reports them on every machine of today.
    const TICKS: f64 = 100.0;
    let sum = |text: &str, skip, take| -> Option<f64> {
        text.split_whitespace().skip(skip).take(take).map(|number| number.parse::<f64>().ok()).sum()
    };
    // "cpu user nice system idle ...", and "pid (name) state ..." with user and system as fields 14
    // and 15
    let all = std::fs::read_to_string("/proc/stat").ok()?;
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    let own = own.rsplit(')').next()?;
    Some((sum(all.lines().next()?, 1, 3)? / TICKS, sum(own, 11, 2)? / TICKS))
}

/// Linux: the largest growth of resident memory, in bytes, while `work` ran on a thread of its own,
/// whose stack counts.
pub(crate) fn peak_of(work: impl FnOnce() + Send) -> Option<u64> {
    // Sets the high-water mark to the memory that is resident now.
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    let before = resident("VmRSS:")?;
    std::thread::scope(|scope| _ = scope.spawn(work).join());
    Some(resident("VmHWM:")?.saturating_sub(before))
}

/// A line of `status`, in bytes.
fn resident(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
