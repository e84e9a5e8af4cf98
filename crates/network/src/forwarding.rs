//! The machine's switch for passing packets on between interfaces.

use std::fs;
use std::path::Path;

use crate::{Error, Result, masquerade};

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
/// Its presence in the state directory: the switch was off before.
const WAS_OFF: &str = "forwarding-was-off";

/// Turns it on, and remembers to turn it off again.
pub(crate) fn enable(state: &Path) -> Result<()> {
    let error = |source| Error::File { path: SWITCH.into(), source };
    if fs::read_to_string(SWITCH).map_err(error)?.trim() == "0" {
        let note = state.join(WAS_OFF);
        fs::write(&note, b"").map_err(|source| Error::File { path: note, source })?;
        fs::write(SWITCH, "1").map_err(error)?;
    }
    Ok(())
}

/// Puts it back, unless another network of ours needs it.
pub(crate) fn restore(state: &Path) -> Result<()> {
    if state.join(WAS_OFF).exists() && !masquerade::any()? {
        fs::write(SWITCH, "0").map_err(|source| Error::File { path: SWITCH.into(), source })?;
    }
    Ok(())
}
