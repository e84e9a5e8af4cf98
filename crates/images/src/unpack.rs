//! Layers on disk, ready to be an overlay's lower directories.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use oci_spec::image::Descriptor;
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use crate::content::{Content, tar_of_one};
use crate::digest::Hashing;
use crate::remove::{remove_at, remove_tree};
use crate::{Digest, Error, Limits, Result, Store, StoredImage, store};

/// A file of this prefix hides the file of the rest of its name in the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// A file of this name hides all that the layers below have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other files that aufs kept in layers.
const AUFS: &[u8] = b".wh..wh.";
/// Bytes of headers that one entry may have.
const MAX_HEADERS: u64 = 1 << 20;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl Store {
    /// Unpacks the image's layers where that has not been done, and returns their directories, the base first.
    ///
    /// A layer is kept by the chain of layers that it lies upon, since directories that it only implies are what they are
    /// below it. Whoever wants the same layer meanwhile waits for whoever unpacks it, in other processes too.
    ///
    /// Needs root: owners and device nodes (overlayfs marks a deleted file with one) are the point of it.
    pub fn unpack(&self, image: &StoredImage) -> Result<Vec<PathBuf>> {
        self.unpack_first(image, image.layers.len())
    }

    /// The same for the first so many layers, of which the blobs have to be here.
    pub(crate) fn unpack_first(&self, image: &StoredImage, count: usize) -> Result<Vec<PathBuf>> {
        let _writing = self.writers(FlockOperation::LockShared)?;
        let mut directories = Vec::with_capacity(count);
        let mut left = self.limits.image_bytes;
        for ((layer, content), id) in image.layers.iter().zip(&image.contents).zip(image.chains()).take(count)
        {
            if let Some(id) = id {
                directories.push(self.unpack_layer(layer, content, id, &directories, &mut left)?);
            }
        }
        Ok(directories)
    }

    fn unpack_layer(
        &self,
        layer: &Descriptor,
        content: &Content,
        id: Digest,
        below: &[PathBuf],
        image_left: &mut u64,
    ) -> Result<PathBuf> {
        let parent = self.root.join("layers/sha256");
        let done = parent.join(id.hex());
        if done.join("fs").is_dir() {
            return Ok(done.join("fs"));
        }
        let _alone = self.lock(&format!("locks/{}", id.hex()), FlockOperation::LockExclusive)?;
        // Somebody else may have done it while we waited.
        if done.join("fs").is_dir() {
            return Ok(done.join("fs"));
        }
        let work = tempfile::Builder::new().prefix("layer-").tempdir_in(self.root.join("work"));
        let work = Work(work.map_err(Error::io(&parent))?.keep());
        let root = work.0.join("fs");
        fs::create_dir(&root).map_err(Error::io(&root))?;
        self.unpack_content(layer, content, &root, below, image_left)?;
        // Everything is on disk before the name says that it is.
        let directory = File::open(&root).map_err(Error::io(&root))?;
        rustix::fs::syncfs(&directory).map_err(Error::os(&root))?;
        fs::rename(&work.0, &done).map_err(Error::io(&done))?;
        store::sync_directory(&parent)?;
        Ok(done.join("fs"))
    }

    fn unpack_content(
        &self,
        layer: &Descriptor,
        content: &Content,
        root: &Path,
        below: &[PathBuf],
        image_left: &mut u64,
    ) -> Result<()> {
        let digest: Digest = layer.digest().to_string().parse()?;
        let limit = self.limits.layer_bytes;
        let (found, wanted) = match content {
            Content::Files { diff } => {
                let mut stream = Hashing::new(self.layer_stream(digest)?, limit);
                extract(&mut stream, root, below, &self.limits, image_left)?;
                (stream.digest(), *diff)
            }
            Content::Program { path, .. } => {
                let mut program = Hashing::new(self.program(digest)?, limit);
                let tar = tar_of_one(path, layer.size(), &mut program).map_err(broken)?;
                extract(tar, root, below, &self.limits, image_left)?;
                (program.digest(), digest)
            }
            Content::Aside => return Ok(()),
        };
        match found == wanted {
            true => Ok(()),
            false => Err(Error::Invalid(format!("layer {digest} does not unpack to {wanted}"))),
        }
    }
}

impl StoredImage {
    /// What its unpacked layers are kept by, the base first: a layer with all that it lies upon. `None`: a layer that is
    /// not unpacked.
    pub(crate) fn chains(&self) -> impl Iterator<Item = Option<Digest>> {
        let mut below: Option<Digest> = None;
        self.contents.iter().map(move |content| {
            let diff = content.diff()?;
            let chain = below.map_or(diff, |below| Digest::of(format!("{below} {diff}").as_bytes()));
            below = Some(chain);
            below
        })
    }
}

/// A directory that goes with this value, unless it was moved away: however deep a layer made it, which a temporary
/// directory's own removal would run out of descriptors for.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "what is left of a layer stays until the next start");
        }
    }
}

/// Unpacks one layer's tar into a directory.
fn extract(
    stream: impl Read,
    root: &Path,
    below: &[PathBuf],
    limits: &Limits,
    image_left: &mut u64,
) -> Result<()> {
    let limit = limits.layer_entries;
    let directory = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty()).map_err(Error::os(root))?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755)).map_err(Error::os(root))?;
    let left = Left { layer: limits.layer_bytes, image: *image_left, paths: limits.path_bytes };
    let mut extraction = Extraction { root: directory, below, times: Vec::new(), left, limits };
    let budget = Rc::new(Cell::new(0));
    let mut archive = tar::Archive::new(Metered { inner: stream, budget: Rc::clone(&budget), seen: 0 });
    let mut entries = archive.entries().map_err(broken)?;
    let mut count = 0;
    loop {
        budget.set(MAX_HEADERS);
        let Some(entry) = entries.next() else { break };
        count += 1;
        if count > limit {
            return Err(Error::TooLarge { what: "entries of a layer", limit });
        }
        budget.set(u64::MAX);
        let mut entry = entry.map_err(broken)?;
        extraction.entry(&mut entry)?;
        // Else skipping it would count as headers of the next.
        io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
    }
    extraction.finish()?;
    *image_left = extraction.left.image;
    budget.set(u64::MAX);
    // What follows the end marker belongs to the digest.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(())
}

/// Bounds what is read between two entries' contents: long names and extended headers, which `tar` holds in memory.
///
/// And fills up the last block of the last content, which some tools (umoci's `insert`) leave short and all readers take.
struct Metered<R> {
    inner: R,
    /// `u64::MAX` within a content, which ends where it ends.
    budget: Rc<Cell<u64>>,
    seen: u64,
}

/// Bytes of a block of a tar archive.
const BLOCK: u64 = 512;

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = self.inner.read(buffer)?;
        let budget = self.budget.get();
        if count == 0 && budget != u64::MAX {
            let missing = (BLOCK - self.seen % BLOCK) % BLOCK;
            let padding = buffer.iter_mut().zip(0..missing);
            count = padding.map(|(byte, _)| *byte = 0).count();
        }
        self.seen += count as u64;
        match budget {
            u64::MAX => {}
            _ => match budget.checked_sub(count as u64) {
                Some(left) => self.budget.set(left),
                None => return Err(io::Error::new(io::ErrorKind::FileTooLarge, "an entry's headers")),
            },
        }
        Ok(count)
    }
}

/// What an entry says of a file beside its name, kind and content.
struct Attributes {
    owner: (Uid, Gid),
    mode: Mode,
    times: Timestamps,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Attributes {
    fn of(entry: &mut tar::Entry<'_, impl Read>) -> Result<Self> {
        // All ones means "leave as it is" to the kernel: no owner can be that.
        let id = |id: io::Result<u64>| {
            let id = id.map_err(broken)?;
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| Error::invalid("an owner out of range"))
        };
        let header = entry.header();
        let owner = (Uid::from_raw(id(header.uid())?), Gid::from_raw(id(header.gid())?));
        let mode = Mode::from_raw_mode(header.mode().map_err(broken)? & 0o7777);
        let seconds = header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(Self { owner, mode, times, xattrs: xattrs(entry)? })
    }

    /// Owner, mode and extended attributes; in this order, since a change of owner clears set-uid bits and
    /// capabilities.
    fn apply(&self, path: &Path, fd: BorrowedFd<'_>) -> Result<()> {
        let (uid, gid) = self.owner;
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(Error::os(path))?;
        rustix::fs::fchmod(fd, self.mode).map_err(Error::os(path))?;
        for (name, value) in &self.xattrs {
            match rustix::fs::fsetxattr(fd, name.as_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM) => {
                    tracing::debug!(name, path = %path.display(), "an extended attribute is left out");
                }
                Err(error) => return Err(Error::os(path)(error)),
            }
        }
        Ok(())
    }
}

/// What a layer may still take. What a tar says takes no room in it (a sparse file's holes) takes some on disk.
struct Left {
    /// Bytes of files, of this layer and of the whole image.
    layer: u64,
    image: u64,
    /// Bytes of the names that are held in memory.
    paths: u64,
}

struct Extraction<'a> {
    root: OwnedFd,
    /// The layers that this one lies upon, the base first.
    below: &'a [PathBuf],
    /// Directories' times, set when nothing more is written into them.
    times: Vec<(PathBuf, Timestamps)>,
    left: Left,
    limits: &'a Limits,
}

impl Extraction<'_> {
    /// Counts a file's bytes before they are written.
    fn charge(&mut self, bytes: u64) -> Result<()> {
        let too_large = |what, limit| Error::TooLarge { what, limit };
        let layer = self.left.layer.checked_sub(bytes);
        self.left.layer = layer.ok_or(too_large("an unpacked layer", self.limits.layer_bytes))?;
        let image = self.left.image.checked_sub(bytes);
        self.left.image = image.ok_or(too_large("an unpacked image", self.limits.image_bytes))?;
        Ok(())
    }

    fn remember_times(&mut self, path: &Path, times: Timestamps) -> Result<()> {
        let length = path.as_os_str().len() as u64;
        let limit = self.limits.path_bytes;
        let left = self.left.paths.checked_sub(length);
        self.left.paths = left.ok_or(Error::TooLarge { what: "names of a layer's directories", limit })?;
        self.times.push((path.to_owned(), times));
        Ok(())
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        let path = inside(&entry.path_bytes())?;
        let Some(name) = path.file_name() else {
            // The root directory itself: its mode and owner count.
            return Attributes::of(entry)?.apply(&path, self.root.as_fd());
        };
        let parent = self.parent(&path)?;
        let result = match name.as_bytes() {
            OPAQUE => rustix::fs::fsetxattr(&parent, "trusted.overlay.opaque", b"y", XattrFlags::empty()),
            bytes if bytes.starts_with(AUFS) => Ok(()),
            bytes if bytes.starts_with(WHITEOUT) => {
                whiteout(&parent, OsStr::from_bytes(&bytes[WHITEOUT.len()..]))
            }
            _ => return self.node(entry, &path, parent, name),
        };
        result.map_err(Error::os(&path))
    }

    fn node(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        path: &Path,
        parent: OwnedFd,
        name: &OsStr,
    ) -> Result<()> {
        let kind = entry.header().entry_type();
        let attributes = Attributes::of(entry)?;
        if !kind.is_dir() {
            make_way(&parent, name).map_err(Error::os(path))?;
        }
        match kind {
            tar::EntryType::Directory => {
                let directory = make_directory(&parent, name).map_err(Error::os(path))?;
                attributes.apply(path, directory.as_fd())?;
                self.remember_times(path, attributes.times)
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                self.charge(entry.size())?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
                let mut file = File::from(file.map_err(Error::os(path))?);
                match kind {
                    tar::EntryType::GNUSparse => copy_with_holes(entry, &mut file),
                    _ => copy_whole(entry, &mut file),
                }
                .map_err(broken)?;
                attributes.apply(path, file.as_fd())?;
                rustix::fs::futimens(&file, &attributes.times).map_err(Error::os(path))
            }
            tar::EntryType::Symlink => {
                let target = link(entry, path)?;
                rustix::fs::symlinkat(&*target, &parent, name).map_err(Error::os(path))?;
                let (uid, gid) = attributes.owner;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags).map_err(Error::os(path))?;
                rustix::fs::utimensat(&parent, name, &attributes.times, flags).map_err(Error::os(path))
            }
            tar::EntryType::Link => {
                let target = inside(link(entry, path)?.as_os_str().as_bytes())?;
                let from = self.parent(&target)?;
                let of =
                    target.file_name().ok_or_else(|| Error::invalid("a hard link to the root directory"))?;
                // No flag: a link to a symbolic link is another name of the link itself, and follows nothing.
                rustix::fs::linkat(&from, of, &parent, name, AtFlags::empty()).map_err(Error::os(path))
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                special(entry.header(), &attributes, path, &parent, name)
            }
            other => {
                tracing::debug!(?other, path = %path.display(), "an entry of an unknown kind is left out");
                Ok(())
            }
        }
    }

    /// The directory that an entry goes into. Links on the way resolve as if the layer were the root, so none leads
    /// out of it; directories that no entry announced are made.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd> {
        let parent = path.parent().unwrap_or(Path::new(""));
        match open_inside(&self.root, parent) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(Error::os(path)),
        }
        let components: Vec<Component<'_>> = parent.components().collect();
        let upto = |count: usize| components.iter().take(count).collect::<PathBuf>();
        // Where a directory is missing, all below it are: the first is found by halving, so that a deep path costs its
        // length and not the square of it.
        let (mut there, mut missing) = (0, components.len());
        while missing - there > 1 {
            let middle = there.midpoint(missing);
            match open_inside(&self.root, &upto(middle)) {
                Ok(_) => there = middle,
                Err(Errno::NOENT) => missing = middle,
                Err(error) => return Err(Error::os(path)(error)),
            }
        }
        let mut so_far = upto(there);
        let mut above = open_inside(&self.root, &so_far).map_err(Error::os(path))?;
        for component in components.iter().skip(there) {
            let name = component.as_os_str();
            so_far.push(name);
            // One that is there and yet was not found is a link to nowhere.
            rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)).map_err(Error::os(path))?;
            above = rustix::fs::openat(&above, name, DIRECTORY, Mode::empty()).map_err(Error::os(path))?;
            self.inherit(&so_far, above.as_fd())?;
        }
        Ok(above)
    }

    /// Gives a directory that the layer only implies what the layers below say of it: for who looks from above, this one
    /// hides theirs.
    fn inherit(&mut self, path: &Path, made: BorrowedFd<'_>) -> Result<()> {
        let Some(found) = self.below.iter().rev().find_map(|layer| beneath(layer, path).transpose()) else {
            return Ok(());
        };
        let Some(stat) = found.map_err(Error::os(path))? else { return Ok(()) };
        let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        rustix::fs::fchown(made, owner.0, owner.1).map_err(Error::os(path))?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::fchmod(made, mode).map_err(Error::os(path))?;
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: 0 };
        self.remember_times(path, Timestamps { last_access: time, last_modification: time })
    }

    fn finish(&mut self) -> Result<()> {
        // The deepest first is not needed: setting times changes no other directory's.
        for (path, times) in &self.times {
            match open_inside(&self.root, path) {
                Ok(directory) => rustix::fs::futimens(&directory, times).map_err(Error::os(path))?,
                // A later entry took its place.
                Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => {}
                Err(error) => return Err(Error::os(path)(error)),
            }
        }
        Ok(())
    }
}

/// An entry's path, relative, without `.`; refused if it has `..`.
fn inside(bytes: &[u8]) -> Result<PathBuf> {
    let path = Path::new(OsStr::from_bytes(bytes));
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Invalid(format!("a layer's entry {path:?} leads out of it")));
            }
        }
    }
    match bytes.len() > 4096 || bytes.contains(&0) {
        true => Err(Error::invalid("a layer's entry has an impossible path")),
        false => Ok(clean),
    }
}

/// What a layer says of a directory: nothing (`None`), that there is none for the layers above (`Some(None)`), or what
/// it is.
fn beneath(layer: &Path, path: &Path) -> Result<Option<Option<Stat>>, Errno> {
    let mut directory = rustix::fs::openat(CWD, layer, DIRECTORY, Mode::empty())?;
    let mut hides = false;
    for component in path.components() {
        directory = match rustix::fs::openat(&directory, component.as_os_str(), DIRECTORY, Mode::empty()) {
            Ok(below) => below,
            Err(Errno::NOENT) => return Ok(hides.then_some(None)),
            // A file, a link or a whiteout: what lies below is not there any more.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Some(None)),
            Err(error) => return Err(error),
        };
        hides |= rustix::fs::fgetxattr(&directory, "trusted.overlay.opaque", &mut [0; 1]).is_ok();
    }
    rustix::fs::fstat(&directory).map(|stat| Some(Some(stat)))
}

/// Writes a file's content, all of it.
fn copy_whole(entry: &mut tar::Entry<'_, impl Read>, file: &mut File) -> io::Result<()> {
    match io::copy(entry, file)? == entry.size() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Copies a file's content; what is nothing but zeros becomes a hole.
fn copy_with_holes(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        let piece = &buffer[..count];
        match piece {
            [] => break,
            _ if piece.iter().all(|byte| *byte == 0) => {
                to.seek(SeekFrom::Current(i64::try_from(count).unwrap_or_default()))?;
            }
            _ => to.write_all(piece)?,
        }
    }
    let length = to.stream_position()?;
    to.set_len(length)
}

fn open_inside(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Removes what stands where an entry goes: the last of a name wins.
fn make_way(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    remove_at(parent, name.as_bytes())
}

fn make_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(existing) => return Ok(existing),
        Err(Errno::NOENT) => {}
        // A file or a link stands there.
        Err(Errno::NOTDIR | Errno::LOOP) => make_way(parent, name)?,
        Err(error) => return Err(error),
    }
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

fn whiteout(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    if name.is_empty() || matches!(name.as_bytes(), b"." | b"..") {
        return Err(Errno::INVAL);
    }
    make_way(parent, name)?;
    rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), rustix::fs::makedev(0, 0))
}

fn special(
    header: &tar::Header,
    attributes: &Attributes,
    path: &Path,
    parent: &OwnedFd,
    name: &OsStr,
) -> Result<()> {
    let device = || -> io::Result<u64> {
        let (major, minor) = (header.device_major()?, header.device_minor()?);
        Ok(rustix::fs::makedev(major.unwrap_or_default(), minor.unwrap_or_default()))
    };
    let (kind, device) = match header.entry_type() {
        tar::EntryType::Fifo => (FileType::Fifo, 0),
        tar::EntryType::Char => (FileType::CharacterDevice, device().map_err(broken)?),
        _ => (FileType::BlockDevice, device().map_err(broken)?),
    };
    match rustix::fs::mknodat(parent, name, kind, attributes.mode, device) {
        Ok(()) => {}
        Err(Errno::PERM) => {
            tracing::debug!(path = %path.display(), "a device node is left out");
            return Ok(());
        }
        Err(error) => return Err(Error::os(path)(error)),
    }
    let (uid, gid) = attributes.owner;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Error::os(path))?;
    // mknod took the umask off the mode.
    rustix::fs::chmodat(parent, name, attributes.mode, AtFlags::empty()).map_err(Error::os(path))
}

fn link<'a>(entry: &'a tar::Entry<'_, impl Read>, path: &Path) -> Result<std::borrow::Cow<'a, Path>> {
    let missing = || Error::Invalid(format!("the link {path:?} has no target"));
    entry.link_name().map_err(broken)?.filter(|target| !target.as_os_str().is_empty()).ok_or_else(missing)
}

/// The extended attributes that a layer may set: users' own and file capabilities. Never `trusted.*`, which steer
/// overlayfs itself (a redirect would reach any directory of the machine).
fn xattrs(entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for extension in entry.pax_extensions().map_err(broken)?.into_iter().flatten() {
        let extension = extension.map_err(broken)?;
        let name = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr."));
        let allowed = |name: &&str| {
            *name == "security.capability"
                || (name.starts_with("user.") && !name.starts_with("user.overlay."))
        };
        if let Some(name) = name.filter(allowed) {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn broken(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Error::Invalid(format!("the layer is too large: {error}")),
        _ => Error::Invalid(format!("cannot unpack the layer: {error}")),
    }
}
