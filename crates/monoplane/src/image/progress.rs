//! How far a pull or push is: bars on a terminal, a line a blob elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use images::{Digest, Progress, Step};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::say;

/// A bar for each blob, or nothing but words.
pub struct Bars {
    terminal: bool,
    all: MultiProgress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    /// None yet.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), all: MultiProgress::new(), bars: Mutex::default() }
    }

    /// Nothing more comes.
    pub fn done(&self) {
        for bar in self.bars.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.abandon();
        }
    }

    fn draw(&self, digest: Digest, size: u64, step: Step) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(digest).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(size));
            let style =
                ProgressStyle::with_template("{prefix} {msg:10} [{bar:30}] {bytes:>10} of {total_bytes}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_prefix(short(digest));
            bar
        });
        bar.set_position(match step {
            Step::Fetching(done) | Step::Sending(done) => done,
            Step::Exists | Step::Fetched | Step::Unpacked | Step::Sent => size,
        });
        bar.set_message(word(step));
    }
}

impl Progress for Bars {
    fn blob(&self, digest: Digest, size: u64, step: Step) {
        match step {
            _ if self.terminal => self.draw(digest, size, step),
            Step::Fetching(_) | Step::Sending(_) => {}
            _ => say::note(format!("{} {}", short(digest), word(step))),
        }
    }
}

fn short(digest: Digest) -> String {
    digest.hex().chars().take(12).collect()
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Exists => "there",
        Step::Fetching(_) => "fetching",
        Step::Fetched => "fetched",
        Step::Unpacked => "unpacked",
        Step::Sending(_) => "sending",
        Step::Sent => "sent",
    }
}
