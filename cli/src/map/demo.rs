//! The map that ships with the program: the library merges replies of a real qemu-nbd, as they came
//! over the wire. There is no client and no server.
//!
//! `demo/README.md` says which disk it was, and `demo/capture.py` makes the captures anew.

use std::io::Write;

use nbd_extents::stream::ExtentSource;
use nbd_extents::wire::Form;
use nbd_extents::{
    Bitmaps, Context, Contexts, ExportParams, Extent, Status, Survey, SurveyError, SurveyOptions,
};

use super::args::{MapArgs, Previous};
use super::report::{self, MapSubject};
use crate::failure::Failure;
use crate::output::remark;

/// The reply to one request for the whole disk, with structured replies.
const COMPACT: &str = include_str!("../../demo/compact.hex");
/// The bitmap that the disk has.
const BITMAP: &str = "bitmap0";

/// A recorded reply.
struct Capture {
    /// The size of the disk, in bytes.
    size: u64,
    /// Context ids and names, as negotiated.
    contexts: Vec<(u32, String)>,
    /// The payloads of its chunks, in the order in which they came.
    payloads: Vec<Vec<u8>>,
}

pub(super) fn run(args: &MapArgs, out: &mut impl Write) -> Result<(), Failure> {
    let capture = Capture::read(COMPACT);
    let size = capture.size;
    let survey = survey(&capture)?;
    let bitmaps = Bitmaps::FIRST;
    let subject = MapSubject { range: 0..size, export_size: size, bitmaps, previous: Previous::Unsaid };
    report::write(Answered(survey), &subject, args.content(), args.format(), out)?;
    remark("no server asked: replies of a real qemu-nbd that ship with the program");
    Ok(())
}

/// Does the work of a program with an NBD client of its own: negotiate, feed the replies, read the
/// extents.
fn survey(capture: &Capture) -> Result<Survey, SurveyError> {
    let wanted = Contexts::new().require(Context::Allocation)?.require(Context::bitmap(BITMAP))?;
    let contexts = wanted.negotiate(capture.contexts.iter().map(|(id, name)| (*id, name)))?;
    let export = ExportParams::new(capture.size, Form::Compact)?.read_only(true);
    let mut survey = Survey::together(SurveyOptions::new(export), contexts)?;
    while let Some(request) = survey.next_request()? {
        for payload in &capture.payloads {
            survey.chunk(request.id(), payload.as_slice())?;
        }
        survey.reply_done(request.id())?;
    }
    Ok(survey)
}

impl Capture {
    /// Reads a capture: lines of `size N`, `context ID NAME` and `payload HEX`.
    fn read(text: &str) -> Self {
        let mut capture = Self { size: 0, contexts: Vec::new(), payloads: Vec::new() };
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["size", size] => capture.size = size.parse().unwrap_or(0),
                ["context", id, name] => {
                    capture.contexts.extend(id.parse().ok().map(|id| (id, (*name).to_owned())));
                }
                ["payload", hex] => capture.payloads.push(bytes(hex)),
                _ => {}
            }
        }
        capture
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| core::str::from_utf8(pair).unwrap_or_default());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// A survey whose replies are all there, as a stream.
struct Answered(Survey);

impl ExtentSource for Answered {
    type Status = Status;
    type Error = SurveyError;

    fn pull(&mut self) -> Result<Option<Extent<Status>>, SurveyError> {
        match self.0.next_extent()? {
            None => self.0.check_complete().map(|()| None),
            some => Ok(some),
        }
    }
}
