//! One thing that a hostile server does, and what a lenient and a strict client must make of it.

use core::time::Duration;
use std::io::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nbd_client::TlsOptions;
use serde_json::{Value, json};
use testkit::pki::{Identity, ServerConfig};
use testkit::scripted::{Conn, Good, Reaction, ScriptedServer, SeenOption, SeenRequest};

use super::observe::{Observer, Phase};
use super::{M, run};
use testkit::behaviour::{self, RowVerdict};

/// Enough for a busy machine; runs that are meant to wait for their deadline have a shorter one.
const LONG: Duration = Duration::from_secs(30);

type Reply = dyn Fn(&mut Conn, &SeenRequest) -> Result<()> + Send + Sync;

/// See the module. Built by [`replies`](Case::replies), [`options`](Case::options) or
/// [`script`](Case::script), and done by [`check`](Case::check).
pub(crate) struct Case {
    server: ScriptedServer,
    /// The same server over TLS, where the fault comes after the hello.
    over_tls: Option<ScriptedServer>,
    /// From now on the server answers requests as it should.
    honest: Arc<AtomicBool>,
    phase: Phase,
    bitmaps: Vec<&'static str>,
    length: Option<u64>,
    map: Vec<Value>,
    exit: i32,
    says: &'static str,
    timeout: Duration,
}

impl Case {
    /// A server whose replies are the fault; the handshake is good.
    pub(crate) fn replies(
        good: Good,
        reply: impl Fn(&mut Conn, &SeenRequest) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Phase::Replies, good, |_, _| Ok(Reaction::Honest), reply)
    }

    /// A server whose answers to options are the fault.
    pub(crate) fn options(
        good: Good,
        special: impl Fn(&mut Conn, &SeenOption) -> Result<Reaction> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Phase::Handshake, good, special, |conn, request| conn.honest(request, 0))
    }

    /// Both.
    pub(crate) fn both(
        good: Good,
        special: impl Fn(&mut Conn, &SeenOption) -> Result<Reaction> + Send + Sync + 'static,
        reply: impl Fn(&mut Conn, &SeenRequest) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Phase::Handshake, good, special, reply)
    }

    /// A server that does not even say hello as it should.
    pub(crate) fn script(script: impl Fn(&mut Conn) -> Result<()> + Send + Sync + 'static) -> Self {
        let server = ScriptedServer::start(script).expect("start the server");
        Self::with(server, None, Phase::Handshake, Arc::default())
    }

    fn new(
        phase: Phase,
        good: Good,
        special: impl Fn(&mut Conn, &SeenOption) -> Result<Reaction> + Send + Sync + 'static,
        reply: impl Fn(&mut Conn, &SeenRequest) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let honest = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&honest);
        let reply: Arc<Reply> = Arc::new(reply);
        let script = Arc::new(move |conn: &mut Conn| {
            conn.handshake_with(&good, &special)?;
            conn.serve(|conn, request| {
                if switch.load(Ordering::SeqCst) { conn.honest(request, 0) } else { reply(conn, request) }
            })
        });
        let same = Arc::clone(&script);
        let server = ScriptedServer::start(move |conn| script(conn)).expect("start the server");
        let options = TlsOptions::new().verify_peer(false);
        let over_tls = ScriptedServer::start_tls(tls(), options, move |conn| same(conn));
        Self::with(server, Some(over_tls.expect("start the server")), phase, honest)
    }

    fn with(
        server: ScriptedServer,
        over_tls: Option<ScriptedServer>,
        phase: Phase,
        honest: Arc<AtomicBool>,
    ) -> Self {
        Self {
            server,
            over_tls,
            honest,
            phase,
            bitmaps: Vec::new(),
            length: None,
            map: vec![content(0, 4 * M, false)],
            exit: 5,
            says: "",
            timeout: LONG,
        }
    }

    /// The client asks for this bitmap.
    pub(crate) fn bitmap(mut self, name: &'static str) -> Self {
        self.bitmaps.push(name);
        self
    }

    /// The client asks about this number of bytes only.
    pub(crate) fn length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    /// The map that comes out where one does: 4 MiB of data, unless changed.
    pub(crate) fn prints(mut self, map: impl Into<Vec<Value>>) -> Self {
        self.map = map.into();
        self
    }

    /// The exit code where no map comes out: 5, unless changed.
    pub(crate) fn exits(mut self, code: i32) -> Self {
        self.exit = code;
        self
    }

    /// Words of the line on stderr where no map comes out.
    pub(crate) fn says(mut self, words: &'static str) -> Self {
        self.says = words;
        self
    }

    /// The deadline is part of the case: it is short, and it is what ends the run.
    pub(crate) fn waits(mut self) -> Self {
        self.timeout = Duration::from_secs(1);
        self.exit = 4;
        self
    }

    /// Runs the program and the library against the server, lenient and strict, and holds both
    /// against this row of SERVER-BEHAVIOUR.md; then the same over TLS.
    #[track_caller]
    pub(crate) fn check(self, row: &str) {
        let number = row.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let (lenient, strict) = behaviour::words(row);
        self.check_words(number.parse().ok(), lenient, strict);
    }

    /// As [`Self::check`], for a case of which the table has no row.
    #[track_caller]
    pub(crate) fn is(self, lenient: RowVerdict, strict: RowVerdict) {
        self.check_words(None, lenient, strict);
    }

    #[track_caller]
    fn check_words(self, row: Option<u8>, lenient: RowVerdict, strict: RowVerdict) {
        for server in [Some(&self.server), self.over_tls.as_ref()].into_iter().flatten() {
            let uri = server.uri();
            for (word, strict) in [(lenient, false), (strict, true)] {
                self.check_program(&uri, word, strict);
                let seen = self.observer(&uri, strict).word(row);
                assert_eq!(seen, word, "what the library did, strict: {strict}, {uri}");
            }
        }
    }

    #[track_caller]
    fn check_program(&self, uri: &str, word: RowVerdict, strict: bool) {
        self.honest.store(false, Ordering::SeqCst);
        let length = self.length.map(|length| length.to_string());
        let mut arguments = vec![uri, "--json"];
        arguments.extend(strict.then_some("--strict"));
        arguments.extend(self.bitmaps.iter().flat_map(|name| ["--bitmap", name]));
        arguments.extend(length.iter().flat_map(|length| ["--length", length.as_str()]));
        let run = run::map(&arguments, self.timeout);
        if word.passes() {
            run.prints(&self.map);
        } else {
            run.fails(self.exit, self.says);
        }
    }

    fn observer(&self, uri: &str, strict: bool) -> Observer<'_> {
        Observer {
            uri: uri.to_owned(),
            honest: &self.honest,
            phase: self.phase,
            bitmaps: &self.bitmaps,
            length: self.length,
            timeout: self.timeout,
            strict,
        }
    }
}

/// One certificate for all servers of a test; nobody verifies it.
fn tls() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| Identity::self_signed("hostile", &["localhost"], |_| {}).server(None)))
}

/// An extent as the program prints it without a bitmap.
pub(crate) fn content(start: u64, length: u64, zero: bool) -> Value {
    json!({"start": start, "length": length, "zero": zero, "hole": false})
}

/// An extent as the program prints it with one.
pub(crate) fn change(start: u64, length: u64, dirty: bool, zero: bool) -> Value {
    json!({"start": start, "length": length, "dirty": dirty, "zero": zero})
}
