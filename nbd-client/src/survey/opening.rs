//! The order in which the connections of a survey are opened. No I/O.
//!
//! Both clients ask here what to do next, so that a server sees the same from either.

use nbd_extents::{Contexts, Negotiated, SurveyError};

use super::surveyor::{Half, Surveyed, SurveyorOver};
use super::{Order, SurveyorError};
use crate::error::Error;
use crate::export::Export;
use crate::options::Options;

/// The next thing to do.
pub(crate) enum OpeningStep<C> {
    /// Connect with these options, and report the result.
    Open(Box<Options>),
    /// Say goodbye on this connection.
    Close(C),
    Done(Box<SurveyorOver<C>>),
}

/// The opening of a survey's connections.
pub(crate) struct Opening<'a, C> {
    options: &'a Options,
    wanted: &'a Contexts,
    order: Order,
    stage: OpeningStage<C>,
}

enum OpeningStage<C> {
    /// The first connection asks for all contexts.
    Whole,
    Opened(Half<C>, bool),
    /// A connection for the bitmaps. The first one is left only when it is there, since some
    /// servers go when nobody is connected.
    Bitmaps(Option<Half<C>>),
    Leave(C, Half<C>),
    Details(Half<C>),
    Both(Half<C>, Half<C>),
    /// A connection failed.
    Over,
}

impl<'a, C: Surveyed> Opening<'a, C> {
    pub(crate) fn new(options: &'a Options, wanted: &'a Contexts, order: Order) -> Self {
        // without extended headers there is no payload form, and each connection answers for all
        // its contexts
        let needs_two = order == Order::BitmapFirst && !options.handshake.extended_headers;
        let stage = if needs_two { OpeningStage::Bitmaps(None) } else { OpeningStage::Whole };
        Self { options, wanted, order, stage }
    }

    pub(crate) fn next(&mut self) -> Result<OpeningStep<C>, SurveyorError> {
        let order = self.order;
        let stage = core::mem::replace(&mut self.stage, OpeningStage::Over);
        match stage {
            OpeningStage::Opened(main, assumes_data) => {
                let one_is_enough = order == Order::Together || main.connection.export().payload_status();
                if one_is_enough || assumes_data {
                    return Ok(OpeningStep::Done(Box::new(SurveyorOver {
                        order,
                        main,
                        details: None,
                        assumes_data,
                    })));
                }
                self.stage = OpeningStage::Bitmaps(Some(main));
                self.next()
            }
            OpeningStage::Leave(first, bitmaps) => {
                self.stage = OpeningStage::Details(bitmaps);
                Ok(OpeningStep::Close(first))
            }
            OpeningStage::Both(main, details) => {
                check_agreement(main.connection.export(), details.connection.export())?;
                let details = Some(details);
                Ok(OpeningStep::Done(Box::new(SurveyorOver { order, main, details, assumes_data: false })))
            }
            stage => {
                let contexts = self.contexts(&stage);
                self.stage = stage;
                Ok(OpeningStep::Open(Box::new(asking_for(self.options, &contexts))))
            }
        }
    }

    /// The contexts that the connection of a stage asks for.
    fn contexts(&self, stage: &OpeningStage<C>) -> Contexts {
        match stage {
            OpeningStage::Bitmaps(_) => self.wanted.bitmaps(),
            OpeningStage::Details(_) => self.wanted.details(),
            _ => self.wanted.clone(),
        }
    }

    /// Takes the result of a connection.
    pub(crate) fn opened(&mut self, connection: Result<C, Error>) -> Result<(), SurveyorError> {
        let stage = core::mem::replace(&mut self.stage, OpeningStage::Over);
        let is_second = matches!(&stage, OpeningStage::Bitmaps(Some(_)) | OpeningStage::Details(_));
        let connection = connection
            .map_err(|error| if is_second { SurveyorError::SecondConnection(error) } else { error.into() })?;
        let assumes_data = !is_second && self.assumes_data(connection.export());
        let contexts = if assumes_data {
            self.wanted.negotiate([(0, ALLOCATION)]).map_err(SurveyError::from)?
        } else {
            negotiated(&self.contexts(&stage), connection.export())?
        };
        let half = Half { connection, contexts };
        self.stage = match stage {
            OpeningStage::Bitmaps(None) => OpeningStage::Details(half),
            OpeningStage::Bitmaps(Some(first)) => OpeningStage::Leave(first.connection, half),
            OpeningStage::Details(bitmaps) => OpeningStage::Both(bitmaps, half),
            _ => OpeningStage::Opened(half, assumes_data),
        };
        Ok(())
    }

    /// Whether the server cannot describe any range, and data are to be assumed then.
    fn assumes_data(&self, export: &Export) -> bool {
        self.options.assume_data && export.contexts.is_empty()
    }
}

const ALLOCATION: &str = "base:allocation";

/// The options of a connection that asks for these contexts and no others.
fn asking_for(options: &Options, contexts: &Contexts) -> Options {
    let mut asking = options.clone().without_contexts();
    for (name, required) in contexts.queries() {
        // where data may be assumed, the allocation of a server without block status is known
        let required = required && !(options.assume_data && name == ALLOCATION);
        asking = if required { asking.require_context(name) } else { asking.want_context(name) };
    }
    asking
}

/// What the handshake granted of these contexts.
pub(super) fn negotiated(contexts: &Contexts, export: &Export) -> Result<Negotiated, SurveyorError> {
    let granted = export.contexts.iter().map(|context| (context.id, &context.name));
    let contexts = contexts.negotiate(granted).map_err(|error| match &export.offered {
        Some(offered) => error.with_offered(offered.iter().cloned()),
        None => error,
    });
    Ok(contexts?)
}

/// Two connections of one survey must be to the same export.
fn check_agreement(one: &Export, other: &Export) -> Result<(), Error> {
    if one.size != other.size {
        return Err(Error::Disagreement("size"));
    }
    if one.headers != other.headers {
        return Err(Error::Disagreement("headers"));
    }
    Ok(())
}
