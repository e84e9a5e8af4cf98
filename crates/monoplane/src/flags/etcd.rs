//! Flags of a store on etcd.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::time;

/// Where the API server keeps its state, if not in a file of its own: upstream's flags.
#[derive(Clone, Debug, Default, Args)]
pub struct Etcd {
    /// etcd servers (version 3) to keep the state in, as https://HOST:PORT, separated by commas; several API servers may
    /// share it [default: a file in the data directory]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// CA of the etcd servers' certificates (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_servers")]
    pub etcd_cafile: Option<PathBuf>,
    /// Certificate to show to etcd (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile", requires = "etcd_cafile")]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// What every key in etcd begins with; two planes on one etcd need two
    #[arg(long, value_name = "PREFIX", default_value = "/monoplane", value_parser = etcd_prefix)]
    pub etcd_prefix: String,
    /// How much history etcd keeps, for all who use it; 0s: somebody else compacts it
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    pub etcd_compaction_interval: Duration,
}

impl Etcd {
    /// The same as words, with files at these places.
    pub fn words(
        &self,
        files: impl Fn(&str, &Path, &str) -> anyhow::Result<OsString>,
    ) -> anyhow::Result<Vec<OsString>> {
        if self.etcd_servers.is_empty() {
            return Ok(Vec::new());
        }
        let interval = format!("{}ms", self.etcd_compaction_interval.as_millis());
        let mut words: Vec<OsString> = vec!["--etcd-servers".into(), self.etcd_servers.join(",").into()];
        words.extend(["--etcd-prefix".into(), self.etcd_prefix.clone().into()]);
        words.extend(["--etcd-compaction-interval".into(), interval.into()]);
        let named = [
            ("--etcd-cafile", &self.etcd_cafile, "etcd-ca.crt"),
            ("--etcd-certfile", &self.etcd_certfile, "etcd-client.crt"),
            ("--etcd-keyfile", &self.etcd_keyfile, "etcd-client.key"),
        ];
        for (flag, file, name) in named {
            if let Some(file) = file {
                words.extend([flag.into(), files(flag, file, name)?]);
            }
        }
        Ok(words)
    }
}

/// Keys begin with it, so that it has to end where a name does.
fn etcd_prefix(text: &str) -> Result<String, String> {
    let trimmed = text.trim_end_matches('/');
    match trimmed.starts_with('/') && trimmed.len() > 1 {
        true => Ok(trimmed.to_owned()),
        false => Err("a path such as /monoplane".to_owned()),
    }
}
