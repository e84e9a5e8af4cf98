//! What a component may be given of the machine it runs on. One that answers requests beside others gets none of it; one in
//! a pod of its own gets what the pod is.

use std::path::PathBuf;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// Arguments, directories, network and standard streams. The default is none of them.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// What a program finds as its arguments, its own name first.
    pub arguments: Vec<String>,
    /// Directories that it finds open, the outermost first.
    pub directories: Vec<Directory>,
    /// Where relative paths begin; empty: it is not told.
    pub working_directory: String,
    /// Whether it may use sockets, look up names, and send requests to wherever `egress` allows.
    pub network: bool,
    /// Whether its standard streams are this process's own, instead of lines for the log.
    pub standard_streams: bool,
}

/// A directory of this machine under the name that the component has for it.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Here.
    pub host: PathBuf,
    /// There, absolute.
    pub guest: String,
    /// Whether writing is refused.
    pub readonly: bool,
}

impl Surroundings {
    /// Adds what is given. A directory that cannot be opened is missing, and the log says why: whoever gives one tries it
    /// before ([`Directory::try_open`]).
    pub(crate) fn grant(&self, builder: &mut WasiCtxBuilder) {
        builder.args(&self.arguments).allow_tcp(self.network).allow_udp(self.network);
        if self.network {
            builder.inherit_network().allow_ip_name_lookup(true);
        }
        if !self.working_directory.is_empty() {
            builder.initial_cwd(&self.working_directory);
        }
        if self.standard_streams {
            builder.inherit_stdio();
        }
        for directory in &self.directories {
            let perms = if directory.readonly { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            if let Err(error) = builder.preopened_dir(&directory.host, &directory.guest, perms) {
                tracing::warn!(directory = directory.guest, %error, "a directory cannot be opened");
            }
        }
    }
}

impl Directory {
    /// Whether it can be given.
    pub(crate) fn try_open(&self) -> std::io::Result<()> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.host, flags, Mode::empty()).map(drop).map_err(std::io::Error::from)
    }
}
