//! `uri`: the input is text (decoded lossily), used as a URI, and as the tail of one of each kind.
//! Asserts that a parsed URI prints as ASCII that parses to the same value, that its parts are
//! within the limits, and that an error can be printed safely.

use super::server_text::assert_printable;
use nbd_client::Uri;
use nbd_client::uri::Address;

const STARTS: [&str; 6] =
    ["", "nbd://", "nbds://host/", "nbd://[::1", "nbd+unix:///?socket=", "nbds+unix:///"];

pub fn uri(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for start in STARTS {
        one(&format!("{start}{text}"));
    }
}

fn one(text: &str) {
    let uri: Uri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => return assert_printable(&format!("{error}")),
    };
    assert!(uri.export().len() <= 4096 && !uri.export().contains('\0'), "{uri:?}");
    match uri.address() {
        Address::Tcp { host, .. } => assert!(!host.is_empty(), "{uri:?}"),
        Address::Unix(name) => assert!(!name.is_empty() && !name[1..].contains(&0), "{uri:?}"),
        other => panic!("{other:?}"),
    }
    let shown = uri.to_string();
    assert!(shown.is_ascii(), "{shown}");
    assert_eq!(shown.parse::<Uri>().as_ref(), Ok(&uri), "{text:?} is shown as {shown}");
    assert_eq!(Uri::new(uri.address().clone(), uri.export(), uri.tls().cloned()), Ok(uri));
}
