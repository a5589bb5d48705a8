//! Progress on stderr: a line on a terminal, or JSON for programs.

use core::time::Duration;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use nbd_client::copy::{CopyMonitor, CopyProgress};
use serde_json::json;

use crate::failure::Failure;
use crate::output::remark;
use crate::values::{human, parse_length};

/// How often a line of JSON is written.
const JSON_PERIOD: Duration = Duration::from_secs(1);
/// How often the line on a terminal changes.
const LINE_PERIOD: Duration = Duration::from_millis(200);

/// The copy whose progress is shown as JSON, from its first line to its last. It is reached from
/// everywhere that ends the program.
static SHOWN: Mutex<Option<CopyMonitor>> = Mutex::new(None);

fn shown<T>(look: impl FnOnce(&mut Option<CopyMonitor>) -> T) -> T {
    look(&mut SHOWN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The last object of a run that fails with this message, where progress is shown as JSON.
pub(crate) fn last_of_failure(message: &str) -> Option<String> {
    let monitor = shown(Option::take)?;
    let mut line = line(&monitor.progress(), None, false);
    line["error"] = json!(message);
    Some(line.to_string())
}

/// The options of the commands that move data.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Progress")]
pub(crate) struct ProgressArgs {
    /// The most bytes to copy in a second, such as 50M; zeroes do not count
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub(crate) limit_rate: Option<u64>,
    /// Show progress on stderr as lines of JSON, one a second
    ///
    /// Each object has, in bytes, the "size" of the disk, "planned_to", up to where the plan is
    /// known, "to_copy", an estimate until all is planned, "copied", "zeroed", which includes
    /// "zero_already", the zeroes that the target had, and "verified", the bytes read back; all but
    /// the last object also have "seconds", "rate" in bytes a second, and "seconds_left", which is
    /// null until it is known. The last object has "done": true, or "done": false and "error" if the
    /// run fails after its progress began.
    #[arg(long, value_name = "FORMAT")]
    progress: Option<ProgressFormat>,
    /// Show no progress and no summary; where stderr is no terminal there are none anyway
    #[arg(long, conflicts_with = "progress")]
    quiet: bool,
}

fn parse_rate(text: &str) -> Result<u64, String> {
    parse_length(text).map(core::num::NonZeroU64::get)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ProgressFormat {
    /// One object a line
    Json,
}

impl ProgressArgs {
    /// Reports the result on stderr: as the last line of JSON, or as a sentence on a terminal.
    pub(crate) fn summary(&self, done: &CopyProgress) {
        if self.progress.is_some() {
            shown(Option::take);
            let _ = writeln!(io::stderr().lock(), "{}", line(done, None, true));
        } else if !self.quiet && io::stderr().is_terminal() {
            let (copied, zeroed) = (human(done.copied), human(done.zeroed));
            let verified = match done.verified {
                0 => String::new(),
                bytes => format!(", {} read back and equal", human(bytes)),
            };
            remark(format_args!("{copied} copied, {zeroed} zero{verified}"));
        }
    }
}

/// Shows how far a copy is, until it is dropped.
pub(crate) struct Watch(Option<(Sender<()>, JoinHandle<()>)>);

impl Watch {
    /// Starts to report, if standard error is a terminal or `--progress` asks for it.
    pub(crate) fn begin(
        args: &ProgressArgs,
        what: &'static str,
        monitor: CopyMonitor,
    ) -> Result<Self, Failure> {
        let is_json = args.progress.is_some();
        if !is_json && (args.quiet || !io::stderr().is_terminal()) {
            return Ok(Self(None));
        }
        let (stop, stopped) = channel();
        let period = if is_json { JSON_PERIOD } else { LINE_PERIOD };
        if is_json {
            shown(|shown| *shown = Some(monitor.clone()));
        }
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let began = Instant::now();
            let bar = (!is_json).then(|| bar(what));
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                let now = monitor.progress();
                match &bar {
                    Some(bar) => {
                        bar.set_length(now.estimated_to_copy());
                        bar.set_position(now.copied);
                    }
                    None if shown(|shown| shown.is_none()) => break, // the program is about to end
                    // fails only where the reader has gone, who then misses nothing
                    None => {
                        drop(writeln!(io::stderr().lock(), "{}", line(&now, Some(began.elapsed()), false)))
                    }
                }
            }
            if let Some(bar) = bar {
                // the line goes before anything else is said
                bar.finish_and_clear();
            }
        });
        Ok(Self(Some((stop, thread.map_err(|error| Failure::other(error.to_string()))?))))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn line(now: &CopyProgress, elapsed: Option<Duration>, done: bool) -> serde_json::Value {
    let mut line = json!({
        "size": now.size, "planned_to": now.planned_to,
        "to_copy": now.estimated_to_copy(), "copied": now.copied,
        "zeroed": now.zeroed, "zero_already": now.zero_already, "verified": now.verified, "done": done,
    });
    if let Some(elapsed) = elapsed {
        let seconds = elapsed.as_secs_f64();
        let rate = now.copied as f64 / seconds.max(0.001);
        line["seconds"] = json!(seconds);
        line["rate"] = json!(rate.round());
        let rest = now.estimated_to_copy().saturating_sub(now.copied) as f64;
        line["seconds_left"] = if rate > 0.0 { json!((rest / rate).round()) } else { json!(null) };
    }
    line
}

/// The line on a terminal.
fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what);
    let template = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
