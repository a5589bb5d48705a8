//! Block status, one blocking request at a time.

use nbd_extents::Admission;

use super::Client;
use crate::error::Error;
use crate::session::{ChunkOffer, Event, StatusRequest};
use crate::transport::Transport;

/// Takes the chunks of one block status request, see [`Client::block_status`].
///
/// If the request fails in the end, the delivered chunks must not be used.
///
/// ```
/// # #[cfg(unix)] {
/// use nbd_client::Admission;
/// use nbd_client::client::StatusSink;
/// use nbd_client::session::ChunkOffer;
///
/// /// Keeps payloads, but none above 1 MiB.
/// #[derive(Default)]
/// struct Kept {
///     payloads: Vec<(u32, Vec<u8>)>,
///     drained: u64,
/// }
///
/// impl StatusSink for Kept {
///     fn admit(&mut self, offer: &ChunkOffer) -> Admission {
///         if offer.length > 1 << 20 { Admission::Drain } else { Admission::Take }
///     }
///
///     fn status(&mut self, context: u32, payload: &[u8]) {
///         self.payloads.push((context, payload.to_vec()));
///     }
///
///     fn drained(&mut self, _: u32, length: u64) {
///         self.drained += length;
///     }
/// }
/// # use testkit::scripted::{Good, ScriptedServer};
/// # use nbd_client::{Client, Options};
/// # use nbd_client::session::StatusRequest;
/// # let server = ScriptedServer::start(|conn| {
/// #     conn.handshake(&Good::compact())?;
/// #     conn.serve(|conn, request| conn.honest(request, 0))
/// # })?;
/// # let options = Options::new().require_context("base:allocation");
/// # let mut client = Client::connect(&server.uri().parse()?, &options)?;
///
/// let mut kept = Kept::default();
/// client.block_status(&StatusRequest::new(0, 4096), &mut kept)?;
/// // Context 0: 4096 bytes of status 0, which is data.
/// assert_eq!(kept.payloads, [(0, vec![0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0])]);
/// assert_eq!(kept.drained, 0);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait StatusSink {
    /// Whether to take a chunk, before anything is allocated for it. Takes all unless told
    /// otherwise.
    fn admit(&mut self, offer: &ChunkOffer) -> Admission {
        let _ = offer;
        Admission::Take
    }

    /// A chunk of `context`, whose number is also at the start of `payload`.
    fn status(&mut self, context: u32, payload: &[u8]);

    /// A chunk that [`Self::admit`] chose to drain, of `length` bytes.
    fn drained(&mut self, context: u32, length: u64) {
        let _ = (context, length);
    }
}

/// A closure over context and payload takes all chunks.
impl<F: FnMut(u32, &[u8])> StatusSink for F {
    fn status(&mut self, context: u32, payload: &[u8]) {
        self(context, payload);
    }
}

impl<T: Transport> Client<T> {
    /// Asks for the block status of a range and hands every chunk of the answer to `sink`.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if the request failed (the connection is usable, and what `sink` got is
    /// void; only after ESHUTDOWN it is ended, as it has to be); [`Error::Start`] if it cannot be
    /// asked, also while others are in flight; the errors of a connection otherwise.
    pub fn block_status<S: StatusSink + ?Sized>(
        &mut self,
        request: &StatusRequest<'_>,
        sink: &mut S,
    ) -> Result<(), Error> {
        self.check_idle()?;
        let cookie = self.start(|session| session.start_block_status(request))?;
        loop {
            match self.next_event(&mut |offer: &ChunkOffer| sink.admit(offer))? {
                // Left over from a request whose events were not all fetched.
                Some(event) if event.cookie() != cookie => {}
                Some(Event::Status { context, payload, .. }) => {
                    sink.status(context, &payload);
                    self.recycle(payload);
                }
                Some(Event::Drained { context, length, .. }) => sink.drained(context, length),
                Some(Event::Read { .. }) => {}
                Some(Event::Done { .. }) => return Ok(()),
                Some(Event::Failed { error, .. }) => return Err(error.into()),
                None => return Err(Error::GivenUp),
            }
        }
    }
}
