//! Measures the cost of a survey beside the loop that one would write by hand: one, two, three and
//! eight contexts, in short, usual and long lists.
//!
//! ```text
//! cargo bench --bench survey              # every group, in half a minute
//! cargo bench --bench survey -- 2000      # the groups whose name holds a text
//! ```
//!
//! A server answers the whole disk at once, in extended descriptors; the payloads are handed to the
//! survey as vectors, and all extents are read. The contexts were negotiated before, as on a
//! connection. `ratio survey/CONTEXTS/DESCRIPTORS nbd-extents X`:
//! X times as long as `naive`, which decodes and merges the same payloads with one branch per
//! context, checks nothing, and shares no code with the crate. Both give the same hash of the ends
//! and the dirty bytes. The survey joins equal neighbours, so both hash only the bytes at which the
//! status changes.
//!
//! With 200 descriptors a processor remembers which list of `naive` is cut next, and how well hangs
//! on the address at which the linker puts that loop: 5.1 to 6.1 ns a descriptor for one and the same
//! code, while the survey's time hardly changes. So a ratio of 1.7 in one build can be 1.9 in the next.

#[path = "measure/mod.rs"]
mod measure;
#[path = "workloads/mod.rs"]
mod workloads;

use core::hint::black_box;
use std::env;

use measure::Clock;
use nbd_extents::wire::{Compact, Descriptor, Descriptors, Form, encode};
use nbd_extents::{Context, Contexts, ExportParams, Negotiated, Survey, SurveyOptions};
use workloads::RANDOM;

/// A disk as a server describes it: the payload of each context, whose ids are 0, 1, 2 and so on.
struct Disk {
    size: u64,
    /// The result of the handshake, from which every survey of a connection starts.
    contexts: Negotiated,
    payloads: Vec<Vec<u8>>,
}

impl Disk {
    /// An allocation and bitmaps of about `descriptors` extents each, cut at different places.
    fn new(contexts: usize, descriptors: usize) -> Self {
        let workload = RANDOM.workload(descriptors);
        let bitmap = shorter(workload.bitmap::<Compact>());
        let size = bitmap.iter().map(|descriptor| descriptor.length).sum();
        let payloads = (0..contexts).map(|nth| match nth {
            0 => payload(nth, &shorter(workload.allocation::<Compact>())),
            1 => payload(nth, &bitmap),
            // Reversed, the same list ends at the same byte and is cut elsewhere.
            _ => {
                let mut turned = bitmap.clone();
                turned.rotate_left(nth * 7 % descriptors);
                payload(nth, &turned)
            }
        });
        Self { size, contexts: negotiated(contexts), payloads: payloads.collect() }
    }
}

/// The list with extents a sixteenth as long, so that one request covers the largest disk.
fn shorter(list: Descriptors<'_, Compact>) -> Vec<Descriptor> {
    list.map(|Descriptor { length, flags }| Descriptor { length: length / 16, flags }).collect()
}

fn payload(id: usize, list: &[Descriptor]) -> Vec<u8> {
    let id = u32::try_from(id).expect("a context's id");
    encode(Form::Extended, id, list.iter().copied()).expect("an extended payload")
}

/// Hashes the bytes at which "dirty" or "zero" changes.
#[derive(Default)]
struct Changes {
    hash: u64,
    start: u64,
    last: Option<(bool, bool)>,
}

impl Changes {
    fn add(&mut self, end: u64, dirty: bool, zero: bool) {
        if self.last.replace((dirty, zero)) != Some((dirty, zero)) {
            let key = self.start << 2 | u64::from(dirty) << 1 | u64::from(zero);
            self.hash = self.hash.rotate_left(5) ^ key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.start = end;
    }
}

/// An allocation and bitmaps, all granted.
fn negotiated(contexts: usize) -> Negotiated {
    let names = (0..contexts).map(|nth| match nth {
        0 => Context::Allocation,
        nth => Context::bitmap(format!("b{nth}")),
    });
    let names: Vec<_> = names.collect();
    let wanted = Contexts::new().require_all(names.clone()).expect("new names");
    wanted.negotiate((0..).zip(names.iter().map(Context::to_string))).expect("all are granted")
}

fn survey(disk: &Disk) -> u64 {
    let export = ExportParams::new(disk.size, Form::Extended).expect("a size").read_only(true);
    let contexts = disk.contexts.clone();
    let mut survey = Survey::together(SurveyOptions::new(export), contexts).expect("a survey");
    let mut changes = Changes::default();
    while let Some(request) = survey.next_request().expect("no fault") {
        for payload in &disk.payloads {
            survey.chunk(request.id(), payload.clone()).expect("a payload");
        }
        survey.reply_done(request.id()).expect("a whole reply");
        while let Some(extent) = survey.next_extent().expect("an extent") {
            let status = extent.status();
            changes.add(extent.end(), status.dirty() == Some(true), status.zero() == Some(true));
        }
    }
    survey.complete().expect("the whole disk");
    changes.hash
}

fn naive(disk: &Disk) -> u64 {
    let payloads: Vec<_> = disk.payloads.clone();
    let mut lists: Vec<_> = payloads.iter().map(|payload| payload[8..].as_chunks::<16>().0.iter()).collect();
    let decode = |raw: &[u8; 16]| {
        let both = u128::from_be_bytes(*raw);
        ((both >> 64) as u64, both as u64)
    };
    let mut heads: Vec<_> = lists.iter_mut().map(|list| list.next().map_or((0, 0), decode)).collect();
    let (mut changes, mut position) = (Changes::default(), 0);
    while position < disk.size {
        let length = heads.iter().map(|head| head.0).min().expect("a context");
        let zero = heads[0].1 & 2 != 0;
        let dirty = heads[1..].iter().any(|head| head.1 & 1 != 0);
        position += length;
        changes.add(position, dirty, zero);
        for (head, list) in heads.iter_mut().zip(&mut lists) {
            head.0 -= length;
            if head.0 == 0 {
                *head = list.next().map_or((0, 0), decode);
            }
        }
    }
    changes.hash
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let texts: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let measures = arguments.iter().any(|argument| argument == "--bench");
    for contexts in [1, 2, 3, 8] {
        for descriptors in [200, 2000, 100_000] {
            let name = format!("survey/{contexts}/{descriptors}");
            if !texts.is_empty() && !texts.iter().any(|text| name.contains(text.as_str())) {
                continue;
            }
            let disk = Disk::new(contexts, descriptors);
            assert_eq!(survey(&disk), naive(&disk), "{name}: two ways to one disk");
            if measures {
                report(&name, &disk, contexts * descriptors);
            }
        }
    }
}

fn report(name: &str, disk: &Disk, descriptors: usize) {
    let functions = [survey, naive];
    let seconds = Clock::Thread.in_turns(functions.len(), |nth| {
        black_box(functions[nth](black_box(disk)));
    });
    let [survey, naive] = [0, 1].map(|nth| seconds[nth] * 1e9 / descriptors as f64);
    println!("ratio {name} nbd-extents {:.2}", survey / naive);
    println!("naive {name} {naive:.2} ns a descriptor");
}
