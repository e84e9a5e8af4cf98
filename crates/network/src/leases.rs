//! Who has which address: a file an address, whose making is the taking.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::{Error, Result, Subnet};

/// The file that holds the address given out last.
const LAST: &str = "last";

/// Leases of a subnet's addresses, each to a holder named by an id.
///
/// An address that was given back is taken again only after all others had their turn: what still talks to its former
/// holder must not reach the next one.
#[derive(Debug)]
pub struct Leases {
    directory: PathBuf,
    subnet: Subnet,
}

impl Leases {
    /// Opens the leases in a directory, which is made.
    pub fn open(directory: &Path, subnet: Subnet) -> Result<Self> {
        let directory = directory.join("leases");
        fs::create_dir_all(&directory).map_err(file(&directory))?;
        Ok(Self { directory, subnet })
    }

    /// The address of a holder, which gets one if it has none.
    pub fn take(&self, id: &str) -> Result<Ipv4Addr> {
        if let Some((address, _)) = self.all()?.into_iter().find(|(_, holder)| holder == id) {
            return Ok(address);
        }
        let last = fs::read_to_string(self.directory.join(LAST)).ok();
        let last = last.and_then(|text| self.subnet.number(text.trim().parse().ok()?));
        let start = last.map_or(0, |last| last + 1);
        let count = self.subnet.pods();
        for step in 0..count {
            let number = (u64::from(start) + u64::from(step)) % u64::from(count);
            let number = u32::try_from(number).unwrap_or(0);
            let Some(address) = self.subnet.pod(number) else { continue };
            if self.claim(address, id)? {
                self.replace(LAST, &address.to_string())?;
                return Ok(address);
            }
        }
        Err(Error::Exhausted(self.subnet))
    }

    /// Ends the lease of a holder, if it has one.
    pub fn give_back(&self, id: &str) -> Result<()> {
        for (address, holder) in self.all()? {
            if holder == id {
                let path = self.directory.join(address.to_string());
                fs::remove_file(&path).map_err(file(&path))?;
            }
        }
        Ok(())
    }

    /// All who have an address.
    pub fn holders(&self) -> Result<Vec<String>> {
        Ok(self.all()?.into_iter().map(|(_, holder)| holder).collect())
    }

    fn all(&self) -> Result<Vec<(Ipv4Addr, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(file(&self.directory))? {
            let path = entry.map_err(file(&self.directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(address) = name.and_then(|name| name.parse().ok()) else { continue };
            found.push((address, fs::read_to_string(&path).map_err(file(&path))?));
        }
        found.sort();
        Ok(found)
    }

    /// Takes an address if it is free: the whole lease appears at once, or somebody else's is there.
    fn claim(&self, address: Ipv4Addr, id: &str) -> Result<bool> {
        let path = self.directory.join(address.to_string());
        let new = self.write_new(id)?;
        let linked = fs::hard_link(&new, &path);
        fs::remove_file(&new).map_err(file(&new))?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(file(&path)(error)),
        }
    }

    fn replace(&self, name: &str, text: &str) -> Result<()> {
        let (new, path) = (self.write_new(text)?, self.directory.join(name));
        fs::rename(&new, &path).map_err(file(&path))
    }

    fn write_new(&self, text: &str) -> Result<PathBuf> {
        let path = self.directory.join("new");
        let mut new = File::create(&path).map_err(file(&path))?;
        new.write_all(text.as_bytes()).map_err(file(&path))?;
        Ok(path)
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_given_back_waits_for_its_turn() {
        let directory = tempfile::tempdir().unwrap();
        let leases = Leases::open(directory.path(), "10.0.0.0/29".parse().unwrap()).unwrap();
        let first = leases.take("a").unwrap();
        assert_eq!(leases.take("a").unwrap(), first);
        leases.give_back("a").unwrap();
        let others: Vec<_> = (0..4).map(|n| leases.take(&n.to_string()).unwrap()).collect();
        assert!(!others.contains(&first));
        // Another process goes on where this one was.
        let leases = Leases::open(directory.path(), "10.0.0.0/29".parse().unwrap()).unwrap();
        assert_eq!(leases.take("b").unwrap(), first);
        assert!(matches!(leases.take("c"), Err(Error::Exhausted(_))));
    }

    proptest! {
        #[test]
        fn no_address_has_two_holders(calls in prop::collection::vec((0u8..2, 0u8..8), 0..40)) {
            let directory = tempfile::tempdir().unwrap();
            let leases = Leases::open(directory.path(), "10.0.0.0/29".parse().unwrap()).unwrap();
            let mut model: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
            for (call, id) in calls {
                let id = id.to_string();
                if call == 0 {
                    match leases.take(&id) {
                        Ok(address) => {
                            prop_assert!(model.iter().all(|(holder, held)| *held != address || *holder == id));
                            if let Some(before) = model.insert(id, address) {
                                prop_assert_eq!(before, address);
                            }
                        }
                        Err(_) => prop_assert_eq!(model.len(), 5),
                    }
                } else {
                    leases.give_back(&id).unwrap();
                    model.remove(&id);
                }
                let mut holders = leases.holders().unwrap();
                holders.sort();
                prop_assert_eq!(holders, model.keys().cloned().collect::<Vec<_>>());
            }
        }
    }
}
