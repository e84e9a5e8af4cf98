//! What the kernel counts of this process, under the names that every Prometheus client gives it.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::{Kind, Page};

/// Writes it on the page. What the kernel does not say is left out.
pub fn process(page: &mut Page) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    if let Some(own) = Own::parse(&stat) {
        page.family("process_cpu_seconds_total", Kind::Counter, "CPU time of the process.");
        page.sample(&[], own.cpu);
        page.family("process_virtual_memory_bytes", Kind::Gauge, "Address space of the process.");
        page.sample(&[], own.virtual_memory);
        page.family("process_resident_memory_bytes", Kind::Gauge, "Memory of the process.");
        page.sample(&[], own.resident_memory);
        if let Some(booted) =
            boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok())
        {
            page.family(
                "process_start_time_seconds",
                Kind::Gauge,
                "When the process began, since the Unix epoch.",
            );
            page.sample(&[], booted + own.began);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.family("process_open_fds", Kind::Gauge, "Open files of the process.");
        page.sample(&[], open.count());
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.family("process_max_fds", Kind::Gauge, "Files that the process may have open.");
        page.sample(&[], most);
    }
}

struct Own {
    /// Seconds.
    cpu: f64,
    /// Seconds after the machine.
    began: f64,
    virtual_memory: u64,
    resident_memory: u64,
}

impl Own {
    /// Reads `/proc/PID/stat`. The name in its second field may have anything in it.
    #[allow(clippy::cast_precision_loss)]
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first of these is the third of all.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        Some(Self {
            cpu: seconds(number(14)? + number(15)?),
            began: seconds(number(22)?),
            virtual_memory: number(23)?,
            resident_memory: number(24)? * page_size() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let mut page = Page::default();
        process(&mut page);
        let text = page.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.split(' ').nth(1).unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_start_time_seconds") > 1.6e9);
        assert!(Own::parse("1 (a) b) S 1 2").is_none());
    }
}
