//! Reading a log file in the CRI format: `<time> <stream> <P|F> <text>` lines, where `P` is a part of a longer line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;

const BLOCK: usize = 64 << 10;
/// A line longer than this is no line of the format; it is passed on as it is.
const LINE_LIMIT: usize = 1 << 20;
/// Among how many files that were put aside the one that is read is looked for.
const MAX_ASIDE: usize = 16;

/// A log that is being read.
pub(crate) struct Tail {
    path: PathBuf,
    file: File,
    /// What is written to instead of `file`, which has yet to be read to its end.
    successor: Option<File>,
    /// Read, and not a whole line yet.
    rest: Vec<u8>,
    since: Option<Timestamp>,
    timestamps: bool,
    /// Bytes that may still be given out.
    left: Option<u64>,
    /// Within a line of which a part has been given out.
    within: bool,
    /// The output that is wanted; `None`: both.
    stream: Option<&'static str>,
}

impl Tail {
    /// Opens a log at its beginning, or at its last lines. Blocks.
    pub(crate) fn open(
        path: &Path,
        lines: Option<u64>,
        since: Option<Timestamp>,
        timestamps: bool,
        limit: Option<u64>,
    ) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let start = match lines {
            None => 0,
            Some(lines) => last_lines(&mut file, lines)?,
        };
        file.seek(SeekFrom::Start(start))?;
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            successor: None,
            rest: Vec::new(),
            since,
            timestamps,
            left: limit,
            within: false,
            stream: None,
        })
    }

    /// Leaves out what is not of this output.
    pub(super) fn only(self, stream: Option<&'static str>) -> Self {
        Self { stream, ..self }
    }

    /// Whether as much has been given out as was wanted.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// The next lines; empty: there is nothing more yet. Blocks.
    pub(crate) fn read(&mut self) -> std::io::Result<Bytes> {
        let mut out = Vec::new();
        while out.is_empty() && !self.is_done() {
            let before = self.rest.len();
            self.rest.resize(before + BLOCK, 0);
            let read = self.file.read(&mut self.rest[before..]);
            self.rest.truncate(before + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                match self.successor.take() {
                    Some(successor) => self.file = successor,
                    None => match self.find_successor()? {
                        // Once more, for what was written before it was put aside.
                        Some(successor) => self.successor = Some(successor),
                        None => break,
                    },
                }
                continue;
            }
            let mut rest = std::mem::take(&mut self.rest);
            let mut begin = 0;
            while let Some(end) = rest[begin..].iter().position(|byte| *byte == b'\n') {
                self.line(&rest[begin..begin + end], &mut out);
                begin += end + 1;
            }
            rest.drain(..begin);
            if rest.len() > LINE_LIMIT {
                out.append(&mut rest);
            }
            self.rest = rest;
        }
        if let Some(left) = &mut self.left {
            let keep = usize::try_from(*left).unwrap_or(usize::MAX).min(out.len());
            out.truncate(keep);
            *left -= keep as u64;
        }
        Ok(out.into())
    }

    /// The file that the log goes on in when this one was put aside: a full `0.log` becomes `0.log.1`, that `0.log.2`.
    fn find_successor(&self) -> std::io::Result<Option<File>> {
        let own = self.file.metadata()?.ino();
        let at = |number: usize| {
            let mut name = self.path.as_os_str().to_owned();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            PathBuf::from(name)
        };
        let is_own = |number: &usize| std::fs::metadata(at(*number)).is_ok_and(|found| found.ino() == own);
        match (0..MAX_ASIDE).find(is_own) {
            Some(0) => Ok(None),
            Some(number) => Ok(File::open(at(number - 1)).ok()),
            // Gone, or put aside by somebody else.
            None => Ok(File::open(&self.path).ok()),
        }
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some((time, stream, whole, text)) = parse(line) else {
            // Not of the format: better shown than lost.
            out.extend_from_slice(line);
            out.push(b'\n');
            return;
        };
        if self.stream.is_some_and(|wanted| wanted.as_bytes() != stream) {
            return;
        }
        if let Some(since) = self.since
            && time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        if self.timestamps && !self.within {
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(text);
        self.within = !whole;
        if whole {
            out.push(b'\n');
        }
    }
}

/// The time, the output, whether the line ends here, and the text.
fn parse(line: &[u8]) -> Option<(&str, &[u8], bool, &[u8])> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = parts.next()?;
    let tag = parts.next()?;
    let text = parts.next().unwrap_or_default();
    if !matches!(stream, b"stdout" | b"stderr") {
        return None;
    }
    // Tags are separated by colons; the first says whether the line is whole.
    match tag.split(|byte| *byte == b':').next()? {
        b"F" => Some((time, stream, true, text)),
        b"P" => Some((time, stream, false, text)),
        _ => None,
    }
}

/// Where the last lines begin.
fn last_lines(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let mut at = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(at);
    }
    let end = at;
    let mut seen = 0;
    let mut block = vec![0; BLOCK];
    while at > 0 {
        let size = at.min(BLOCK as u64);
        at -= size;
        let block = &mut block[..size as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(block)?;
        for (i, byte) in block.iter().enumerate().rev() {
            let position = at + i as u64;
            // The newline that ends the last line begins none.
            if *byte == b'\n' && position + 1 < end {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n\
                       2026-01-01T00:00:02Z stdout P tw\n\
                       2026-01-01T00:00:02Z stdout F o\n\
                       2026-01-01T00:00:03Z stderr F  three \n\
                       2026-01-01T00:00:04Z stdout F\n";

    fn tail(lines: Option<u64>, since: Option<&str>, timestamps: bool, limit: Option<u64>) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(LOG.as_bytes()).unwrap();
        let since = since.map(|since| since.parse().unwrap());
        let mut tail = Tail::open(file.path(), lines, since, timestamps, limit).unwrap();
        let mut text = Vec::new();
        loop {
            let chunk = tail.read().unwrap();
            if chunk.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend_from_slice(&chunk);
        }
    }

    #[test]
    fn parts_are_joined() {
        assert_eq!(tail(None, None, false, None), "one\ntwo\n three \n\n");
        let timed = "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z  three \n2026-01-01T00:00:04Z \n";
        assert_eq!(tail(None, None, true, None), timed);
    }

    #[test]
    fn a_log_that_is_put_aside_is_read_on_without_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let write = |name: &str, text: &str| {
            let mut file = File::options().create(true).append(true).open(at(name)).unwrap();
            writeln!(file, "2026-01-01T00:00:01Z stdout F {text}").unwrap();
        };
        write("0.log", "one");
        let mut tail = Tail::open(&at("0.log"), None, None, false, None).unwrap();
        assert_eq!(tail.read().unwrap(), "one\n");
        // Twice between two looks.
        write("0.log", "two");
        std::fs::rename(at("0.log"), at("0.log.1")).unwrap();
        write("0.log", "three");
        std::fs::rename(at("0.log.1"), at("0.log.2")).unwrap();
        std::fs::rename(at("0.log"), at("0.log.1")).unwrap();
        write("0.log", "four");
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.extend_from_slice(&tail.read().unwrap());
        }
        assert_eq!(String::from_utf8(seen).unwrap(), "two\nthree\nfour\n");
    }

    #[test]
    fn less_than_all() {
        assert_eq!(tail(Some(2), None, false, None), " three \n\n");
        assert_eq!(tail(Some(0), None, false, None), "");
        assert_eq!(tail(Some(99), None, false, None), "one\ntwo\n three \n\n");
        assert_eq!(tail(None, Some("2026-01-01T00:00:03Z"), false, None), " three \n\n");
        assert_eq!(tail(None, None, false, Some(5)), "one\nt");
    }

    #[test]
    fn one_output_alone() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(LOG.as_bytes()).unwrap();
        let read = |stream| {
            let tail = Tail::open(file.path(), None, None, false, None).unwrap();
            tail.only(Some(stream)).read().unwrap()
        };
        assert_eq!((read("stdout"), read("stderr")), ("one\ntwo\n\n".into(), " three \n".into()));
    }

    #[test]
    fn what_is_written_later_is_read_later_and_half_a_line_waits() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tail = Tail::open(file.path(), None, None, false, None).unwrap();
        assert_eq!(tail.read().unwrap(), "");
        file.write_all(b"2026-01-01T00:00:01Z stdout F on").unwrap();
        assert_eq!(tail.read().unwrap(), "");
        file.write_all(b"e\nnot of the format\n").unwrap();
        assert_eq!(tail.read().unwrap(), "one\nnot of the format\n");
    }
}
