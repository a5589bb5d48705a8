//! Progress on stderr, when that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// How far a job of known size is.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins a job that moves `total` bytes. On anything but a terminal nothing is shown.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_message(what);
        let template = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Counts more bytes as moved.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    /// The line goes before anything else is said.
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
