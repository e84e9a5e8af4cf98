//! The machine's switches for passing packets on between interfaces, one a family.

use std::fs;
use std::path::Path;

use crate::nft::Family;
use crate::{Error, Result, masquerade};

/// One of them.
struct Switch {
    family: Family,
    path: &'static str,
    /// A file in the state directory whose presence says that it was off before.
    was_off: &'static str,
}

const V4: Switch =
    Switch { family: Family::Ipv4, path: "/proc/sys/net/ipv4/ip_forward", was_off: "forwarding-was-off" };
/// Turning it on keeps the machine from taking addresses and routes from routers' advertisements.
const V6: Switch = Switch {
    family: Family::Ipv6,
    path: "/proc/sys/net/ipv6/conf/all/forwarding",
    was_off: "forwarding6-was-off",
};

/// Turns them on, and remembers to turn them off again; that of IPv6 where it is asked for.
pub(crate) fn enable(state: &Path, v6: bool) -> Result<()> {
    V4.enable(state)?;
    if v6 { V6.enable(state) } else { Ok(()) }
}

/// Puts them back, unless another network of ours needs them.
pub(crate) fn restore(state: &Path) -> Result<()> {
    V4.restore(state)?;
    V6.restore(state)
}

impl Switch {
    fn enable(&self, state: &Path) -> Result<()> {
        let error = |source| Error::File { path: self.path.into(), source };
        if fs::read_to_string(self.path).map_err(error)?.trim() == "0" {
            let note = state.join(self.was_off);
            fs::write(&note, b"").map_err(|source| Error::File { path: note, source })?;
            fs::write(self.path, "1").map_err(error)?;
        }
        Ok(())
    }

    fn restore(&self, state: &Path) -> Result<()> {
        if state.join(self.was_off).exists() && !masquerade::any(self.family)? {
            fs::write(self.path, "0").map_err(|source| Error::File { path: self.path.into(), source })?;
        }
        Ok(())
    }
}
