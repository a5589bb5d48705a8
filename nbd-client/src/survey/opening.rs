//! The order in which the connections of a survey are opened, for both clients: a server sees the
//! same from either.

use nbd_extents::{Contexts, Negotiated, SurveyError};

use super::surveyor::{Half, SurveyorOver};
use super::{Order, SurveyorError};
use crate::client::{ClientOver, Drive, Driven};
use crate::error::Error;
use crate::export::Export;
use crate::frame::Headers;
use crate::options::Options;

/// Opens the connections of a survey by calls of `connect`, given the options with the contexts to
/// ask for: one connection, or up to three for [`Order::BitmapFirst`], of which two are kept.
pub(crate) async fn open<M, F>(
    (options, wanted, order): (&Options, &Contexts, Order),
    mut connect: impl FnMut(Options) -> F,
) -> Result<SurveyorOver<M>, SurveyorError>
where
    Driven<M>: Drive,
    F: Future<Output = Result<ClientOver<M>, Error>>,
{
    let mut first = None;
    // without extended headers there is no payload form, and each connection answers for all its
    // contexts
    if order == Order::Together || options.handshake.headers == Headers::Extended {
        let connection = connect(asking(options, wanted)).await?;
        let export = connection.export();
        let assumes_data = options.assume_data && export.contexts.is_empty();
        if order == Order::Together || export.payload_status() || assumes_data {
            let contexts = if assumes_data {
                wanted.negotiate([(0, ALLOCATION)]).map_err(SurveyError::from)?
            } else {
                negotiated(wanted, export)?
            };
            let main = Half { connection, contexts };
            return Ok(SurveyorOver { order, main, details: None, assumes_data });
        }
        first = Some(connection);
    }
    let bitmaps = wanted.bitmaps();
    // the next connection is the second one if the first is still held
    let failed = if first.is_some() { SurveyorError::SecondConnection } else { SurveyorError::Client };
    let main = Half::new(connect(asking(options, &bitmaps)).await.map_err(failed)?, &bitmaps)?;
    // only now, since some servers exit when nobody is connected
    if let Some(mut first) = first {
        first.io.say_goodbye().await.ok();
    }
    let details = wanted.details();
    let connected = connect(asking(options, &details)).await.map_err(SurveyorError::SecondConnection);
    let details = Half::new(connected?, &details)?;
    check_agreement(main.connection.export(), details.connection.export())?;
    Ok(SurveyorOver { order, main, details: Some(details), assumes_data: false })
}

/// The options of a connection for these contexts.
fn asking(options: &Options, contexts: &Contexts) -> Options {
    let mut asking = options.clone().without_contexts();
    for (name, required) in contexts.queries() {
        // where data may be assumed, the allocation of a server without block status is known
        let required = required && !(options.assume_data && name == ALLOCATION);
        asking = if required { asking.require_context(name) } else { asking.want_context(name) };
    }
    asking
}

const ALLOCATION: &str = "base:allocation";

/// The contexts among these that the handshake granted.
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
