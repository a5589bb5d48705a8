//! Handshakes that go wrong in ways that have no row in SERVER-BEHAVIOUR.md of their own: other
//! protocols, refusals of every kind, sizes at the edges. What it has of the handshake is in
//! `server_behaviour_options.rs`.
#![cfg(target_os = "linux")]

mod hostile;

use std::time::Duration;

use hostile::run::map;
use hostile::{Accept, Case, Fatal, M, RowVerdict, content};
use nbd_client::Options;
use nbd_client::frame::Headers;
use nbd_client::handshake::{Handshake, HandshakeConfig, HandshakeError, HandshakeLimits, HandshakeStatus};
use testkit::clients::Kind;
use testkit::scripted::{Conn, DONE, Good, Reaction, ScriptedServer, bytes};

const GO: u32 = 7;
const LIST: u32 = 9;
const SET: u32 = 10;
const ACK: u32 = 1;
const INFO: u32 = 3;
const META: u32 = 4;
const TIME: Duration = Duration::from_secs(30);

/// A server that says this and nothing else, whatever comes.
fn says(words: Vec<u8>) -> Case {
    Case::script(move |conn| {
        conn.send(&words)?;
        conn.stall()
    })
}

#[test]
fn hello_of_ssh() {
    says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n".to_vec())
        .says("it says \"SSH-2.0-\"")
        .is(Fatal, Fatal);
}

#[test]
fn hello_of_control_characters() {
    says(b"\x1b]0;\x07\r\n\0\xff".to_vec()).says("not an NBD server").is(Fatal, Fatal);
}

#[test]
fn hello_of_http_and_then_the_end() {
    Case::script(|conn| conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")).says("HTTP/1.1").is(Fatal, Fatal);
}

#[test]
fn hello_without_end() {
    Case::script(|conn| conn.send_for_ever(&[b'A'; 1 << 16])).says("AAAAAAAA").is(Fatal, Fatal);
}

#[test]
fn hello_that_is_cut_anywhere() {
    let hello = bytes::hello(3);
    for count in [0, 1, 8, 17] {
        let cut = hello[..count].to_vec();
        Case::script(move |conn| conn.send(&cut)).exits(4).says("connection lost").is(Fatal, Fatal);
    }
}

#[test]
fn oldstyle() {
    let mut words = b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53".to_vec();
    words.extend(4096_u64.to_be_bytes());
    words.extend([0; 128]);
    says(words).says("oldstyle").is(Fatal, Fatal);
}

#[test]
fn newstyle_that_is_not_fixed_or_not_known() {
    says(bytes::hello(2)).says("fixed newstyle").is(Fatal, Fatal);
    says(b"NBDMAGICIHAVEOPS\0\x03".to_vec()).says("unknown NBD handshake").is(Fatal, Fatal);
}

/// Unknown handshake flags are ignored, and never sent back.
#[test]
fn unknown_handshake_flags() {
    let server = ScriptedServer::start(|conn| {
        conn.send(&bytes::hello(0xffff))?;
        assert_eq!(conn.read(4)?, [0, 0, 0, 3]);
        conn.stall()
    });
    map(&[&server.unwrap().uri(), "--json"], Duration::from_secs(1)).fails(4, "during the handshake");
}

/// The exit code of the program for each error of each option.
fn code_of_refusal(option: u32, error: u32) -> i32 {
    match (option, error) {
        (_, 7) => 5,         // shutting down, at any time
        (11 | LIST, _) => 0, // there is another way
        (SET | GO, 5) => 4,  // it demands TLS
        (8, _) => 3,         // no structured replies, so no context
        (SET | GO, 6) => 3,  // no such export
        (SET, 1) => 3,       // no contexts at all
        (GO, 1) => 0,        // there is EXPORT_NAME
        _ => 5,
    }
}

/// Every option, refused for every reason that there is, and for some that there are not.
#[test]
fn every_option_refused() {
    for option in [11, 8, SET, LIST, GO] {
        for error in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x1234, 0x7fff_ffff] {
            let good = if option == 11 { Good::extended() } else { Good::compact() };
            let server = ScriptedServer::start(move |conn| {
                conn.handshake_with(&good, |conn, seen| {
                    if seen.number != option {
                        return Ok(Reaction::Honest);
                    }
                    conn.refuse(option, 1 << 31 | error, "\x1b[31mno\r\n\u{202e}")?;
                    Ok(Reaction::Answered)
                })?;
                conn.serve(|conn, request| conn.honest(request, 0))
            });
            let run = map(&[&server.unwrap().uri(), "--json"], TIME);
            match code_of_refusal(option, error) {
                0 => run.prints(&[content(0, 4 * M, false)]),
                code => run.fails(code, ""),
            }
        }
    }
}

/// One option answered in a way that makes no sense.
fn at(option: u32, words: Vec<u8>) -> Case {
    Case::options(Good::extended(), move |conn, seen| {
        if seen.number != option {
            return Ok(Reaction::Honest);
        }
        conn.send(&words)?;
        Ok(Reaction::Answered)
    })
}

#[test]
fn replies_with_another_magic_or_to_another_option() {
    for option in [11, SET, GO] {
        let mut magic = bytes::option_reply(option, ACK, &[]);
        magic[7] ^= 1;
        at(option, magic).says("bad magic").is(Fatal, Fatal);
        at(option, bytes::option_reply(3, ACK, &[])).says("got one to LIST").is(Fatal, Fatal);
    }
}

#[test]
fn replies_of_another_kind() {
    for (option, kind) in [(11, INFO), (SET, INFO), (GO, META), (GO, 2), (SET, 0x7fff_ffff)] {
        at(option, bytes::option_reply(option, kind, b"\0\0\0\0ab"))
            .says("unexpected reply")
            .is(Fatal, Fatal);
    }
}

#[test]
fn information_of_a_wrong_length_or_twice() {
    let info = |payload: &[u8]| bytes::option_reply(GO, INFO, payload);
    for payload in [&b""[..], b"\0", b"\0\0", b"\0\0\0\0\0\0\0\0\x10\0\0", b"\0\x03\0\0\0\x01"] {
        at(GO, info(payload)).says("wrong length").is(Fatal, Fatal);
    }
    let export = info(&bytes::export_info(4 * M, 3));
    at(GO, [&export[..], &export].concat()).says("described twice").is(Fatal, Fatal);
}

/// A description of control characters is shown escaped; for one that is no text see row 70.
#[test]
fn names_and_descriptions_of_the_export() {
    for kind in [1_u8, 2] {
        let reply = move |text: &[u8]| bytes::option_reply(GO, INFO, &[&[0, kind], text].concat());
        let server = ScriptedServer::start(move |conn: &mut Conn| {
            conn.handshake_with(&Good::compact(), |conn, seen| {
                if seen.number == GO {
                    conn.send(&reply("\x1b[2J\u{202e}\r\ndisk\u{9b}".as_bytes()))?;
                }
                Ok(Reaction::Honest)
            })?;
            conn.stall()
        });
        let uri = server.as_ref().unwrap().uri();
        let lines = |more: &[&str]| {
            let run = hostile::run::run("info", &[&[uri.as_str()], more].concat(), TIME);
            assert_eq!(run.code, Some(0), "{run}");
            run.stdout.lines().count()
        };
        assert_eq!(lines(&["--json"]), 1);
        assert_eq!(lines(&["--json", "--strict"]), 1);
        // A line for the export, its size, block sizes, flags, headers, TLS and one context; and
        // one for its description.
        assert_eq!(lines(&[]), if kind == 2 { 8 } else { 7 });
    }
}

#[test]
fn contexts_then_an_error_in_a_list() {
    Case::options(Good::compact(), |conn, seen| {
        if seen.number != LIST {
            return Ok(Reaction::Honest);
        }
        conn.grant(LIST, 0, b"x:y")?;
        conn.refuse(LIST, 0x8000_0009, "")?;
        Ok(Reaction::Answered)
    })
    .is(Accept, Accept);
}

/// A context that is missing is named, with what there is instead: escaped, and not all of it if
/// that is much.
#[test]
fn a_list_of_hostile_names() {
    let server = ScriptedServer::start(|conn: &mut Conn| {
        conn.handshake_with(&Good::compact(), |conn, seen| {
            match seen.number {
                SET => {}
                LIST => (0..500)
                    .try_for_each(|nth| conn.grant(LIST, 0, format!("x:\x1b[{nth}m\n\u{202e}").as_bytes()))?,
                _ => return Ok(Reaction::Honest),
            }
            conn.ack(seen.number)?;
            Ok(Reaction::Answered)
        })
    });
    let run = map(&[&server.unwrap().uri(), "--json"], TIME);
    run.fails(3, "no meta context \"base:allocation\"; it has x:");
    assert!(run.stderr.len() < 1000, "{run}");
}

/// EXPORT_NAME has no errors: a server that lacks the export just closes.
#[test]
fn export_name_and_then_the_end() {
    Case::options(Good::compact(), |conn, seen| match seen.number {
        GO => conn.refuse(GO, 0x8000_0001, "").map(|()| Reaction::Answered),
        1 => conn.send(&[0; 4]).and_then(|()| Err(std::io::ErrorKind::Other.into())),
        _ => Ok(Reaction::Honest),
    })
    .exits(4)
    .says("there may be no such export")
    .is(Fatal, Fatal);
}

/// A handshake that is cut at any byte is a lost connection. The first cut beyond its end, some 150
/// bytes on, leaves it whole.
#[test]
fn cut_at_every_byte() {
    let script = |cut| {
        ScriptedServer::start(move |conn| {
            conn.cut_after(cut);
            conn.handshake(&Good::extended().block_sizes([1, 4096, 1 << 25]))?;
            conn.stall()
        })
    };
    let options = Options::new().require_context("base:allocation");
    for kind in Kind::WITH_EVENTS {
        for cut in 0.. {
            let server = script(cut).unwrap();
            match kind.connect(&server.uri().parse().unwrap(), &options) {
                Err(nbd_client::Error::ConnectionLost(eof)) => {
                    assert!(eof.got < eof.expected, "{kind:?}, {cut}: {eof}");
                }
                Err(other) => panic!("{kind:?}, {cut}: {other}"),
                Ok(client) => {
                    assert_eq!((client.export().size(), cut > 150), (4 * M, true));
                    break;
                }
            }
        }
    }
}

/// The sizes at the edges. From 2^63 on there is no such file.
#[test]
fn sizes() {
    for size in [0, 1, 511, 512, 1000, (1 << 63) - 512, (1 << 63) - 1, 1 << 63, u64::MAX] {
        let word: RowVerdict = if size < 1 << 63 { Accept } else { Fatal };
        let map = if size == 0 { Vec::new() } else { vec![content(0, size, true)] };
        for good in [Good::extended(), Good::compact()] {
            if good.headers == Headers::Structured && size > 1 << 32 {
                continue; // 2^32 requests: see row 64
            }
            let case = Case::both(
                good.size(size),
                |_, _| Ok(Reaction::Honest),
                move |conn, request| conn.status(request, 0, &[(size - request.offset, 2)], DONE),
            );
            case.prints(map.clone()).says("the most is 9223372036854775807").is(word, word);
        }
    }
}

/// A bitmap-first survey opens one connection for the bitmaps and one for the rest. They have to be
/// about the same disk.
#[test]
fn two_connections_that_disagree_about_the_size() {
    let server = ScriptedServer::start(|conn| {
        let size = if conn.number() % 3 == 2 { 8 * M } else { 4 * M };
        conn.handshake(&Good::compact().size(size).context(2, "qemu:dirty-bitmap:b0"))?;
        conn.serve(|conn, request| conn.honest(request, 0))
    });
    let uri = server.as_ref().unwrap().uri();
    map(&[&uri, "--json", "--bitmap", "b0", "--bitmap-first"], TIME).fails(5, "disagree about its size");
}

/// Bytes after the answer to STARTTLS were not encrypted by the server that was asked: somebody put
/// them there, in one piece with the answer or in a later one.
#[test]
fn bytes_after_the_answer_to_starttls() {
    let answer = [bytes::hello(3), bytes::option_reply(5, ACK, &[])].concat();
    let planted = bytes::option_reply(11, ACK, &[]);
    for together in [true, false] {
        let mut config = HandshakeConfig::new("disk");
        config.start_tls = true;
        let mut handshake = Handshake::new(config).unwrap();
        let fed = if together {
            handshake.feed(&[&answer[..], &planted].concat())
        } else {
            assert_eq!(handshake.feed(&answer).unwrap(), answer.len());
            assert_eq!(handshake.status(), HandshakeStatus::NeedsTls);
            handshake.feed(&planted)
        };
        let attack = HandshakeError::BytesAfterStartTls(planted.len());
        assert_eq!(fed, Err(attack.clone()));
        handshake.tls_started();
        assert_eq!(handshake.feed(&planted), Err(attack), "it does not go on");
    }
}

/// The limits are the caller's to set, and each is judged by a header alone.
#[test]
fn limits_of_the_caller() {
    let mut limits = HandshakeLimits::default();
    (limits.reply_bytes, limits.replies, limits.total_bytes) = (64, 3, 300);
    let server = |text: &'static str, replies: u32| {
        ScriptedServer::start(move |conn: &mut Conn| {
            conn.handshake_with(&Good::compact(), |conn, seen| {
                if seen.number == GO {
                    (0..replies).try_for_each(|_| {
                        conn.send(&bytes::option_reply(GO, INFO, &[b"\x12\x34", text.as_bytes()].concat()))
                    })?;
                }
                Ok(Reaction::Honest)
            })?;
            conn.stall()
        })
        .unwrap()
    };
    let long = "x".repeat(63).leak();
    for kind in Kind::WITH_EVENTS {
        let connect = |server: &ScriptedServer| {
            let options = Options::new().handshake_limits(limits);
            kind.connect(&server.uri().parse().unwrap(), &options).map(|client| client.export().size())
        };
        let error = |text, replies| connect(&server(text, replies)).unwrap_err().to_string();
        assert_eq!(connect(&server("x", 1)).unwrap(), 4 * M);
        assert_eq!(error(long, 1), "reply to GO claims 65 bytes, the limit is 64");
        assert_eq!(error("x", 2), "more than 3 replies to GO");
    }
    limits_in_all(limits);
}

/// The bytes of the whole handshake, counted over all options.
fn limits_in_all(mut limits: HandshakeLimits) {
    limits.total_bytes = 100;
    let server = ScriptedServer::start(|conn| conn.handshake(&Good::compact())).unwrap();
    let options = Options::new().handshake_limits(limits).require_context("base:allocation");
    for kind in Kind::WITH_EVENTS {
        let error = kind.connect(&server.uri().parse().unwrap(), &options).unwrap_err();
        assert_eq!(error.to_string(), "a handshake of more than 100 bytes");
    }
}
