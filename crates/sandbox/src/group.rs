//! A control group for a process that is no container, such as a role of the plane that runs other people's code.

use std::io;

use nix::unistd::Pid;
use runtime::Resources;

use crate::cgroup::Tree;

/// A named group with limits, which processes are put into. It stays when this value goes: a later process of the same
/// plane finds it again by its name.
#[derive(Clone, Debug)]
pub struct Group {
    tree: Tree,
    path: String,
}

impl Group {
    /// Makes the group, or takes the one that is there, and sets its limits. `path` is relative to the hierarchy's root.
    ///
    /// # Errors
    /// When this machine has no control groups, or they may not be written.
    pub fn create(path: &str, resources: &Resources) -> io::Result<Self> {
        let tree = Tree::detect()?;
        tree.create_leaf(path)?;
        tree.limit(path, resources)?;
        Ok(Self { tree, path: path.to_owned() })
    }

    /// Moves a process with all its threads into the group; what it starts from then on is in it too.
    ///
    /// # Errors
    /// When the process is gone, or the group.
    pub fn admit(&self, pid: u32) -> io::Result<()> {
        let pid = i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.tree.enter(&self.path, Pid::from_raw(pid))
    }

    /// Removes the group, and the ones above it that nothing else uses, unless somebody is in it.
    pub fn remove_if_empty(&self) {
        let mut path = self.path.as_str();
        loop {
            self.tree.remove_if_empty(path);
            match path.rsplit_once('/') {
                Some((above, _)) if !above.is_empty() => path = above,
                _ => return,
            }
        }
    }
}
