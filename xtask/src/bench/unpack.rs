//! Images from a directory and from a registry to unpacked layers, beside skopeo and umoci.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{binary, free_port, rule};
use crate::tools;

/// What the image's layers are made of, one each: trees that every machine has, of many small files and of few large ones.
const TREES: [&str; 3] = ["/usr/share", "/usr/bin", "/usr/include"];
/// Bytes taken of each tree, so that the image is alike on every machine and the run has an end: about 100 s.
const LAYER: u64 = 24 << 20;
const TAG: &str = "bench";

/// Loads, pulls and unpacks the same image by turns, `rounds` times each, and prints medians.
///
/// # Errors
/// When a program is missing or fails.
pub fn run(root: &Path, rounds: u32) -> Result<()> {
    for (program, package) in
        [("skopeo", "skopeo"), ("umoci", "umoci"), ("docker-registry", "docker-registry")]
    {
        tools::debian_program(program, package)?;
    }
    let work = tempfile::tempdir()?;
    let bench = Bench { monoplane: binary(root)?, work: work.path().to_owned() };
    let layout = bench.image()?;
    let size = tree_size(&layout.join("blobs"))?;
    println!(
        "\nimage of {} gzip layers, {:.0} MB compressed: seconds, median of {rounds}",
        TREES.len(),
        megabytes(size)
    );
    rule();
    let source = format!("oci:{}:{TAG}", layout.display());
    let directory = layout.to_str().context("a path that is no text")?;
    let load = ["load", directory, "--tag", "bench.test/image:1"];
    bench.row("from a directory, unpacked", rounds, &load, &source)?;
    let registry = Registry::start(work.path())?;
    let name = format!("127.0.0.1:{}/image:1", registry.port);
    quiet(&mut skopeo(&["--dest-tls-verify=false", &source, &format!("docker://{name}")]))?;
    bench.row("from a registry, unpacked", rounds, &["pull", &name], &format!("docker://{name}"))
}

struct Bench {
    monoplane: String,
    work: PathBuf,
}

impl Bench {
    /// An OCI layout.
    fn image(&self) -> Result<PathBuf> {
        let layout = self.work.join("layout");
        quiet(Command::new("umoci").arg("init").arg("--layout").arg(&layout))?;
        let image = format!("{}:{TAG}", layout.display());
        quiet(Command::new("umoci").args(["new", "--image", &image]))?;
        for (number, tree) in TREES.iter().enumerate().filter(|(_, tree)| Path::new(tree).exists()) {
            let taken = self.work.join(format!("layer-{number}"));
            take(Path::new(tree), &taken, LAYER)?;
            quiet(Command::new("umoci").args(["insert", "--image", &image]).arg(&taken).arg(tree))?;
        }
        Ok(layout)
    }

    fn row(&self, what: &str, rounds: u32, ours: &[&str], theirs: &str) -> Result<()> {
        let (mut own, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..rounds.max(1) {
            own.push(self.ours(ours)?);
            peer.push(self.theirs(theirs)?);
        }
        let (own, peer) = (median(own), median(peer));
        println!(
            "{what:<50} {:>8.2} s   skopeo and umoci {:>8.2} s   {:.2} x",
            own.as_secs_f64(),
            peer.as_secs_f64(),
            own.as_secs_f64() / peer.as_secs_f64()
        );
        Ok(())
    }

    /// Into a fresh store: blobs verified and on disk, layers ready for an overlay.
    fn ours(&self, words: &[&str]) -> Result<Duration> {
        let fresh = tempfile::tempdir_in(&self.work)?;
        let mut command = Command::new(&self.monoplane);
        command.arg("image").args(words).arg("--data-dir").arg(fresh.path());
        timed(&mut [command])
    }

    /// Into a fresh layout, and from there into a bundle.
    fn theirs(&self, source: &str) -> Result<Duration> {
        let fresh = tempfile::tempdir_in(&self.work)?;
        let layout = format!("{}:{TAG}", fresh.path().join("layout").display());
        let mut unpack = Command::new("umoci");
        unpack.args(["unpack", "--image", &layout]).arg(fresh.path().join("bundle"));
        timed(&mut [skopeo(&["--src-tls-verify=false", source, &format!("oci:{layout}")]), unpack])
    }
}

/// Copies files and links of a tree, by name, as long as there is room for more. Returns the room that is left.
fn take(tree: &Path, into: &Path, mut room: u64) -> Result<u64> {
    std::fs::create_dir(into)?;
    let mut entries = std::fs::read_dir(tree)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (kind, from, to) = (entry.file_type()?, entry.path(), into.join(entry.file_name()));
        if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&from)?, &to)?;
        } else if kind.is_dir() && room > LAYER / 64 {
            room = take(&from, &to, room)?;
        } else if kind.is_file() && entry.metadata()?.len() <= room {
            room -= std::fs::copy(&from, &to)?.min(room);
        }
    }
    Ok(room)
}

fn skopeo(words: &[&str]) -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy"]).args(words);
    command
}

fn timed(commands: &mut [Command]) -> Result<Duration> {
    let began = Instant::now();
    commands.iter_mut().try_for_each(quiet)?;
    Ok(began.elapsed())
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn megabytes(bytes: u64) -> f64 {
    Duration::from_micros(bytes).as_secs_f64()
}

fn tree_size(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { tree_size(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

/// A registry on a free port of loopback.
struct Registry {
    port: u16,
    child: std::process::Child,
}

impl Registry {
    fn start(work: &Path) -> Result<Self> {
        let port = free_port()?;
        let config = work.join("registry.yml");
        let storage = work.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            storage.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("starting docker-registry")?;
        let registry = Self { port, child };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
