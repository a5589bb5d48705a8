//! NBD URIs: where to connect, and which export to ask for (the NBD project's document "NBD URI").
//!
//! ```text
//! nbd://host[:port]/export             nbds:// is the same over TLS
//! nbd+unix:///export?socket=/path      nbds+unix:// likewise
//! ```
//!
//! A URI over TLS may have these parameters; [`TlsOptions`] says what they do:
//!
//! | parameter | value |
//! |---|---|
//! | `tls-certificates` | a folder with `ca-cert.pem`, and perhaps others |
//! | `tls-hostname` | the name that the server's certificate must be for |
//! | `tls-verify-peer` | 0 or 1: whether to verify the server's certificate |
//! | `tls-type` | `x509`; `psk` and `anon` are refused, since rustls has neither |
//! | `x-tls-fingerprint` | the SHA-256 fingerprint of the server's certificate, in place of an authority |
//!
//! Whatever is not understood is an error that names it: a parameter that is silently ignored might
//! have mattered.

use core::fmt;
use core::net::Ipv6Addr;
use core::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::frame::is_string;
use crate::tls::TlsOptions;

/// The port of NBD.
pub const DEFAULT_PORT: u16 = 10809;

/// Characters that stay readable in a path or a parameter: unreserved ones and the slash.
const ENCODE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// Characters that stay readable in the name of a host.
const HOST: &AsciiSet = &ENCODE.add(b'/');

/// A parsed NBD URI. `Display` gives a URI that parses to the same value.
///
/// ```
/// use nbd_client::Uri;
/// use nbd_client::uri::Address;
///
/// let uri: Uri = "nbd+unix:///disk%201?socket=/run/vm.sock".parse()?;
/// assert_eq!(uri.export(), "disk 1");
/// assert_eq!(uri.address(), &Address::Unix(b"/run/vm.sock".into()));
/// assert_eq!(uri.tls(), None);
/// assert_eq!(uri.to_string(), "nbd+unix:///disk%201?socket=/run/vm.sock");
/// # Ok::<(), nbd_client::uri::UriError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Uri {
    tls: Option<TlsOptions>,
    address: Address,
    export: String,
}

/// The address at which a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP. An IPv6 address is without its brackets.
    Tcp {
        /// Name or address of the host; not empty.
        host: String,
        /// Port, [`DEFAULT_PORT`] unless the URI says another.
        port: u16,
    },
    /// A socket of this machine: a path, or with a leading zero byte a name in Linux's abstract
    /// namespace. It is not empty, and has no other zero byte.
    Unix(Vec<u8>),
}

/// Why a text is no NBD URI, or none that this crate understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// A control character or a space.
    #[error("a URI has no {0:?} in it: write it as %{byte:02X}", byte = *.0 as u32)]
    BadCharacter(char),
    /// Not `scheme://...`.
    #[error("no URI: {0:?} does not begin with scheme://")]
    NoScheme(String),
    /// Another scheme.
    #[error("unknown scheme {0:?}: expected nbd, nbds, nbd+unix or nbds+unix")]
    UnknownScheme(String),
    /// The host or port cannot be parsed.
    #[error("bad host or port {0:?}: {1}")]
    BadAuthority(String, url::ParseError),
    /// TCP without a host.
    #[error("no host in the URI")]
    NoHost,
    /// A unix socket with a host.
    #[error("a URI of a unix socket has no host, got {0:?}")]
    UnexpectedHost(String),
    /// `user:password@`.
    #[error("user names in an NBD URI are not supported")]
    UserInfo,
    /// `#fragment`.
    #[error("an NBD URI has no fragment, got {0:?}")]
    Fragment(String),
    /// A unix scheme without `?socket=`.
    #[error("a URI of a unix socket needs ?socket=PATH")]
    NoSocket,
    /// `?socket=` with TCP.
    #[error("?socket= goes with nbd+unix:// only")]
    UnexpectedSocket,
    /// A parameter twice.
    #[error("?{0}= is there more than once")]
    DuplicateParameter(String),
    /// An empty name, or one with a zero byte inside.
    #[error("?socket= is empty or has a zero byte inside")]
    BadSocket,
    /// A parameter of TLS in a URI without TLS.
    #[error("?{0}= goes with nbds:// and nbds+unix:// only: without the s there is no TLS")]
    UnexpectedTls(String),
    /// TLS without certificates.
    #[error(
        "tls-type={0} is not supported: rustls, which does TLS here, knows only certificates \
            (x509). Give the \
         server one, made by openssl in a minute; its fingerprint is enough to verify it (x-tls-fingerprint)"
    )]
    TlsType(String),
    /// A value that a parameter cannot have.
    #[error("?{parameter}={value:?}: expected {expected}")]
    BadValue {
        /// The parameter.
        parameter: String,
        /// Its value.
        value: String,
        /// The values that it can have.
        expected: &'static str,
    },
    /// A parameter that this crate does not know.
    #[error("unknown parameter {0:?} in the URI")]
    UnknownParameter(String),
    /// The export name is not UTF-8.
    #[error("the export name is not UTF-8")]
    ExportNotUtf8,
    /// The export name is too long, in bytes, or has a zero byte.
    #[error("an export name of {0} bytes cannot be asked for: at most 4096, no zero byte")]
    BadExportName(usize),
}

impl Uri {
    /// A URI from its parts; with `tls` it is one over TLS.
    ///
    /// # Errors
    ///
    /// [`UriError::BadExportName`] if the export's name is longer than 4096 bytes or has a zero
    /// byte, [`UriError::NoHost`] and [`UriError::BadSocket`] if the address is none.
    pub fn new(
        address: Address,
        export: impl Into<String>,
        tls: Option<TlsOptions>,
    ) -> Result<Self, UriError> {
        let export = export.into();
        if !is_string(&export) {
            return Err(UriError::BadExportName(export.len()));
        }
        match &address {
            Address::Tcp { host, .. } if host.is_empty() => Err(UriError::NoHost),
            Address::Unix(name) if !is_socket(name) => Err(UriError::BadSocket),
            _ => Ok(Self { tls, address, export }),
        }
    }

    /// The address at which the server listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The export's name; empty is the server's default export.
    #[must_use]
    pub fn export(&self) -> &str {
        &self.export
    }

    /// The same server and another export.
    ///
    /// # Errors
    ///
    /// [`UriError::BadExportName`] if the export's name is longer than 4096 bytes or has a zero
    /// byte.
    pub fn with_export(&self, export: impl Into<String>) -> Result<Self, UriError> {
        Self::new(self.address.clone(), export, self.tls.clone())
    }

    /// Its parameters of TLS; `None` unless it is `nbds` or `nbds+unix`.
    #[must_use]
    pub const fn tls(&self) -> Option<&TlsOptions> {
        self.tls.as_ref()
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        // The url crate would silently remove these.
        if let Some(bad) = text.chars().find(|c| c.is_ascii_control() || *c == ' ') {
            return Err(UriError::BadCharacter(bad));
        }
        // Cut by hand, since a URL parser resolves `.` and `..` in the path and takes `+` for a
        // space in the query: names of exports and sockets must stay as they are.
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UriError::NoScheme(text.to_owned()))?;
        let (is_unix, is_tls) = match scheme.to_ascii_lowercase().as_str() {
            "nbd" => (false, false),
            "nbds" => (false, true),
            "nbd+unix" => (true, false),
            "nbds+unix" => (true, true),
            _ => return Err(UriError::UnknownScheme(scheme.to_owned())),
        };
        if let Some((_, fragment)) = rest.split_once('#') {
            return Err(UriError::Fragment(fragment.to_owned()));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (socket, tls) = parse_query(query, is_tls)?;
        if authority.contains('@') {
            return Err(UriError::UserInfo);
        }
        let address = match (is_unix, socket) {
            (true, _) if !authority.is_empty() => return Err(UriError::UnexpectedHost(authority.to_owned())),
            (true, socket) => Address::Unix(socket.ok_or(UriError::NoSocket)?),
            (false, Some(_)) => return Err(UriError::UnexpectedSocket),
            (false, None) => tcp_address(authority)?,
        };
        let export = percent_decode_str(path).decode_utf8().map_err(|_| UriError::ExportNotUtf8)?;
        Self::new(address, export, tls)
    }
}

/// True for a path, and for a name after the zero byte of the abstract namespace.
fn is_socket(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"\0").unwrap_or(name);
    !name.is_empty() && !name.contains(&0)
}

/// The value of `socket=`, and the parameters of TLS where there is TLS.
fn parse_query(query: &str, tls: bool) -> Result<(Option<Vec<u8>>, Option<TlsOptions>), UriError> {
    let mut socket = None;
    let mut options = TlsOptions::new();
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value: Vec<u8> = percent_decode_str(value).collect();
        let name = percent_decode_str(key).decode_utf8_lossy().into_owned();
        if seen.contains(&name) {
            return Err(UriError::DuplicateParameter(name));
        }
        match name.as_str() {
            "socket" => socket = Some(value),
            // libnbd's, for pre-shared keys
            "tls-psk-file" | "tls-username" if tls => return Err(UriError::TlsType("psk".to_owned())),
            "tls-type" if tls && matches!(&*value, b"psk" | b"anon") => {
                return Err(UriError::TlsType(String::from_utf8_lossy(&value).into_owned()));
            }
            "tls-certificates" | "tls-hostname" | "tls-verify-peer" | "tls-type" | "x-tls-fingerprint" => {
                if !tls {
                    return Err(UriError::UnexpectedTls(name));
                }
                options = options.parameter(&name, &value).map_err(|expected| {
                    let value = String::from_utf8_lossy(&value).into_owned();
                    UriError::BadValue { parameter: name.clone(), value, expected }
                })?;
            }
            _ => return Err(UriError::UnknownParameter(key.to_owned())),
        }
        seen.push(name);
    }
    Ok((socket, tls.then_some(options)))
}

fn tcp_address(authority: &str) -> Result<Address, UriError> {
    let bad = |error| UriError::BadAuthority(authority.to_owned(), error);
    let url = url::Url::parse(&format!("nbd://{authority}")).map_err(bad)?;
    let host = match url.host().ok_or(UriError::NoHost)? {
        url::Host::Ipv6(ip) => ip.to_string(),
        name => percent_decode_str(&name.to_string())
            .decode_utf8()
            .map_err(|_| bad(url::ParseError::InvalidDomainCharacter))?
            .into_owned(),
    };
    Ok(Address::Tcp { host, port: url.port().unwrap_or(DEFAULT_PORT) })
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "nbds" } else { "nbd" };
        let export = percent_encode(self.export.as_bytes(), ENCODE);
        let mut parameters = Vec::new();
        match &self.address {
            Address::Tcp { host, port } => {
                write!(f, "{scheme}://{}", host_text(host))?;
                if *port != DEFAULT_PORT {
                    write!(f, ":{port}")?;
                }
                write!(f, "/{export}")?;
            }
            Address::Unix(socket) => {
                write!(f, "{scheme}+unix:///{export}")?;
                parameters.push(("socket", socket.clone()));
            }
        }
        parameters.extend(self.tls.iter().flat_map(TlsOptions::parameters));
        for (index, (name, value)) in parameters.iter().enumerate() {
            let mark = if index == 0 { '?' } else { '&' };
            write!(f, "{mark}{name}={}", percent_encode(value, ENCODE))?;
        }
        Ok(())
    }
}

/// A host as it stands in a URI: IPv6 in brackets.
fn host_text(host: &str) -> String {
    // an address as the parser writes it; a name may have any character, even a colon or a slash
    if host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_string() == host) {
        format!("[{host}]")
    } else {
        percent_encode(host.as_bytes(), HOST).to_string()
    }
}

impl fmt::Display for Address {
    /// For messages: `host:port`, or the path with everything unusual escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{}:{port}", host_text(host)),
            Self::Unix(socket) => write!(f, "{}", socket.escape_ascii()),
        }
    }
}
