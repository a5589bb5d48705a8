//! What handshakes have settled, in the terms of a survey: the contexts that were granted, and the options that follow.

use nbd_extents::wire::Form;
use nbd_extents::{Contexts, ExportParams, Negotiated, Strictness, SurveyError, SurveyOptions};

use super::SurveyorError;
use crate::client::Options;
use crate::export::{BlockSize, Export};
use crate::frame::Headers;

/// The options of a connection that asks for these contexts and no others.
pub(crate) fn asking_for(options: &Options, contexts: &Contexts) -> Options {
    let mut options = options.clone().without_contexts();
    for (name, required) in contexts.queries() {
        options = if required { options.require_context(name) } else { options.want_context(name) };
    }
    options
}

/// What the handshake granted of these contexts.
pub(crate) fn negotiated(contexts: &Contexts, export: &Export) -> Result<Negotiated, SurveyorError> {
    let granted = export.contexts.iter().map(|context| (context.id, &context.name));
    let contexts = contexts.negotiate(granted).map_err(|error| match &export.offered {
        Some(offered) => error.with_offered(offered.iter().cloned()),
        None => error,
    });
    Ok(contexts.map_err(SurveyError::from)?)
}

/// Two connections of one survey must be to the same export.
pub(crate) fn check_agreement(one: &Export, other: &Export) -> Result<(), SurveyorError> {
    if one.size != other.size {
        return Err(SurveyorError::Disagreement { what: "size" });
    }
    if one.headers != other.headers {
        return Err(SurveyorError::Disagreement { what: "headers" });
    }
    Ok(())
}

/// The options for a survey of a whole export over one connection to it, or two.
pub(crate) fn survey_options(
    main: &Export,
    details: Option<&Export>,
    strictness: Strictness,
) -> Result<SurveyOptions, SurveyorError> {
    let exports = || core::iter::once(main).chain(details);
    let form = if main.headers == Headers::Extended { Form::Extended } else { Form::Compact };
    let read_only = exports().all(|export| export.flags.is_read_only());
    let mut export = ExportParams::new(main.size, form)?.read_only(read_only);
    if let Some(minimum) = exports().filter_map(|export| export.block_size).map(BlockSize::minimum).max() {
        export = export.min_block(minimum)?;
    }
    Ok(SurveyOptions::new(export).strictness(strictness))
}
