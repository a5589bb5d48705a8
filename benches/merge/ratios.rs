//! Times over the floor: these hold on a noisy machine, because all functions of a group are
//! measured side by side.

use core::hint::black_box;

use crate::answer::Segment;
use crate::contender::{Contender, FLOOR, Sink};
use crate::measure::Clock;
use crate::workloads::Workload;

/// Measures the functions in `ran` against the floor; one line for each of them.
pub(crate) fn measure(
    sink: &Sink,
    ran: &[&'static Contender],
    workload: &Workload,
    out: &mut [Segment],
) -> Vec<String> {
    if ran.is_empty() {
        return Vec::new();
    }
    // The floor is measured in any case, and once.
    let others = ran.iter().copied().filter(|contender| contender.name != FLOOR.name);
    let functions: Vec<_> = core::iter::once(&FLOOR).chain(others).collect();
    let medians = Clock::Thread.in_turns(functions.len(), |nth| {
        black_box((functions[nth].run)(black_box(workload), black_box(&mut *out)));
    });
    let floor = medians[0];
    let each = floor * 1e9 / workload.descriptors() as f64;
    let floor_line = format!("floor {}/{} {each:.3} ns a descriptor", sink.name, workload.name);
    let shown =
        functions.iter().zip(medians).filter(|(function, _)| ran.iter().any(|r| r.name == function.name));
    shown
        .map(|(function, time)| {
            format!("ratio {}/{} {} {:.2}", sink.name, workload.name, function.name, time / floor)
        })
        .chain([floor_line])
        .collect()
}
