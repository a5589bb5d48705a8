//! Surveys over blocking clients.

use core::future::ready;

use nbd_extents::stream::ExtentSource;
use nbd_extents::{Contexts, Extent, Status};

use super::opening;
use super::stream::SurveyStep;
use super::{Order, SurveyStream, Surveyor, SurveyorError};
use crate::block_on::block_on;
use crate::client::{Blocking, Client};
use crate::error::Error;
use crate::options::Options;
use crate::transport::Transport;
use crate::uri::Uri;

impl Surveyor {
    /// Connects to the server of a URI and negotiates `contexts`. Contexts named in `options` are
    /// not asked for: `contexts` says them all.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::connect`]; a required context that is missing is one of them, and
    /// says what the server offers.
    pub fn connect(
        uri: &Uri,
        options: &Options,
        contexts: &Contexts,
        order: Order,
    ) -> Result<Self, SurveyorError> {
        Self::open(options, contexts, order, |options| Client::connect(uri, options))
    }
}

impl<T: Transport> Surveyor<T> {
    /// As [`connect`](super::Surveyor::connect), over connections that `open` makes, given the
    /// options with the contexts to ask for: once, or up to three times for [`Order::BitmapFirst`].
    ///
    /// # Errors
    ///
    /// Those of `open`, and of the negotiation.
    pub fn open(
        options: &Options,
        contexts: &Contexts,
        order: Order,
        mut open: impl FnMut(&Options) -> Result<Client<T>, Error>,
    ) -> Result<Self, SurveyorError> {
        let connect = |options: Options| ready(open(&options));
        block_on(opening::open((options, contexts, order), connect))
    }

    /// The connection that the bitmaps were asked on, for reading what the survey has found; the
    /// other one, if there is one, is ended, however its goodbye goes. Reading on the same
    /// connection is reading the same export.
    pub fn into_client(self) -> Client<T> {
        block_on(self.into_main())
    }

    /// Says goodbye on all connections.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::disconnect`]; all are closed all the same.
    pub fn disconnect(self) -> Result<(), SurveyorError> {
        block_on(self.end())
    }
}

impl<T: Transport> SurveyStream<'_, Blocking<T>> {
    /// Receives all answers that are due, of a stream that [asks ahead](Self::ask_ahead): nothing is
    /// in flight afterwards. If one of them is a fault, the next extent is its error.
    pub fn receive_all(&mut self) {
        block_on(self.receive_due());
    }
}

impl<T: Transport> ExtentSource for SurveyStream<'_, Blocking<T>> {
    type Status = Status;
    type Error = SurveyorError;

    /// The next extent. The end comes only when the whole range has been covered; every other end
    /// is an error.
    fn pull(&mut self) -> Result<Option<Extent<Status>>, SurveyorError> {
        loop {
            // an extent that is there costs less than to poll a future
            match self.step()? {
                SurveyStep::Ready(extent) => return Ok(extent),
                step => block_on(self.carry_out(step)),
            }
        }
    }
}
