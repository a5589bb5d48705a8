//! A survey: what to ask, the replies in, the merged extents out.

use core::ffi::{c_char, c_int};
use core::mem::MaybeUninit;

use nbd_extents::{MAX_BITMAPS, RequestId, Survey, SurveyError, Topic};

use super::border::{self, CallFailure, Journal, Object};
use super::layout::{
    NBDX_TOPIC_ALL, NBDX_TOPIC_BITMAPS, NBDX_TOPIC_DETAILS, nbdx_entry, nbdx_extent, nbdx_forgiven,
    nbdx_resume_point, nbdx_stats,
};
use super::options::{self, Chosen, nbdx_options};
use super::status::Masks;

/// The most contexts that there can be: the bitmaps, the allocation, the depth.
const MAX_CONTEXTS: usize = MAX_BITMAPS + 2;
/// Requests whose reply the survey has refused, kept until the caller has ended them.
const MAX_REFUSED: usize = 64;

/// A survey and the numbers under which C knows its requests.
#[derive(Debug)]
pub struct nbdx_survey {
    journal: Journal,
    survey: Survey,
    /// The contexts that the survey asks about.
    contexts: Vec<String>,
    bitmaps: u32,
    max_entries: usize,
    requests: Vec<Outstanding>,
    next_number: u64,
}

/// A request that the caller has not ended.
#[derive(Debug)]
struct Outstanding {
    number: u64,
    id: RequestId,
    topic: Topic,
    /// Why the survey has refused a part of the reply. The request is over; the caller has not ended it.
    refused: Option<String>,
}

impl Object for nbdx_survey {
    const NAME: &'static str = "survey";

    fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl nbdx_survey {
    pub(crate) fn new(chosen: &Chosen) -> Result<Self, CallFailure> {
        Ok(Self {
            journal: Journal::default(),
            survey: chosen.survey()?,
            contexts: chosen.granted(),
            bitmaps: chosen.bitmaps(),
            max_entries: chosen.max_entries(),
            requests: Vec::new(),
            next_number: 1,
        })
    }

    /// The survey itself, for a map that reads it.
    pub(crate) fn survey(&mut self) -> &mut Survey {
        &mut self.survey
    }

    /// Fills `out` with extents. A loop of its own rather than `border::fill`: with the detour by a closure's
    /// result, reading takes 1.6 times as long as Rust's loop.
    fn read(&mut self, out: &mut [MaybeUninit<nbdx_extent>]) -> Result<isize, CallFailure> {
        if out.is_empty() {
            return Err(CallFailure::new("the capacity is 0"));
        }
        let mut masks = Masks::default();
        let mut written = 0;
        for place in out {
            match self.survey.next_extent() {
                Ok(Some(extent)) => place.write(masks.extent(&extent)),
                Ok(None) => break,
                // the survey is over: the next call says so, and the extents read before reach the caller
                Err(_) if written > 0 => break,
                Err(error) => return Err(error.into()),
            };
            written += 1;
        }
        Ok(written)
    }

    fn next_request(&mut self) -> Result<Option<(u64, u64, u64)>, CallFailure> {
        let Some(request) = self.survey.next_request()? else { return Ok(None) };
        let number = self.next_number;
        self.next_number += 1;
        let (id, topic) = (request.id(), request.topic());
        // a caller that never ends refused requests must not make the list grow for ever
        let refused = |request: &Outstanding| request.refused.is_some();
        if self.requests.iter().filter(|request| refused(request)).count() > MAX_REFUSED
            && let Some(oldest) = self.requests.iter().position(refused)
        {
            self.requests.remove(oldest);
        }
        self.requests.push(Outstanding { number, id, topic, refused: None });
        Ok(Some((number, request.offset(), request.length())))
    }

    fn request(&mut self, number: u64) -> Result<&mut Outstanding, CallFailure> {
        let found = self.requests.iter_mut().find(|request| request.number == number);
        found.ok_or_else(|| not_outstanding(number))
    }

    fn end(&mut self, number: u64) -> Result<Outstanding, CallFailure> {
        let place = self.requests.iter().position(|request| request.number == number);
        place.map(|place| self.requests.remove(place)).ok_or_else(|| not_outstanding(number))
    }

    /// Checks the context, the request and the number of entries of a call, before an entry is read.
    /// Returns the id that the survey knows the request by.
    fn expects(&mut self, number: u64, context: &str, pairs: usize) -> Result<RequestId, CallFailure> {
        if !self.contexts.iter().any(|known| known == context) {
            return Err(CallFailure::new(format_args!(
                "the survey does not ask about the context {}, but about {}",
                context.escape_debug(),
                self.contexts.join(", ")
            )));
        }
        let most = self.max_entries;
        let request = self.request(number)?;
        if let Some(refused) = &request.refused {
            return Err(CallFailure::new(format_args!(
                "request {number} is over, because a part of its reply was refused: {refused}"
            )));
        }
        if pairs > most {
            return Err(CallFailure::new(format_args!(
                "{pairs} entries for {context} are more than the {most} that one reply may have \
                 (nbdx_options_max_entries changes that)"
            )));
        }
        Ok(request.id)
    }

    /// Remembers that the survey has given a request up, if it has.
    fn took(&mut self, number: u64, taken: Result<(), SurveyError>) -> Result<c_int, CallFailure> {
        match taken {
            Ok(()) => Ok(0),
            Err(error @ SurveyError::Reply { .. }) => {
                let failure = CallFailure::from(error.clone());
                self.request(number)?.refused = Some(error.to_string());
                Err(failure)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn reply_done(&mut self, number: u64) -> Result<c_int, CallFailure> {
        let request = self.end(number)?;
        match request.refused {
            Some(refused) => Err(CallFailure::new(format_args!(
                "request {number} failed, because a part of its reply was refused: {refused}"
            ))),
            None => Ok(self.survey.reply_done(request.id).map(|()| 0)?),
        }
    }

    fn reply_failed(&mut self, number: u64) -> Result<c_int, CallFailure> {
        let request = self.end(number)?;
        match request.refused {
            Some(_) => Ok(0),
            None => Ok(self.survey.reply_failed(request.id).map(|()| 0)?),
        }
    }
}

fn not_outstanding(number: u64) -> CallFailure {
    CallFailure::new(format_args!("request {number} is not outstanding: never made, or ended already"))
}

/// A survey of a read-only export of `size` bytes.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_new(
    size: u64,
    contexts: *const *const c_char,
    nr_contexts: usize,
) -> *mut nbdx_survey {
    border::make(|| {
        if nr_contexts > MAX_CONTEXTS {
            return Err(CallFailure::new(format_args!(
                "{nr_contexts} contexts are more than the {MAX_CONTEXTS} that there can be"
            )));
        }
        let mut chosen = Chosen::new(size)?;
        // SAFETY: as the header says
        for &name in unsafe { border::list(contexts, nr_contexts, "contexts") }? {
            // SAFETY: as the header says
            chosen.add(unsafe { border::text(name, "a context") }?, false, true)?;
        }
        nbdx_survey::new(&chosen)
    })
}

/// A survey with options, which it copies.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_with_options(options: *const nbdx_options) -> *mut nbdx_survey {
    // SAFETY: as the header says
    border::make(|| nbdx_survey::new(&unsafe { options::chosen(options) }?))
}

/// The next request to the server.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_next_request(
    survey: *mut nbdx_survey,
    id: *mut u64,
    offset: *mut u64,
    length: *mut u64,
) -> c_int {
    let work = |survey: &mut nbdx_survey| {
        // SAFETY: as the header says; all are checked before the request is made, so that none is lost
        let (id, offset, length) = unsafe {
            (border::place(id, "id")?, border::place(offset, "offset")?, border::place(length, "length")?)
        };
        let Some(request) = survey.next_request()? else { return Ok(0) };
        id.write(request.0);
        offset.write(request.1);
        length.write(request.2);
        Ok(1)
    };
    // SAFETY: as the header says
    unsafe { border::change(survey, work) }
}

/// Which contexts a request is about.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_request_topic(survey: *const nbdx_survey, id: u64) -> c_int {
    let work = |survey: &nbdx_survey| {
        let found = survey.requests.iter().find(|request| request.number == id);
        match found.ok_or_else(|| not_outstanding(id))?.topic {
            Topic::All => Ok(NBDX_TOPIC_ALL),
            Topic::Bitmaps => Ok(NBDX_TOPIC_BITMAPS),
            Topic::Details => Ok(NBDX_TOPIC_DETAILS),
            other => Err(CallFailure::new(format_args!("request {id} has an unknown topic: {other:?}"))),
        }
    };
    // SAFETY: as the header says
    unsafe { border::read(survey, work) }
}

/// Takes one context's part of a reply, from libnbd's 32-bit callback.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_extents32(
    survey: *mut nbdx_survey,
    id: u64,
    context: *const c_char,
    offset: u64,
    entries: *const u32,
    nr_entries: usize,
) -> c_int {
    let work = |survey: &mut nbdx_survey| {
        // SAFETY: as the header says
        let context = unsafe { border::text(context, "context") }?;
        let request = survey.expects(id, context, nr_entries / 2)?;
        // SAFETY: as the header says
        let entries = unsafe { border::list(entries, nr_entries, "entries") }?;
        let taken = survey.survey.extents32(request, context, offset, entries);
        survey.took(id, taken)
    };
    // SAFETY: as the header says
    unsafe { border::change(survey, work) }
}

/// Takes one context's part of a reply, from libnbd's 64-bit callback.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_extents64(
    survey: *mut nbdx_survey,
    id: u64,
    context: *const c_char,
    offset: u64,
    entries: *const core::ffi::c_void,
    nr_entries: usize,
) -> c_int {
    let work = |survey: &mut nbdx_survey| {
        // SAFETY: as the header says
        let context = unsafe { border::text(context, "context") }?;
        let request = survey.expects(id, context, nr_entries)?;
        // SAFETY: as the header says: libnbd's struct has the layout of ours
        let entries = unsafe { border::list(entries.cast::<nbdx_entry>(), nr_entries, "entries") }?;
        let pairs = entries.iter().map(|entry| (entry.length, entry.flags));
        let taken = survey.survey.extents64(request, context, offset, pairs);
        survey.took(id, taken)
    };
    // SAFETY: as the header says
    unsafe { border::change(survey, work) }
}

/// Says that the reply is whole.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_reply_done(survey: *mut nbdx_survey, id: u64) -> c_int {
    // SAFETY: as the header says
    unsafe { border::change(survey, |survey: &mut nbdx_survey| survey.reply_done(id)) }
}

/// Says that the server failed the request.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_reply_failed(survey: *mut nbdx_survey, id: u64) -> c_int {
    // SAFETY: as the header says
    unsafe { border::change(survey, |survey: &mut nbdx_survey| survey.reply_failed(id)) }
}

/// Reads merged extents.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_read(
    survey: *mut nbdx_survey,
    out: *mut nbdx_extent,
    capacity: usize,
) -> isize {
    let work = |survey: &mut nbdx_survey| {
        // SAFETY: as the header says
        let out = unsafe { border::room(out, capacity, "out") }?;
        survey.read(out)
    };
    // SAFETY: as the header says
    unsafe { border::change(survey, work) }
}

/// Whether the range was covered exactly once, and all of it read.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_complete(survey: *const nbdx_survey) -> c_int {
    // SAFETY: as the header says
    unsafe { border::read(survey, |survey: &nbdx_survey| Ok(survey.survey.check_complete().map(|()| 0)?)) }
}

/// The bitmaps that the survey asks about, as bits.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_bitmaps(survey: *const nbdx_survey, bitmaps: *mut u32) -> c_int {
    let work = |survey: &nbdx_survey| {
        // SAFETY: as the header says
        unsafe { border::place(bitmaps, "bitmaps") }?.write(survey.bitmaps);
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::read(survey, work) }
}

/// The point at which another survey can go on.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_resume_point(
    survey: *const nbdx_survey,
    point: *mut nbdx_resume_point,
) -> c_int {
    let work = |survey: &nbdx_survey| {
        let from = survey.survey.resume_point();
        // SAFETY: as the header says
        unsafe { border::place(point, "point") }?.write(nbdx_resume_point {
            offset: from.offset,
            end: from.end,
            export_size: from.export_size,
        });
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::read(survey, work) }
}

/// The cost of the survey up to now.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_stats(survey: *const nbdx_survey, stats: *mut nbdx_stats) -> c_int {
    let work = |survey: &nbdx_survey| {
        let from = survey.survey.stats();
        // SAFETY: as the header says
        unsafe { border::place(stats, "stats") }?.write(nbdx_stats {
            requests: from.requests,
            replies: from.replies,
            failed: from.failed,
            descriptors: from.descriptors,
            asked_bytes: from.asked_bytes,
            extents: from.extents,
            disagreements: from.disagreements,
            peak_bytes: from.peak_bytes as u64,
            peak_in_flight: from.peak_in_flight as u64,
            forgiven: from.forgiven.total(),
        });
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::read(survey, work) }
}

/// Writes the number of deviations forgiven, by row of SERVER-BEHAVIOUR.md, and returns the number
/// of rows, which may exceed `capacity`.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_forgiven(
    survey: *const nbdx_survey,
    out: *mut nbdx_forgiven,
    capacity: usize,
) -> isize {
    let work = |survey: &nbdx_survey| {
        // SAFETY: as the header says
        let out = unsafe { border::room(out, capacity, "out") }?;
        let forgiven = survey.survey.stats().forgiven;
        let rows = forgiven.by_row().filter(|&(_, count)| count > 0);
        let rows = rows.map(|(row, count)| nbdx_forgiven { row: row.into(), count });
        Ok(border::table(out, rows))
    };
    // SAFETY: as the header says
    unsafe { border::read(survey, work) }
}

/// The message of the last call on the survey.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_error(survey: *const nbdx_survey) -> *const c_char {
    // SAFETY: as the header says
    unsafe { border::message(survey) }
}

/// Frees a survey.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_survey_free(survey: *mut nbdx_survey) {
    // SAFETY: as the header says
    unsafe { border::destroy(survey) }
}
