//! A terminal of the container's own.
#![allow(unsafe_code)] // the terminal calls for pairs have no safe form here

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags};

use crate::place::{self, Kind};
use crate::{failed, mounts};

/// The device that pairs come from.
const PTMX: (u32, u32) = (5, 2);
/// The kernel's number for the file system of terminals.
const DEVPTS: i64 = 0x1cd1;

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Terminal {
    /// For whoever is at it.
    pub master: OwnedFd,
    /// For the program.
    pub slave: OwnedFd,
}

/// Opens a pair of the container whose root this is.
///
/// # Errors
/// When there is no such device in the container, or something else in its place.
pub fn open(root: BorrowedFd<'_>) -> Result<Terminal, String> {
    let master = place::open(root, Path::new("/dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY);
    let master = master.map_err(failed("terminal"))?;
    // What is opened here is a container's to arrange.
    let (found, system) = (rustix::fs::fstat(&master), rustix::fs::fstatfs(&master));
    let (found, system) = (found.map_err(failed("terminal"))?, system.map_err(failed("terminal"))?);
    let number = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && number == PTMX;
    #[allow(clippy::unnecessary_cast)] // its type is another on other machines
    if !is_device || system.f_type as i64 != DEVPTS {
        return Err("terminal: /dev/pts/ptmx is not what terminals come from".to_owned());
    }
    let slave = pair(master.as_fd()).map_err(failed("terminal"))?;
    Ok(Terminal { master, slave })
}

fn pair(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the number that is read lives through the call.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the call takes numbers only.
    let slave = unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
    };
    match slave {
        0.. => {
            // SAFETY: the kernel made this descriptor just now, and nobody else knows of it.
            Ok(unsafe { OwnedFd::from_raw_fd(slave) })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

impl Terminal {
    /// Has the container's console be this terminal.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind_console(&self, root: BorrowedFd<'_>) -> Result<(), String> {
        let place = place::open_or_make(root, Path::new("/dev/console"), Kind::File);
        let bound = place.and_then(|place| mounts::put(mounts::copy(&self.slave, false)?, place));
        bound.map_err(failed("console"))
    }

    /// Makes it the calling process' own, which leads a session, and its standard files; gives the other end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(self, owner: u32) -> Result<OwnedFd, String> {
        let taken = || -> rustix::io::Result<()> {
            let owner = rustix::fs::Uid::from_raw(owner);
            rustix::fs::fchown(&self.slave, Some(owner), None)?;
            rustix::fs::fchmod(&self.slave, Mode::from_raw_mode(0o620))?;
            rustix::process::ioctl_tiocsctty(&self.slave)?;
            rustix::stdio::dup2_stdin(&self.slave)?;
            rustix::stdio::dup2_stdout(&self.slave)?;
            rustix::stdio::dup2_stderr(&self.slave)
        };
        taken().map_err(failed("terminal"))?;
        Ok(self.master)
    }
}
