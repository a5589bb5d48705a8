//! The gallery of faults: replays the known faults of the field against this project, against the
//! programs that are installed, and against loops in the shape of others, and prints who survives.
//!
//! `ci/gallery` builds and runs it. It ends with 1 if nbd-extents does not survive a fault, or if a
//! column fails the control, a server that does nothing wrong: then the column itself is broken.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "a program: names that say it all, the rest has its comment")]
#![allow(unreachable_pub, reason = "modules of a program")]

mod disk;
mod faults;
mod programs;
mod server;
mod verdict;
mod walks;

use std::path::PathBuf;
use std::process::ExitCode;

use faults::{Judged, KnownFault};
use peers::libnbd::LibnbdSide;
use verdict::{PeerAnswer, Verdict};
use walks::WalkShape;

const PROGRAMS: [&str; 4] = ["nbd-extents", "nbdinfo", "qemu-img", "nbdcopy"];

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (program, libnbd, short) = match arguments.as_slice() {
        [program, libnbd] => (program, libnbd, false),
        [program, libnbd, short] if short.as_os_str() == "--short" => (program, libnbd, true),
        _ => {
            eprintln!("usage: nbd-gallery NBD_EXTENTS LIBNBD_SIDE [--short]");
            return ExitCode::from(2);
        }
    };
    let mut side = LibnbdSide::start(libnbd.clone()).expect("the libnbd half starts");
    let names = PROGRAMS.into_iter().chain(WalkShape::ALL.map(|(_, name)| name));
    let names: Vec<&str> = names.take(if short { 1 } else { usize::MAX }).collect();
    println!("| fault | seen in | {} |", names.join(" | "));
    println!("|---|---|{}", "---|".repeat(names.len()));
    let mut survived = vec![(0, 0); names.len()];
    let mut control_holds = true;
    for (number, fault) in faults::all().into_iter().enumerate() {
        let verdicts: Vec<Verdict> = (0..names.len())
            .map(|column| {
                let answer = ask(column, &fault, program, &mut side);
                if let PeerAnswer::Refuses(reason) | PeerAnswer::Crashes(reason) = &answer {
                    eprintln!("{}: {}: {reason}", fault.name, names[column]);
                }
                Verdict::new(&answer, &fault.disk, fault.answerable)
            })
            .collect();
        let passes = |verdict: &Verdict| verdict.survives() || *verdict == Verdict::NotDone;
        control_holds &= number > 0 || verdicts.iter().all(passes);
        let cells: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
        println!("| {} | {} | {} |", fault.name, fault.source, cells.join(" | "));
        for ((survived, asked), verdict) in survived.iter_mut().zip(&verdicts) {
            // the control is no fault
            *survived += usize::from(number > 0 && verdict.survives());
            *asked += usize::from(number > 0 && *verdict != Verdict::NotDone);
        }
    }
    let counts: Vec<String> =
        survived.iter().map(|(survived, asked)| format!("{survived} of {asked}")).collect();
    println!("| **survived** | | {} |", counts.join(" | "));
    let (ours, asked) = survived[0];
    ExitCode::from(u8::from(!control_holds || ours < asked || asked + 1 < faults::all().len()))
}

/// The result of a fault for the program or walk of a column, with a server of its own.
fn ask(column: usize, fault: &KnownFault, program: &std::path::Path, side: &mut LibnbdSide) -> PeerAnswer {
    let server = server::start(fault);
    let (uri, socket) = (server.uri(), server.path());
    match column {
        0 => programs::nbd_extents(program, fault, &uri),
        1 => programs::nbdinfo(fault, &uri),
        2 => programs::qemu_img(fault, socket),
        3 => programs::nbdcopy(fault, &uri),
        _ if fault.subject == Judged::Copy => PeerAnswer::NotDone,
        walk => WalkShape::ALL[walk - PROGRAMS.len()].0.walk(side, socket, fault.disk.size()),
    }
}
