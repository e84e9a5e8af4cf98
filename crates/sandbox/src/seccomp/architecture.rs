//! Instruction sets, and the numbers that system calls have in each.

use std::str::FromStr;

/// An instruction set whose calls a filter tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    X86,
    Aarch64,
    Arm,
}

/// From this number on, a call of x86_64 is one of its 32-bit variant x32.
pub(super) const X32: u32 = 0x4000_0000;

/// Calls of 32-bit ARM that are missing in the table: its own ones, and a name that one has in profiles.
const ARM_OWN: [(&str, u32); 4] =
    [("breakpoint", 0x0f_0001), ("cacheflush", 0x0f_0002), ("set_tls", 0x0f_0005), ("sync_file_range2", 341)];

impl Architecture {
    /// The machine's.
    pub(super) fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// By its name in profiles. `None`: one that this machine does not run, or x32, which is never allowed.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Self::X86_64),
            "SCMP_ARCH_X86" => Some(Self::X86),
            "SCMP_ARCH_AARCH64" => Some(Self::Aarch64),
            "SCMP_ARCH_ARM" => Some(Self::Arm),
            _ => None,
        }
    }

    /// Its name in a profile's conditions, which is Go's.
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// What the kernel calls it (`AUDIT_ARCH_*`): the ELF machine, and bits for 64 bits and little endian.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xC000_00B7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// A call's number; `None` if there is no such call here.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let number = match self {
            Self::X86_64 => syscalls::x86_64::Sysno::from_str(name).ok()?.id(),
            Self::X86 => syscalls::x86::Sysno::from_str(name).ok()?.id(),
            Self::Aarch64 => {
                // The table has the kernel's name for it, profiles have libc's.
                let name = if name == "newfstatat" { "fstatat" } else { name };
                syscalls::aarch64::Sysno::from_str(name).ok()?.id()
            }
            Self::Arm => match ARM_OWN.iter().find(|(own, _)| *own == name) {
                Some((_, number)) => return Some(*number),
                None => syscalls::arm::Sysno::from_str(name).ok()?.id(),
            },
        };
        u32::try_from(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_each_architectures_number() {
        let numbers = |name: &str| {
            [Architecture::X86_64, Architecture::X86, Architecture::Aarch64, Architecture::Arm]
                .map(|architecture| architecture.number(name))
        };
        assert_eq!(numbers("read"), [Some(0), Some(3), Some(63), Some(3)]);
        assert_eq!(numbers("newfstatat"), [Some(262), None, Some(79), None]);
        assert_eq!(numbers("open"), [Some(2), Some(5), None, Some(5)]);
        assert_eq!(numbers("set_tls"), [None, None, None, Some(0x0f_0005)]);
        assert_eq!(numbers("fly"), [None; 4]);
    }
}
