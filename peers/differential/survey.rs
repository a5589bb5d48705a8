//! Has the library judge one reply, and holds its extents against a slow reading of the same lists.

use core::ops::Range;

use nbd_client::Export;
use nbd_extents::wire::Form;
use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyError, SurveyOptions};
use peers::CONTEXTS;
use peers::outcome::Accepted;

use crate::ours::variant;

/// True, of some byte, for each of: dirty, zero, hole. `None` where no context tells.
type Bits = (Option<bool>, Option<bool>, Option<bool>);

/// Gives the payloads of one reply to a survey.
///
/// # Errors
///
/// The fault for which the survey refuses the reply.
///
/// # Panics
///
/// If the survey accepts the reply and its extents are not those of the lists: a fault of ours.
pub fn check(
    export: &Export,
    range: Range<u64>,
    payloads: Vec<Vec<u8>>,
    content: &Accepted,
) -> Result<(), String> {
    let (mut survey, contexts) = survey(export, range.clone());
    let request = survey.next_request().expect("a first request").expect("a first request");
    assert_eq!((request.offset(), request.length()), (range.start, range.end - range.start));
    let fault = |error: SurveyError| match error {
        SurveyError::Reply { fault, .. } => variant(&fault),
        other => variant(&other),
    };
    for payload in payloads {
        survey.chunk(request.id(), payload).map_err(fault)?;
    }
    survey.reply_done(request.id()).map_err(fault)?;

    let mut at = range.start;
    while let Some(extent) = survey.next_extent().expect("an extent") {
        assert_eq!(extent.start(), at, "a gap between extents");
        let status = extent.status();
        let shown = (status.dirty(), status.zero(), status.hole());
        // every cut of every list lies on a byte that is looked at
        for byte in cuts(content, range.start, &contexts).filter(|byte| extent.range().contains(byte)) {
            assert_eq!(shown, model(content, byte - range.start, &contexts), "byte {byte} of {extent}");
        }
        at = extent.end();
    }
    let clipped = survey.stats().forgiven.by_row().any(|(row, count)| count > 0 && row != 14 && row != 15);
    let reach = survey.next_request().expect("a next request").map_or(range.end, |next| next.offset());
    let shortest = contexts.iter().map(|&context| sum(content, context)).min().unwrap_or(0);
    let expected = range.end.min(range.start.saturating_add(shortest));
    assert!(clipped || reach == expected, "it reaches to {reach} instead of {expected}");
    Ok(())
}

fn survey(export: &Export, range: Range<u64>) -> (Survey, Vec<usize>) {
    let params = ExportParams::new(export.size(), Form::Compact).expect("a size that was accepted");
    let params = params.read_only(true).assumed_block(1).expect("a block of one byte");
    let options = SurveyOptions::new(params).range(range).expect("a range within the disk");
    let granted: Vec<usize> =
        (0..CONTEXTS.len()).filter(|&context| export.context(CONTEXTS[context]).is_some()).collect();
    let known = [Context::Allocation, Context::bitmap("b0")];
    let wanted = granted.iter().map(|&context| known[context].clone());
    let wanted = Contexts::new().require_all(wanted).expect("two different contexts");
    let ids = export.contexts.iter().map(|context| (context.id, context.name.as_str()));
    let contexts = wanted.negotiate(ids).expect("the granted contexts are there");
    (Survey::together(options, contexts).expect("a survey of a read-only export"), granted)
}

fn pairs(content: &Accepted, context: usize) -> impl Iterator<Item = (u64, u32)> + '_ {
    let list = content.lists.get(&context).and_then(|lists| lists.first());
    list.into_iter().flat_map(|words| words.chunks(2)).map(|pair| (u64::from(pair[0]), pair[1]))
}

fn sum(content: &Accepted, context: usize) -> u64 {
    pairs(content, context).map(|(length, _)| length).sum()
}

/// The first and the last byte of every descriptor.
fn cuts<'a>(content: &'a Accepted, start: u64, contexts: &'a [usize]) -> impl Iterator<Item = u64> + 'a {
    contexts.iter().flat_map(move |&context| {
        pairs(content, context)
            .scan(start, |at, (length, _)| {
                let first = *at;
                *at += length;
                Some([first, at.saturating_sub(1)])
            })
            .flatten()
    })
}

/// The status of one byte by the lists alone.
fn model(content: &Accepted, offset: u64, contexts: &[usize]) -> Bits {
    let flags = |context: usize| {
        let mut left = offset;
        pairs(content, context)
            .find(|&(length, _)| {
                let found = left < length;
                left = left.saturating_sub(length);
                found
            })
            .map_or(0, |(_, flags)| flags)
    };
    let bit = |context: usize, mask: u32| contexts.contains(&context).then(|| flags(context) & mask != 0);
    (bit(1, 1), bit(0, 2), bit(0, 1))
}
