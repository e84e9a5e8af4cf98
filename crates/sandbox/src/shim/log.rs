//! Log files in the CRI format: `<time> <stream> <F|P> <text>`, a line a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The longest piece of a line that is written as one record; longer lines become several, all but the last marked `P`.
const MAX_LINE: usize = 16 * 1024;

/// One output of a container, cut into lines.
pub(crate) struct Stream {
    name: &'static str,
    pending: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, pending: Vec::new() }
    }

    /// Takes bytes as they came and appends the records they complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], now: &str, records: &mut Vec<u8>) {
        while let Some(first) = bytes.first() {
            // Not before there is more: a line of just this length is a whole one.
            if self.pending.len() == MAX_LINE && *first != b'\n' {
                self.record(now, b'P', records);
            }
            let room = MAX_LINE - self.pending.len();
            let look = &bytes[..bytes.len().min(room + 1)];
            match look.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.pending.extend_from_slice(&look[..end]);
                    self.record(now, b'F', records);
                    bytes = &bytes[end + 1..];
                }
                None => {
                    let (fits, rest) = bytes.split_at(bytes.len().min(room));
                    self.pending.extend_from_slice(fits);
                    bytes = rest;
                }
            }
        }
    }

    /// Appends what was left without an end of line, which is no whole line, and so read without one again.
    pub(crate) fn finish(&mut self, now: &str, records: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.record(now, b'P', records);
        }
        self.pending = Vec::new();
    }

    fn record(&mut self, now: &str, tag: u8, records: &mut Vec<u8>) {
        records.extend_from_slice(now.as_bytes());
        records.push(b' ');
        records.extend_from_slice(self.name.as_bytes());
        records.extend_from_slice(&[b' ', tag, b' ']);
        records.extend_from_slice(&self.pending);
        records.push(b'\n');
        self.pending.clear();
    }
}

/// How long a log file gets before it is put aside: upstream's default.
const MAX_FILE: u64 = 10 << 20;
/// How many files a container's log is kept in, the current one too: upstream's default.
const MAX_FILES: usize = 5;

/// A log file that is put aside when it is full, `0.log` as `0.log.1` and that as `0.log.2`, so that no container fills
/// the disk with its words, whether a node process runs or not.
///
/// When it cannot be written (a full disk) records are dropped and counted, never waited for: a container
/// must not stop because its log does. The first record that fits again is preceded by one that tells the loss.
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    /// Bytes in the file.
    length: u64,
    dropped: usize,
}

impl Log {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut log = Self { path: path.to_owned(), file: None, length: 0, dropped: 0 };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path again, after the file was moved away.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        let file = append_to(&self.path)?;
        self.length = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Puts the file aside and begins another. The oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let aside = |number: usize| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..MAX_FILES - 1).rev() {
            match std::fs::rename(aside(number), aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match std::fs::rename(&self.path, aside(1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.reopen(),
        }
    }

    /// Writes whole records.
    pub(crate) fn write(&mut self, records: &[u8], now: &str) {
        let full = self.length > 0 && self.length + records.len() as u64 > MAX_FILE;
        if full && self.rotate().is_err() {
            // The bound holds: what cannot be put aside is not made longer.
            self.dropped += records.iter().filter(|byte| **byte == b'\n').count();
            return;
        }
        let count = records.iter().filter(|byte| **byte == b'\n').count();
        let Some(file) = &mut self.file else {
            self.dropped += count;
            return;
        };
        if self.dropped > 0 {
            let note = format!(
                "{now} stderr F [{} log records were dropped: the log could not be written]\n",
                self.dropped
            );
            if append(file, note.as_bytes()).is_err() {
                self.dropped += count;
                return;
            }
            self.length += note.len() as u64;
            self.dropped = 0;
        }
        match append(file, records) {
            Ok(()) => self.length += records.len() as u64,
            Err(_) => self.dropped += count,
        }
    }
}

/// All of it, or nothing: half a record would be read as one.
fn append(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        let _ = file.set_len(before);
    })
}

fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Who has the directory of logs mounted could lay a link there, to any file of the machine.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    File::options().append(true).create(true).mode(0o640).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(input: &[u8], cut: usize) -> String {
        let (mut stream, mut records) = (Stream::new("stdout"), Vec::new());
        input.chunks(cut).for_each(|piece| stream.feed(piece, "T", &mut records));
        stream.finish("T", &mut records);
        String::from_utf8_lossy(&records).into_owned()
    }

    #[test]
    fn lines_become_records() {
        assert_eq!(lines(b"one\n\ntwo", 2), "T stdout F one\nT stdout F \nT stdout P two\n");
        assert_eq!(lines(b"", 1), "");
        let exact = vec![b'x'; MAX_LINE];
        let text = String::from_utf8(exact.clone()).unwrap();
        assert_eq!(
            lines(&[&exact[..], b"\ny\n"].concat(), 1 << 20),
            format!("T stdout F {text}\nT stdout F y\n")
        );
        assert_eq!(
            lines(&[&exact[..], b"y\n"].concat(), 1 << 20),
            format!("T stdout P {text}\nT stdout F y\n")
        );
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_whatever_the_cuts(
            input in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300),
            long in 0usize..3,
            cut in 1usize..50,
        ) {
            let input: Vec<u8> = [vec![b'z'; long * MAX_LINE], input].concat();
            let (mut stream, mut records) = (Stream::new("stderr"), Vec::new());
            input.chunks(cut * 997).for_each(|piece| stream.feed(piece, "T", &mut records));
            stream.finish("T", &mut records);
            let mut back = Vec::new();
            for record in records.split_inclusive(|byte| *byte == b'\n') {
                let (head, text) = record.split_at(b"T stderr F ".len());
                prop_assert!(text.len() <= MAX_LINE + 1);
                let whole = head[9] == b'F';
                back.extend_from_slice(if whole { text } else { &text[..text.len() - 1] });
            }
            prop_assert_eq!(back, input);
        }
    }

    #[test]
    fn a_log_takes_only_so_much_of_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(&directory.path().join("0.log")).unwrap();
        let record = [b"T stdout F ", vec![b'x'; (1 << 20) - 12].as_slice(), b"\n"].concat();
        for _ in 0..75 {
            log.write(&record, "T");
        }
        let mut sizes: Vec<(String, u64)> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        sizes.sort();
        let full = |name: &str| (name.to_owned(), MAX_FILE);
        let current = ("0.log".to_owned(), MAX_FILE / 2);
        assert_eq!(sizes, [current, full("0.log.1"), full("0.log.2"), full("0.log.3"), full("0.log.4")]);
    }

    #[test]
    fn a_full_disk_drops_records_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let full = File::options().append(true).open("/dev/full").ok();
        let mut log = Log { path: path.clone(), file: full, length: 0, dropped: 0 };
        log.write(b"T stdout F a\nT stdout F b\n", "T");
        log.write(b"T stdout F c\n", "T");
        log.reopen().unwrap();
        log.write(b"T stdout F d\n", "T");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("T stderr F [3 log records were dropped"), "{text}");
        assert!(text.ends_with("\nT stdout F d\n"), "{text}");
    }
}
