//! The choices of a caller about a connection.

use core::time::Duration;
use std::time::Instant;

use crate::error::Error;
use crate::frame::{During, Headers, OptionName, option_type};
use crate::handshake::{ContextRequest, HandshakeConfig, HandshakeLimits};
use crate::session::SessionLimits;
use crate::tls::{RustlsConfig, TlsOptions};
use crate::transport::Canceller;
use crate::uri::{Address, Uri};
use nbd_extents::Strictness;

/// How long a further connection may take.
const ANOTHER: Duration = Duration::from_secs(5);

/// How to connect, what to ask for, and how long to wait.
///
/// ```
/// use nbd_client::Options;
/// use std::time::Duration;
///
/// let options = Options::new()
///     .require_context("base:allocation")
///     .want_context("qemu:allocation-depth")
///     .request_timeout(Duration::from_secs(10));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Options {
    /// For an export whose name is not known yet.
    pub(crate) handshake: HandshakeConfig,
    pub(crate) assume_data: bool,
    pub(crate) time: TimeLimits,
    pub(crate) session_limits: SessionLimits,
    pub(crate) canceller: Canceller,
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) tls_config: Option<RustlsConfig>,
}

/// The limits of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    /// For the connection and its handshake together.
    pub(crate) connect: Duration,
    /// For requests in flight to make progress.
    pub(crate) request: Duration,
    pub(crate) flush: Option<Duration>,
    /// The end of the whole job.
    pub(crate) deadline: Option<Instant>,
}

impl Default for TimeLimits {
    fn default() -> Self {
        let (connect, request) = (Duration::from_secs(60), Duration::from_secs(300));
        Self { connect, request, flush: None, deadline: None }
    }
}

impl Options {
    /// No contexts, extended headers if the server has them, lenient, 60 s to connect, 300 s
    /// without progress, no limit on FLUSH.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a context without which there is no connection: its absence is an error that says
    /// what the server offers.
    pub fn require_context(self, name: impl Into<String>) -> Self {
        self.context(name, true)
    }

    /// Asks for a context; if the server lacks it, it is in
    /// [`Export::missing`](crate::Export::missing).
    pub fn want_context(self, name: impl Into<String>) -> Self {
        self.context(name, false)
    }

    fn context(mut self, name: impl Into<String>, required: bool) -> Self {
        self.handshake.contexts.push(ContextRequest { name: name.into(), required });
        self
    }

    /// These options without any context.
    pub(crate) fn without_contexts(mut self) -> Self {
        self.handshake.contexts.clear();
        self
    }

    /// The best headers to ask for (default: extended). A server without extended headers is asked
    /// for structured replies. With simple ones there is no block status, and the reply to a read
    /// does not show holes.
    pub const fn headers(mut self, best: Headers) -> Self {
        self.handshake.headers = best;
        self
    }

    /// Whether to list what the server offers in any case (default: only if a context is missing).
    pub const fn list_contexts(mut self, wanted: bool) -> Self {
        self.handshake.list_contexts = wanted;
        self
    }

    /// Whether a survey takes all of an export for data where the server has no block status
    /// (default: no).
    ///
    /// It is always safe, and reads everything. The surveyor says that it does so, and the survey
    /// counts the bytes ([`SurveyStats::assumed_bytes`](nbd_extents::SurveyStats)). A bitmap that
    /// is required and not there stays an error.
    pub fn assume_data(self, assume_data: bool) -> Self {
        Self { assume_data, ..self }
    }

    /// Whether to refuse every violation of a MUST (default: no, see [`Strictness`]).
    pub const fn strict(mut self, strict: bool) -> Self {
        self.handshake.strictness = if strict { Strictness::Strict } else { Strictness::Lenient };
        self
    }

    /// The time for the connection and its handshake together (default: 60 s).
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.time.connect = timeout;
        self
    }

    /// For a further connection where the first came about: some servers take one client only, and
    /// let others wait for ever.
    pub(crate) fn hurried(&self) -> Self {
        self.clone().connect_timeout(self.time.connect.min(ANOTHER))
    }

    /// The time in which requests in flight must make progress (default: 300 s).
    ///
    /// It restarts whenever one of them has been answered whole, and whenever 64 KiB of payload
    /// have moved since it last restarted. `Duration::MAX` is no limit. Each connection has its own
    /// limit: where a server serves several connections one after the other, it must be long enough
    /// for all of them.
    ///
    /// Bytes of writes count as moved when the system takes them. It holds up to some MiB of them
    /// for a slow network or server: the limit must be long enough for these to arrive.
    ///
    /// When sending fails because the server has hung up, the requests in flight have 5 seconds for
    /// their answers, or this limit if it is shorter. The same holds for the goodbye.
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.time.request = timeout;
        self
    }

    /// The time for a FLUSH (default: no limit, since a busy array may take minutes). While one is
    /// in flight, the longer of the two limits holds for the other requests, which may wait for it.
    pub const fn flush_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.time.flush = timeout;
        self
    }

    /// The end of the whole job, whatever it is doing then (default: none). Nothing begins after
    /// it, and the goodbye neither: [`Client::disconnect`](crate::Client::disconnect) says so.
    pub const fn deadline(mut self, deadline: Option<Instant>) -> Self {
        self.time.deadline = deadline;
        self
    }

    /// Bounds on what the server may send after the handshake.
    pub fn session_limits(self, session_limits: SessionLimits) -> Self {
        Self { session_limits, ..self }
    }

    /// Bounds on what the server may send in the handshake.
    pub const fn handshake_limits(mut self, limits: HandshakeLimits) -> Self {
        self.handshake.limits = limits;
        self
    }

    /// The canceller that ends the connection, also while it is being made.
    ///
    /// Over a transport of the caller's own ([`Client::over`](crate::Client::over)) it is only
    /// looked at before the handshake; such a transport has its own way to be ended. The
    /// asynchronous clients look at it only before they connect; their calls are dropped instead.
    pub fn canceller(self, canceller: Canceller) -> Self {
        Self { canceller, ..self }
    }

    /// Connects over TLS, also where the URI is `nbd://` or there is no URI. Parameters of a URI
    /// count more than these options.
    pub fn tls(self, tls: TlsOptions) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// A configuration of rustls for connections over TLS, in place of certificates from files.
    ///
    /// Of the [`TlsOptions`] only the name of the host is used. The configuration decides whether a
    /// server's certificate is verified.
    #[cfg(feature = "tls")]
    pub fn tls_config(self, config: alloc::sync::Arc<rustls::ClientConfig>) -> Self {
        Self { tls_config: Some(config), ..self }
    }

    /// The options of a connection to this URI, with what it says about TLS.
    pub(crate) fn for_uri(&self, uri: &Uri) -> Self {
        let mut options = self.clone();
        options.tls = match (uri.tls(), &self.tls) {
            (Some(theirs), Some(ours)) => Some(theirs.clone().or(ours)),
            (theirs, ours) => theirs.or(ours.as_ref()).cloned(),
        };
        if let (Some(tls), Address::Tcp { host, .. }) = (&mut options.tls, uri.address()) {
            tls.hostname.get_or_insert_with(|| host.clone());
        }
        options
    }

    /// How to ask once more after an error: a server that hangs up on an option that it does not
    /// know (which it must not) is asked without extended headers.
    pub(crate) fn after_hang_up(&self, error: &Error) -> Option<Self> {
        let disliked = During::Option(OptionName(option_type::EXTENDED_HEADERS));
        (error.hung_up_during() == Some(disliked)).then(|| self.clone().headers(Headers::Structured))
    }
}
