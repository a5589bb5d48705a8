//! NBD URIs: examples of each rule, and a round trip of any URI.

use nbd_client::uri::{Address, UriError};
use nbd_client::{TlsOptions, Uri};
use proptest::prelude::*;

fn parse(text: &str) -> Uri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> UriError {
    text.parse::<Uri>().expect_err(text)
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.to_owned(), port }
}

#[test]
fn hosts_and_ports() {
    assert_eq!(parse("nbd://example.com/disk").address(), &tcp("example.com", 10809));
    assert_eq!(parse("nbd://example.com").export(), "");
    assert_eq!(parse("nbd://127.0.0.1:1234/").address(), &tcp("127.0.0.1", 1234));
    assert_eq!(parse("nbd://[::1]:1234/x").address(), &tcp("::1", 1234));
    assert_eq!(parse("NBD://[fe80::1]").address(), &tcp("fe80::1", 10809));
    assert!(matches!(error("nbd://host:99999/"), UriError::BadAuthority(..)));
    assert!(matches!(error("nbd://[::1/"), UriError::BadAuthority(..)));
    assert_eq!(error("nbd:///disk"), UriError::NoHost);
}

#[test]
fn export_is_the_path_minus_exactly_one_slash() {
    for (text, export) in [
        ("nbd://h/", ""),
        ("nbd://h/a/b", "a/b"),
        ("nbd://h//a", "/a"),
        ("nbd://h/a/../b/.", "a/../b/."),
        ("nbd://h/%2Fa%20+%C3%A9", "/a +é"),
    ] {
        assert_eq!(parse(text).export(), export, "{text}");
    }
    assert_eq!(error("nbd://h/%FF"), UriError::ExportNotUtf8);
    assert_eq!(error("nbd://h/a%00"), UriError::BadExportName(2));
    assert!(matches!(error(&format!("nbd://h/{}", "a".repeat(4097))), UriError::BadExportName(4097)));
    assert_eq!(parse(&format!("nbd://h/{}", "a".repeat(4096))).export().len(), 4096);
}

#[test]
fn unix_sockets() {
    let socket = |text: &str| match parse(text).address() {
        Address::Unix(socket) => socket.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(socket("nbd+unix:///?socket=/run/a+b%20c"), b"/run/a+b c");
    assert_eq!(socket("nbd+unix://?socket=/s"), b"/s");
    assert_eq!(socket("nbd+unix:///x?socket=%00name"), b"\0name");
    assert_eq!(error("nbd+unix:///x"), UriError::NoSocket);
    assert_eq!(error("nbd+unix:///x?socket="), UriError::BadSocket);
    assert_eq!(error("nbd+unix:///x?socket=a%00b"), UriError::BadSocket);
    assert_eq!(error("nbd+unix:///x?socket=a&socket=b"), UriError::DuplicateParameter("socket".into()));
    assert_eq!(error("nbd://h/x?socket=a"), UriError::UnexpectedSocket);
    assert_eq!(error("nbd+unix://h/x?socket=a"), UriError::UnexpectedHost("h".into()));
}

#[test]
fn what_is_not_understood_is_named() {
    assert_eq!(error("nbd://h/?tls-psk-file=x"), UriError::UnknownParameter("tls-psk-file".into()));
    assert_eq!(error("nbd+unix:///?socket=a&Socket=b"), UriError::UnknownParameter("Socket".into()));
    assert_eq!(error("nbd://user@h/"), UriError::UserInfo);
    assert_eq!(error("nbd://h/#part"), UriError::Fragment("part".into()));
    assert_eq!(error("http://h/"), UriError::UnknownScheme("http".into()));
    assert_eq!(error("nbd:disk"), UriError::NoScheme("nbd:disk".into()));
    assert_eq!(error(""), UriError::NoScheme(String::new()));
    assert_eq!(error("nbd://h/a b"), UriError::BadCharacter(' '));
    assert_eq!(error("nbd://h/\n"), UriError::BadCharacter('\n'));
}

#[test]
fn tls_is_parsed() {
    assert!(parse("nbds://h/").tls().is_some());
    assert!(parse("nbds+unix:///?socket=/s").tls().is_some());
    assert!(parse("nbd://h/").tls().is_none());
}

#[test]
fn parameters_of_tls() {
    let digits = "0123456789abcdef".repeat(4);
    let uri = parse(&format!(
        "nbds://h/?tls-certificates=/a%20b&tls-hostname=node&tls-verify-peer=0&tls-type=x509\
         &x-tls-fingerprint={digits}"
    ));
    let expected = TlsOptions::new()
        .certificates("/a b")
        .hostname("node")
        .verify_peer(false)
        .fingerprint(digits.parse().unwrap());
    assert_eq!(uri.tls(), Some(&expected));
    assert_eq!(parse("nbds://h/").tls(), Some(&TlsOptions::new()));
    assert_eq!(parse("nbds://h/a").with_export("b").unwrap(), parse("nbds://h/b"));

    for kind in ["psk", "anon"] {
        assert_eq!(error(&format!("nbds://h/?tls-type={kind}")), UriError::TlsType(kind.into()));
    }
    assert_eq!(error("nbds://h/?tls-psk-file=x"), UriError::TlsType("psk".into()));
    assert_eq!(error("nbds://h/?tls-username=x"), UriError::TlsType("psk".into()));
    assert_eq!(error("nbd://h/?tls-hostname=x"), UriError::UnexpectedTls("tls-hostname".into()));
    assert_eq!(
        error("nbds://h/?tls-hostname=x&tls-hostname=x"),
        UriError::DuplicateParameter("tls-hostname".into())
    );
    for pair in [
        "tls-verify-peer=yes",
        "tls-hostname=",
        "tls-certificates=",
        "tls-type=openpgp",
        "x-tls-fingerprint=12:34",
    ] {
        let error = error(&format!("nbds://h/?{pair}"));
        assert!(
            matches!(&error, UriError::BadValue { parameter, .. } if pair.starts_with(parameter)),
            "{error}"
        );
    }
    assert_eq!(error("nbds://h/?tls-priority=NORMAL"), UriError::UnknownParameter("tls-priority".into()));
}

fn tls() -> impl Strategy<Value = Option<TlsOptions>> {
    let some = ("(/[^\\x00/]{1,9}){1,3}", "[a-z.]{1,20}", any::<Option<bool>>(), "([0-9A-F]{64})?").prop_map(
        |(folder, name, verify, digits)| {
            let mut tls = TlsOptions::new().certificates(folder).hostname(name);
            if let Some(verify) = verify {
                tls = tls.verify_peer(verify);
            }
            if let Ok(fingerprint) = digits.parse() { tls.fingerprint(fingerprint) } else { tls }
        },
    );
    prop_oneof![Just(None), Just(Some(TlsOptions::new())), some.prop_map(Some)]
}

fn address() -> impl Strategy<Value = Address> {
    let host = prop_oneof![
        "[a-z][a-z0-9.-]{0,20}",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
    ];
    let name = prop::collection::vec(1_u8.., 1..60);
    prop_oneof![
        (host, any::<u16>()).prop_map(|(host, port)| Address::Tcp { host, port }),
        (any::<bool>(), name).prop_map(|(hidden, name)| {
            let name = if hidden { [&[0][..], &name].concat() } else { name };
            Address::Unix(name)
        }),
    ]
}

proptest! {
    #[test]
    fn display_and_parse_are_a_round_trip(address in address(), export in "[^\\x00]{0,40}", tls in tls()) {
        let uri = Uri::new(address, export, tls).unwrap();
        let text = uri.to_string();
        prop_assert!(text.is_ascii());
        prop_assert_eq!(text.parse::<Uri>(), Ok(uri), "{}", text);
    }

    #[test]
    fn no_text_panics(text in any::<String>(), tail in "[ -~]{0,40}") {
        let _ = text.parse::<Uri>();
        let _ = format!("nbd://{tail}").parse::<Uri>();
    }
}
