//! The demo's story as it is told: a line a step, figures at the end.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::say;

/// What has been shown so far.
#[derive(Default)]
pub struct Report {
    figures: Vec<(String, String)>,
    passed: usize,
    skipped: Vec<String>,
}

impl Report {
    /// A new chapter.
    pub fn chapter(&self, title: &str) {
        say::line(format!("\n{}", say::bold(title)));
    }

    /// Runs a step and says how long it took, with what it found.
    ///
    /// # Errors
    /// The step's own, after saying that it failed.
    pub async fn step<T>(
        &mut self,
        title: &str,
        work: impl Future<Output = Result<(T, String)>>,
    ) -> Result<T> {
        let spinner = spinner(title);
        let started = Instant::now();
        let outcome = work.await;
        spinner.finish_and_clear();
        let took = seconds(started.elapsed());
        match outcome {
            Ok((value, found)) => {
                self.passed += 1;
                say::line(format!("  ok   {took:>8}  {title}"));
                for line in found.lines() {
                    say::line(format!("                   {line}"));
                }
                Ok(value)
            }
            Err(error) => {
                say::line(format!("  FAIL {took:>8}  {title}: {error:#}"));
                Err(error)
            }
        }
    }

    /// Something this machine cannot show.
    pub fn skip(&mut self, what: &str, why: &str) {
        say::line(format!("  skip           {what}: {why}"));
        self.skipped.push(what.to_owned());
    }

    /// A figure for the end.
    pub fn figure(&mut self, name: impl Into<String>, value: impl Display) {
        self.figures.push((name.into(), value.to_string()));
    }

    /// The end.
    pub fn finish(&self) {
        say::line(format!("\n{}", say::bold("Figures")));
        for (name, value) in &self.figures {
            say::line(format!("  {name:<58} {value}"));
        }
        let skipped = match self.skipped.len() {
            0 => String::new(),
            n => format!(", {n} skipped ({})", self.skipped.join("; ")),
        };
        say::line(format!("\n{} steps passed{skipped}.", self.passed));
    }
}

/// A duration as people read it.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{:.0} ms", duration.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

fn spinner(title: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner}    {elapsed:>8}  {msg}") {
        spinner.set_style(style);
    }
    spinner.set_message(title.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
