//! Runs `wrk` and reads what it found.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One run of the load generator.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// What to ask.
    pub url: String,
    /// Threads of the generator.
    pub threads: u32,
    /// Connections kept open.
    pub connections: u32,
    /// How long.
    pub seconds: u32,
    /// Headers of each request.
    pub headers: Vec<String>,
    /// The network namespace that it runs in; `None` for this one.
    pub inside: Option<PathBuf>,
    /// A script that makes the requests.
    pub script: Option<PathBuf>,
    /// Environment of the script.
    pub environment: Vec<(&'static str, String)>,
}

/// What it found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Answers a second.
    pub rate: f64,
    /// Median latency, as wrk prints it.
    pub median: String,
    /// 99th percentile.
    pub high: String,
}

impl Found {
    /// Of several runs the median rate, the median of the medians and that of the 99th percentiles.
    ///
    /// # Errors
    /// When there is none, or wrk said a time that is none.
    pub fn median(runs: &[Self]) -> Result<Self> {
        let mut rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
        rates.sort_by(f64::total_cmp);
        let middle = |times: &mut dyn Iterator<Item = &String>| {
            let mut times =
                times.map(|time| Ok((seconds(time)?, time.clone()))).collect::<Result<Vec<_>>>()?;
            times.sort_by(|one, other| one.0.total_cmp(&other.0));
            times.get(times.len() / 2).map(|(_, time)| time.clone()).context("no run")
        };
        Ok(Self {
            rate: *rates.get(rates.len() / 2).context("no run")?,
            median: middle(&mut runs.iter().map(|run| &run.median))?,
            high: middle(&mut runs.iter().map(|run| &run.high))?,
        })
    }
}

/// A time as wrk prints it.
fn seconds(time: &str) -> Result<f64> {
    let unit = time.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = time[..time.len() - unit.len()].parse().with_context(|| format!("a time: {time}"))?;
    match unit {
        "us" => Ok(number / 1e6),
        "ms" => Ok(number / 1e3),
        "s" => Ok(number),
        _ => bail!("a time: {time}"),
    }
}

impl Load {
    /// Runs it.
    ///
    /// # Errors
    /// When wrk cannot run, or any answer was not a success.
    pub fn run(&self) -> Result<Found> {
        let mut command = match &self.inside {
            None => Command::new("wrk"),
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", namespace.display())).arg("wrk");
                command
            }
        };
        command.args(["--latency", &format!("-t{}", self.threads), &format!("-c{}", self.connections)]);
        command.arg(format!("-d{}s", self.seconds));
        for header in &self.headers {
            command.args(["-H", header]);
        }
        if let Some(script) = &self.script {
            command.arg("-s").arg(script);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).arg(&self.url);
        let output = command.output().context("running wrk (`cargo xtask tools` installs it)")?;
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() || !errors.is_empty() || text.contains("Non-2xx") {
            bail!("{}: {text}{errors}", self.url);
        }
        let after = |label: &str| {
            let line = text.lines().find(|l| l.trim_start().starts_with(label))?;
            Some(line.trim_start()[label.len()..].trim().to_owned())
        };
        let rate = after("Requests/sec:")
            .and_then(|r| r.parse().ok())
            .with_context(|| format!("no rate in {text}"))?;
        Ok(Found { rate, median: after("50%").unwrap_or_default(), high: after("99%").unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_each_figure_is_taken() {
        let run =
            |rate, median: &str, high: &str| Found { rate, median: median.to_owned(), high: high.to_owned() };
        let runs = [run(3.0, "900.00us", "1.10ms"), run(1.0, "1.00ms", "1.00s"), run(2.0, "0.95ms", "999us")];
        let found = Found::median(&runs).unwrap();
        assert_eq!((found.rate, found.median.as_str(), found.high.as_str()), (2.0, "0.95ms", "1.10ms"));
        assert!(Found::median(&[]).is_err() && Found::median(&[run(1.0, "1ns", "1ms")]).is_err());
    }
}
