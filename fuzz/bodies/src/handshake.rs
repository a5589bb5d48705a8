//! `handshake`: the input is the wishes of the client, piece sizes and a server's bytes. Asserts
//! that they give the same export, error and output whatever the pieces; that an export is within
//! the limits and has only requested contexts, with all required ones; that a failed handshake
//! stays failed; that errors can be printed safely; and that bytes after the answer to STARTTLS are
//! refused.
//!
//! ```text
//! 0  flags:1  1 no extended headers, 2 list contexts, 4 STARTTLS, 8 strict, 16 small limits,
//!             32 allocation is required, 64 no contexts, 128 the bitmap is required
//! 1  pieces   see pieces.rs
//! .. the server's bytes
//! ```

use super::bytes::Bytes;
use super::pieces::Cuts;
use super::server_text::assert_printable;
use nbd_client::frame::{Headers, UnexpectedEof};
use nbd_client::handshake::{
    ContextRequest, Handshake, HandshakeConfig, HandshakeError, HandshakeLimits, HandshakeStatus,
};
use nbd_client::stats::ToleratedCounts;
use nbd_client::{Error, ErrorClass, Export, Strictness};

/// The results that must not depend on the pieces.
#[derive(Clone, Debug, PartialEq)]
struct HandshakeOutcome {
    output: Vec<u8>,
    end: Result<End, HandshakeError>,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Export { export: Box<Export>, forgiven: ToleratedCounts, taken: usize },
    Waiting { status: HandshakeStatus, eof: UnexpectedEof },
}

pub fn handshake(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let config = config(&mut bytes);
    let pieces = Cuts::read(&mut bytes);
    let input = bytes.rest();
    // byte by byte first: this run finds the offset at which TLS begins, which no piece may cross
    let (outcome, tls_at) = run(&config, input, &Cuts::Bytewise, None);
    check(&config, &outcome);
    assert_eq!(run(&config, input, &pieces, tls_at).0, outcome);
    assert_eq!(run(&config, input, &Cuts::Whole, tls_at).0, outcome);
    // one that crosses it is an attack, and refused
    if let Some(at) = tls_at.filter(|&at| at < input.len()) {
        let (refused, _) = run(&config, input, &Cuts::Whole, None);
        assert_eq!(refused.end, Err(HandshakeError::BytesAfterStartTls(input.len() - at)));
    }
}

fn config(bytes: &mut Bytes<'_>) -> HandshakeConfig {
    let flags = bytes.u8();
    let flag = |bit: u8| flags >> bit & 1 == 1;
    let mut config = HandshakeConfig::new("disk");
    config.headers = if flag(0) { Headers::Structured } else { Headers::Extended };
    config.list_contexts = flag(1);
    config.start_tls = flag(2);
    config.strictness = if flag(3) { Strictness::Strict } else { Strictness::Lenient };
    if flag(4) {
        let mut limits = HandshakeLimits::default();
        (limits.reply_bytes, limits.replies, limits.total_bytes) = (64, 4, 300);
        config.limits = limits;
    }
    let wanted = [("base:allocation", 5), ("qemu:allocation-depth", 8), ("qemu:dirty-bitmap:b0", 7)];
    if !flag(6) {
        let ask =
            |(name, bit): (&str, u8)| ContextRequest { name: name.into(), required: bit < 8 && flag(bit) };
        config.contexts = wanted.map(ask).to_vec();
    }
    config
}

/// A handshake over all of the input, or as far as it gets. Also returns the offset of the answer
/// to STARTTLS; no piece crosses `tls_at`.
fn run(
    config: &HandshakeConfig,
    input: &[u8],
    pieces: &Cuts,
    tls_at: Option<usize>,
) -> (HandshakeOutcome, Option<usize>) {
    let mut handshake = Handshake::new(config.clone()).unwrap();
    let mut output = Vec::new();
    let mut started_at = None;
    let (mut at, mut nth) = (0, 0);
    while at < input.len() && handshake.status() == HandshakeStatus::NeedsInput {
        let mut end = input.len().min(at.saturating_add(pieces.size(nth)));
        end = tls_at.filter(|&barrier| at < barrier).map_or(end, |barrier| end.min(barrier));
        nth += 1;
        let taken = handshake.feed(&input[at..end]);
        output.extend(handshake.take_output());
        match taken {
            Ok(taken) => {
                assert!(taken == end - at || handshake.status() == HandshakeStatus::Finished);
                at += taken;
            }
            Err(error) => {
                failed(handshake, &error);
                return (HandshakeOutcome { output, end: Err(error) }, started_at);
            }
        }
        if handshake.status() == HandshakeStatus::NeedsTls {
            assert!(started_at.replace(at).is_none() && config.start_tls);
            handshake.tls_started();
            output.extend(handshake.take_output());
        }
    }
    let end = match handshake.status() {
        HandshakeStatus::Finished => finished(handshake, at),
        status => {
            let eof = handshake.eof();
            assert!(eof.got < eof.expected, "{eof}");
            assert!(handshake.export().is_none());
            End::Waiting { status, eof }
        }
    };
    (HandshakeOutcome { output, end: Ok(end) }, started_at)
}

fn finished(mut handshake: Handshake, taken: usize) -> End {
    assert_eq!(handshake.feed(b"of the transmission phase"), Ok(0));
    assert!(handshake.take_output().is_empty());
    let (export, forgiven) = handshake.export().expect("a finished handshake has an export");
    End::Export { export: Box::new(export.clone()), forgiven, taken }
}

/// A failed handshake stays failed and reports nothing more.
fn failed(mut handshake: Handshake, error: &HandshakeError) {
    assert_printable(&error.to_string());
    assert_ne!(Error::from(error.clone()).class(), ErrorClass::Other);
    for _ in 0..2 {
        assert_eq!(handshake.feed(b"NBDMAGIC"), Err(error.clone()));
        assert!(handshake.take_output().is_empty());
    }
    assert!(handshake.export().is_none());
}

fn check(config: &HandshakeConfig, outcome: &HandshakeOutcome) {
    // four bytes of flags, then options one after the other
    let mut rest = outcome.output.get(4..).unwrap_or_default();
    while let Some((header, data)) =
        rest.split_at_checked(16).filter(|(header, _)| header.starts_with(b"IHAVEOPT"))
    {
        let length = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
        rest = &data[length as usize..];
    }
    match &outcome.end {
        Ok(End::Export { export, forgiven, .. }) => {
            assert!(rest.is_empty(), "{rest:?} after the options");
            check_export(config, export);
            assert!(!config.strictness.is_strict() || forgiven.total() == 0, "{forgiven:?}");
        }
        Ok(End::Waiting { .. }) => assert!(rest.is_empty()),
        // the transmission phase has begun, and ends with DISC
        Err(_) => assert!([0, 28, 32].contains(&rest.len()), "{rest:?}"),
    }
}

fn check_export(config: &HandshakeConfig, export: &Export) {
    assert!(i64::try_from(export.size()).is_ok());
    assert_eq!(export.name, config.export);
    let granted = |name: &String| export.context(name).is_some();
    let (there, missing): (Vec<_>, Vec<_>) = config.contexts.iter().partition(|asked| granted(&asked.name));
    assert!(export.contexts.iter().map(|context| &context.name).eq(there.iter().map(|asked| &asked.name)));
    assert!(export.missing.iter().eq(missing.iter().map(|asked| &asked.name)));
    assert!(missing.iter().all(|asked| !asked.required));
    for (nth, context) in export.contexts.iter().enumerate() {
        assert!(export.contexts[..nth].iter().all(|other| other.id != context.id), "an id is granted twice");
    }
    assert!(export.headers != Headers::Simple || export.contexts.is_empty());
    assert!(export.headers != Headers::Extended || config.headers == Headers::Extended);
    assert!(!export.payload_status() || export.headers == Headers::Extended);
    let names = export.offered.iter().flatten().chain(&export.canonical_name).chain(&export.description);
    for name in names {
        assert!(name.len() <= 4096 && !name.contains('\0'), "{name:?}");
    }
    if let Some(sizes) = export.block_size {
        assert!(sizes.minimum().is_power_of_two() && sizes.minimum() <= 65536);
        assert!(sizes.preferred().is_power_of_two() && sizes.preferred() >= sizes.minimum());
        assert!(sizes.maximum() == u32::MAX || sizes.maximum() % sizes.minimum() == 0);
    }
}
