//! Files of variables that a pod's own containers have written: upstream's subset of what a POSIX shell reads.
//!
//! `NAME='value'`, one after the other: values are in single quotes, taken as they are, and may have several lines. Empty
//! lines and those that begin with `#` say nothing. Everything else is an error, so that no file means something else here
//! than in a shell.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// As much of such a file is read.
const MAX_FILE: u64 = 1 << 20;

/// Reads such a file of a volume; `None`: there is none. Links in the volume lead nowhere outside. Blocks.
pub(crate) fn read(volume: &Path, path: &str) -> io::Result<Option<String>> {
    let directory = match open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(directory) => directory,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // A pipe in its place would not be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&directory, path, flags, Mode::empty(), inside) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    if file.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is longer than {MAX_FILE} bytes")));
    }
    Ok(Some(text))
}

/// The value of a variable, as a shell that has read all of the file would have it.
pub(crate) fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    let (mut rest, mut line, mut found) = (text, 1, None);
    let fault = |line: usize, why: &str| Err(format!("line {line}: {why}"));
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let (this, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if rest.is_empty() {
            return Ok(found);
        }
        if this.trim_end().is_empty() || this.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let Some((name, _)) = this.split_once('=') else { return fault(line, "there is no `=`") };
        let name_end = name.len();
        let name = name.trim_end_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && !b"'\"".contains(&byte)) {
            return fault(line, "the name before `=` is none of a variable");
        }
        let value = rest[name_end + 1..].trim_start_matches([' ', '\t']);
        let Some(value) = value.strip_prefix('\'') else {
            return fault(line, "the value is not in single quotes");
        };
        let Some((value, after)) = value.split_once('\'') else {
            return fault(line, "the value's quotation has no end");
        };
        line += value.matches('\n').count();
        let (tail, after) = after.split_once('\n').unwrap_or((after, ""));
        if !tail.trim().is_empty() {
            return fault(line, "something follows the value");
        }
        if name == key {
            found = Some(value.to_owned());
        }
        (rest, line) = (after, line + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_read_is_read() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(value(text, "A").unwrap().as_deref(), expected, "{text:?}");
        };
        check("", None);
        check("A='1'", Some("1"));
        check("# A='0'\n\n  \t\nB='2'\n  A = ' x # $B \\ \"y\" ' \n", Some(" x # $B \\ \"y\" "));
        check("A='one\ntwo=\n'\nB='A='\n", Some("one\ntwo=\n"));
        check("A='1'\nA='2'\n", Some("2"));
        check("A=''", Some(""));
        check("B='1'\r\nA='é'\r\n", Some("é"));
    }

    #[test]
    fn what_would_be_read_otherwise_is_refused_by_its_line() {
        for (text, expected) in [
            ("A=1", "line 1: the value is not in single quotes"),
            ("\nA=\"1\"", "line 2: the value is not in single quotes"),
            ("A='1''2'", "line 1: something follows the value"),
            ("B='x\ny'\nA='1'$B", "line 3: something follows the value"),
            ("A='1", "line 1: the value's quotation has no end"),
            ("A", "line 1: there is no `=`"),
            ("='1'", "line 1: the name before `=` is none of a variable"),
            ("export A='1'", "line 1: the name before `=` is none of a variable"),
        ] {
            assert_eq!(value(text, "A").unwrap_err(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_file_is_read_within_its_volume() {
        let volume = tempfile::tempdir().unwrap();
        let at = |name: &str| volume.path().join(name);
        std::fs::write(at("env"), "A='1'").unwrap();
        std::os::unix::fs::symlink("env", at("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("out")).unwrap();
        assert_eq!(read(volume.path(), "link").unwrap().as_deref(), Some("A='1'"));
        assert_eq!(read(volume.path(), "none").unwrap(), None);
        assert_eq!(read(&at("none"), "env").unwrap(), None);
        assert!(read(volume.path(), "out").is_err() && read(volume.path(), ".").is_err());
        std::fs::write(at("long"), vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(read(volume.path(), "long").unwrap_err().to_string().contains("longer"));
    }
}
