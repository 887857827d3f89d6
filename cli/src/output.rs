//! What the user sees: results on standard output, progress and failures on standard error.

use crate::exit::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use node::Progress;
use serde::Serialize;
use std::io::Write as _;

/// A moment in UTC as RFC 3339 writes it; the bare seconds for one no calendar has.
pub(crate) fn utc(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

/// Text or JSON.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Output { json }
    }

    /// Whether a JSON document is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of text; nothing when JSON is wanted.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        if !self.json {
            self.print(line.as_ref());
        }
    }

    /// The result: as JSON, or in the words given.
    pub(crate) fn result(&self, value: &impl Serialize, words: impl FnOnce() -> String) {
        if self.json {
            match serde_json::to_string_pretty(value) {
                Ok(text) => self.print(&text),
                Err(error) => tracing::error!(%error, "the result cannot be written as JSON"),
            }
        } else {
            self.print(&words());
        }
    }

    /// A line on standard output whatever was asked for.
    #[expect(clippy::unused_self, reason = "everything printed goes through here")]
    pub(crate) fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that went away (head, less) is no failure.
        let _closed = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// A line beside the result, on standard error.
    #[expect(clippy::unused_self, reason = "everything printed goes through here")]
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        let _closed = writeln!(std::io::stderr().lock(), "{}", line.as_ref());
    }

    /// A failure with its next step.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut out = std::io::stderr().lock();
        let _closed = if self.json {
            let document = serde_json::json!({
                "error": failure.code, "message": failure.message, "next_step": failure.next_step(),
                "exit": failure.exit().number(), "said": failure.said,
            });
            writeln!(out, "{document}")
        } else {
            let polish = failure.said.as_ref().map(|said| format!("\n   pl: {}", said.pl)).unwrap_or_default();
            writeln!(out, "error: {failure}{polish}\n next: {} [{}]", failure.next_step(), failure.code)
        };
    }

    /// A progress bar with rate and time left; none when JSON is wanted or nobody watches.
    pub(crate) fn progress(&self, what: &'static str, bytes: bool) -> impl Fn(Progress) + Send + Sync + use<> {
        let bar = if self.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let template = if bytes {
            "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left"
        } else {
            "{msg} {wide_bar} {pos}/{len} {per_sec}, {eta} left"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        move |progress: Progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            if progress.done >= progress.total {
                bar.finish_and_clear();
            }
        }
    }
}
