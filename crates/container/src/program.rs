//! The program that a process becomes.

use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A program that was found, with its words and its environment.
#[derive(Clone, Debug)]
pub struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Finds the program that the first word names, in the environment's `PATH` if it is a mere name; as the user that will
    /// run it and from its working directory.
    ///
    /// # Errors
    /// When there is none that can be executed, in upstream's words.
    pub fn find(args: &[String], env: &[String]) -> Result<Self, String> {
        let name = args.first().ok_or("no command configured")?;
        let path = locate(name, env)?;
        let text = |text: &[u8]| {
            CString::new(text).map_err(|_| format!("exec: {name:?}: a word or a variable has a NUL in it"))
        };
        Ok(Self {
            path: text(path.as_os_str().as_encoded_bytes())?,
            args: args.iter().map(|arg| text(arg.as_bytes())).collect::<Result<_, _>>()?,
            env: env.iter().map(|variable| text(variable.as_bytes())).collect::<Result<_, _>>()?,
        })
    }

    /// Becomes the program. What is returned is why not.
    #[must_use]
    pub fn execute(&self) -> String {
        match nix::unistd::execve(&self.path, &self.args, &self.env) {
            Ok(never) => match never {},
            Err(error) => format!("exec {:?}: {}", self.path, std::io::Error::from(error)),
        }
    }
}

fn locate(name: &str, env: &[String]) -> Result<PathBuf, String> {
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("");
    let candidates: Vec<PathBuf> = match name.contains('/') {
        true => vec![PathBuf::from(name)],
        false => path.split(':').map(|directory| Path::new(directory).join(name)).collect(),
    };
    let mut why = format!("exec: {name:?}: executable file not found in $PATH");
    for candidate in candidates {
        match candidate.metadata() {
            Ok(metadata) if metadata.is_dir() => why = format!("exec: {name:?}: is a directory"),
            Ok(_) => match rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK) {
                Ok(()) => return Ok(candidate),
                Err(error) => why = format!("exec: {name:?}: {error}"),
            },
            Err(error) if name.contains('/') => why = format!("exec: {name:?}: {error}"),
            Err(_) => {}
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let env = ["PATH=/nowhere".to_owned(), "PATH=/dev:/bin".to_owned()];
        let words = |name: &str| vec![name.to_owned(), "x".to_owned()];
        assert_eq!(Program::find(&words("sh"), &env).unwrap().path.as_bytes(), b"/bin/sh");
        assert_eq!(Program::find(&words("/bin/sh"), &[]).unwrap().args.len(), 2);
        for (name, why) in [
            ("no-such-program", "exec: \"no-such-program\": executable file not found in $PATH"),
            ("/bin", "is a directory"),
            ("/etc/passwd", "ermission denied"),
            ("/missing", "No such file"),
            ("sh\0", "$PATH"),
        ] {
            let error = Program::find(&words(name), &env).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(Program::find(&[], &env).unwrap_err().contains("no command"));
    }
}
