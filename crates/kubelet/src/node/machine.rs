//! What the machine is.

use std::collections::BTreeMap;
use std::path::Path;

/// Facts about the machine that its Node tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that pods may use, in thousandths.
    pub milli_cpus: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of the file system that volumes and logs are on; 0: not known.
    pub storage: i64,
    /// Bytes of huge pages, by their size in bytes.
    pub huge_pages: BTreeMap<i64, i64>,
    /// Kernel release.
    pub kernel: String,
    /// The operating system, as people call it.
    pub os_image: String,
    /// The installation's id.
    pub machine_id: String,
    /// The hardware's id.
    pub system_uuid: String,
    /// This boot's id.
    pub boot_id: String,
    /// As Go calls it (`amd64`).
    pub architecture: String,
    /// Whether the kernel enforces AppArmor profiles.
    pub apparmor: bool,
}

impl Machine {
    /// Reads them. What cannot be read stays empty.
    pub fn read() -> Self {
        let text = |path: &str| {
            std::fs::read_to_string(Path::new(path)).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
        let machine_id = text("/etc/machine-id");
        let uuid = text("/sys/class/dmi/id/product_uuid").to_lowercase();
        Self {
            milli_cpus: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory: memory(&text("/proc/meminfo")),
            storage: 0,
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: os_image(&text("/etc/os-release")),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            architecture: architecture(std::env::consts::ARCH).to_owned(),
            apparmor: text("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        }
    }
}

fn memory(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// What the kernel has set aside, by the size of a page.
fn huge_pages(directory: &Path) -> BTreeMap<i64, i64> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let read = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let size =
            name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<i64>().ok()?.checked_mul(1024)?;
        let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        Some((size, count.trim().parse::<i64>().ok()?.checked_mul(size)?))
    });
    read.collect()
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches('"')).to_owned()
}

fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        assert_eq!(memory("MemFree: 1 kB\nMemTotal:       24 kB\n"), 24 << 10);
        assert_eq!(memory(""), 0);
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_image(""), "Linux");
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("hugepages-2048kB")).unwrap();
        std::fs::write(root.path().join("hugepages-2048kB/nr_hugepages"), "3\n").unwrap();
        assert_eq!(huge_pages(root.path()), [(2 << 20, 6 << 20)].into());
    }
}
