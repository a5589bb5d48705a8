//! The order in which the connections of a survey are opened. No I/O.
//!
//! Both clients ask here what to do next, so that a server sees the same from either.

use nbd_extents::{Contexts, Negotiated, SurveyError};

use super::surveyor::{Half, SurveyorOver};
use super::{Order, SurveyorError};
use crate::connection::Connected;
use crate::error::Error;
use crate::export::Export;
use crate::options::Options;

/// What a new connection leads to.
pub(crate) enum Opened<C> {
    /// The caller must open another connection, and first close this one if there is one, which
    /// is not needed any more.
    More(Option<C>),
    Done(Box<SurveyorOver<C>>),
}

/// The opening of a survey's connections: one is opened with the [options](Self::options), its
/// result is [reported](Self::opened), and so on.
pub(crate) struct Opening<'a, C> {
    options: &'a Options,
    wanted: &'a Contexts,
    order: Order,
    stage: OpeningStage<C>,
}

/// The purpose of the connection that is opened now.
enum OpeningStage<C> {
    /// The first connection asks for all contexts.
    Whole,
    /// A connection for the bitmaps. The first connection is held until this one is open, since
    /// some servers exit when nobody is connected.
    Bitmaps(Option<C>),
    /// A second connection for the details, beside the one for the bitmaps.
    Details(Half<C>),
}

impl<'a, C: Connected> Opening<'a, C> {
    pub(crate) fn new(options: &'a Options, wanted: &'a Contexts, order: Order) -> Self {
        // without extended headers there is no payload form, and each connection answers for all
        // its contexts
        let needs_two = order == Order::BitmapFirst && !options.handshake.extended_headers;
        let stage = if needs_two { OpeningStage::Bitmaps(None) } else { OpeningStage::Whole };
        Self { options, wanted, order, stage }
    }

    /// The options of the connection to open now.
    pub(crate) fn options(&self) -> Options {
        let mut asking = self.options.clone().without_contexts();
        for (name, required) in self.contexts().queries() {
            // where data may be assumed, the allocation of a server without block status is known
            let required = required && !(self.options.assume_data && name == ALLOCATION);
            asking = if required { asking.require_context(name) } else { asking.want_context(name) };
        }
        asking
    }

    fn contexts(&self) -> Contexts {
        match self.stage {
            OpeningStage::Whole => self.wanted.clone(),
            OpeningStage::Bitmaps(_) => self.wanted.bitmaps(),
            OpeningStage::Details(_) => self.wanted.details(),
        }
    }

    /// Takes the result of connecting.
    pub(crate) fn opened(&mut self, connection: Result<C, Error>) -> Result<Opened<C>, SurveyorError> {
        let is_first = matches!(self.stage, OpeningStage::Whole | OpeningStage::Bitmaps(None));
        let connection = match connection {
            Err(error) if !is_first => return Err(SurveyorError::SecondConnection(error)),
            connection => connection?,
        };
        let export = connection.export();
        let assumes_data = is_first && self.options.assume_data && export.contexts.is_empty();
        let one_is_enough = self.order == Order::Together || export.payload_status() || assumes_data;
        let contexts = if assumes_data {
            self.wanted.negotiate([(0, ALLOCATION)]).map_err(SurveyError::from)?
        } else {
            negotiated(&self.contexts(), export)?
        };
        let half = Half { connection, contexts };
        let order = self.order;
        let (main, details) = match core::mem::replace(&mut self.stage, OpeningStage::Whole) {
            OpeningStage::Whole if one_is_enough => (half, None),
            OpeningStage::Whole => {
                self.stage = OpeningStage::Bitmaps(Some(half.connection));
                return Ok(Opened::More(None));
            }
            OpeningStage::Bitmaps(first) => {
                self.stage = OpeningStage::Details(half);
                return Ok(Opened::More(first));
            }
            OpeningStage::Details(bitmaps) => {
                check_agreement(bitmaps.connection.export(), half.connection.export())?;
                (bitmaps, Some(half))
            }
        };
        Ok(Opened::Done(Box::new(SurveyorOver { order, main, details, assumes_data })))
    }
}

const ALLOCATION: &str = "base:allocation";

/// What the handshake granted of these contexts.
pub(super) fn negotiated(contexts: &Contexts, export: &Export) -> Result<Negotiated, SurveyorError> {
    let granted = export.contexts.iter().map(|context| (context.id, &context.name));
    let contexts = contexts.negotiate(granted).map_err(|error| match &export.offered {
        Some(offered) => error.with_offered(offered.iter().cloned()),
        None => error,
    });
    Ok(contexts?)
}

/// Two connections of one survey must be to the same export. Of other terms the stricter ones hold.
fn check_agreement(one: &Export, other: &Export) -> Result<(), Error> {
    if one.size != other.size {
        return Err(Error::Disagreement("size"));
    }
    if one.headers != other.headers {
        return Err(Error::Disagreement("headers"));
    }
    Ok(())
}
