//! Progress bars on a terminal, *the only file that names `indicatif`*.

use std::collections::BTreeMap;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use volsync_contract::{Phase, Progress};

use crate::words;

/// The moving part of a terminal, below the lines that stay. Draws nothing without a terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    bars: MultiProgress,
    shown: BTreeMap<String, Bar>,
    terminal: bool,
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    since: Instant,
}

impl Screen {
    pub(crate) fn new(terminal: bool) -> Self {
        Self { bars: MultiProgress::new(), shown: BTreeMap::new(), terminal }
    }

    /// Prints a line above the bars, on standard error.
    pub(crate) fn line(&self, text: &str) {
        if self.terminal && self.bars.println(text).is_ok() {
            return;
        }
        crate::output::to_stderr(text);
    }

    /// Does something that prints elsewhere, with the bars out of the way.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        if self.terminal { self.bars.suspend(print) } else { print() }
    }

    /// Shows how far a replication has come.
    pub(crate) fn show(&mut self, name: &str, progress: &Progress) {
        if !self.terminal {
            return;
        }
        let bars = &self.bars;
        let shown = self.shown.entry(name.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(1));
            // Without a style of ours the plain one is as true.
            if let Ok(style) = ProgressStyle::with_template("{prefix}   {msg}   {bar:24}") {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar.set_prefix(name.to_owned());
            Bar { bar, since: Instant::now() }
        });
        let seconds = shown.since.elapsed().as_secs_f64();
        shown.bar.set_length(progress.bytes_total.max(1));
        shown.bar.set_position(progress.bytes_done.min(progress.bytes_total));
        shown.bar.set_message(told(progress, seconds));
    }

    /// Takes a replication off.
    pub(crate) fn hide(&mut self, name: &str) {
        if let Some(Bar { bar, .. }) = self.shown.remove(name) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }
}

/// What is known after so many seconds, in one line. A total still growing is marked with `+`.
fn told(progress: &Progress, seconds: f64) -> String {
    let &Progress {
        phase,
        files_compared,
        files_total,
        bytes_done,
        bytes_total,
        wire_bytes: _,
        total_known,
    } = progress;
    match phase {
        Phase::Connecting => return "connecting".to_owned(),
        Phase::Deleting => return "deleting".to_owned(),
        Phase::Finishing => return "finishing".to_owned(),
        Phase::Transferring => {}
    }
    let more = if total_known { "" } else { "+" };
    let mut text = format!(
        "{} / {}{more} files   {} / {}{more}",
        words::count(files_compared),
        words::count(files_total),
        words::bytes(bytes_done),
        words::bytes(bytes_total),
    );
    if seconds > 0.5 && bytes_done > 0 {
        let rate = bytes_done as f64 / seconds;
        text.push_str(&format!("   {}/s", words::bytes(rate as u64)));
        if total_known && bytes_total > bytes_done {
            text.push_str(&format!(
                "   {} left",
                words::duration((bytes_total - bytes_done) as f64 / rate)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_are_shown_once_they_are_known() {
        let mut progress = Progress {
            phase: Phase::Transferring,
            files_compared: 41_208,
            files_total: 83_731,
            bytes_done: 612 << 20,
            bytes_total: 1 << 30,
            wire_bytes: 0,
            total_known: true,
        };
        assert_eq!(
            told(&progress, 2.0),
            "41 208 / 83 731 files   612 MiB / 1.0 GiB   306 MiB/s   1.3 s left"
        );
        progress.total_known = false;
        assert_eq!(told(&progress, 0.1), "41 208 / 83 731+ files   612 MiB / 1.0 GiB+");
    }
}
