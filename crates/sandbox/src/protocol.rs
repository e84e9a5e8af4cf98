//! What a node process and a pod's shim say to each other: frames of a length and JSON over a unix socket, one call a
//! connection.
//!
//! Both ends may be of different releases of the program, since a shim outlives the node process that started it. Each
//! speaks a range of versions; a node asks for the shim's ([`Call::Hello`]) whenever it meets one, and speaks the highest
//! that both know. The version is in each request. A call that a shim does not know is answered by
//! [`Reply::Unsupported`], so calls may be added without a new version; what changes a call's meaning needs one.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The versions that this program speaks. Version 1 is that of the first release, which knows no `Hello`; who speaks
/// version 2 honours all of a plan that confines a container, who speaks version 3 the images in it, who speaks version 4
/// where it has the writable layer.
pub(crate) const VERSIONS: RangeInclusive<u32> = 1..=4;
/// The first version whose shims confine a container's system calls, limit its devices on v2, and leave out the image's
/// groups.
pub(crate) const CONFINES: u32 = 2;
/// The first version whose shims mount the files of images.
pub(crate) const MOUNTS_IMAGES: u32 = 3;
/// The first version whose shims put a container's writable layer where its plan says.
pub(crate) const WRITES_APART: u32 = 4;
/// The longest frame that either end takes.
pub(crate) const MAX_FRAME: usize = 1 << 20;

/// The highest version that both we and somebody who speaks `min` to `max` know.
pub(crate) fn common_version(min: u32, max: u32) -> Option<u32> {
    let highest = max.min(*VERSIONS.end());
    (highest >= min.max(*VERSIONS.start())).then_some(highest)
}

/// A call, as it is sent; [`understand`] reads it.
#[derive(Debug, Serialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    pub(crate) call: Call,
}

/// Reads a request. An error is the answer to one that cannot be done.
pub(crate) fn understand(frame: &[u8]) -> Result<Call, Reply> {
    #[derive(Deserialize)]
    struct Any {
        version: u32,
        call: serde_json::Value,
    }
    let bad = |error: serde_json::Error| Reply::Error(format!("bad request: {error}"));
    let Any { version, call } = serde_json::from_slice(frame).map_err(bad)?;
    match serde_json::from_value(call) {
        // Asked before there is a version to speak.
        Ok(call @ Call::Hello { .. }) => Ok(call),
        Ok(call) if VERSIONS.contains(&version) => Ok(call),
        Ok(_) => Err(Reply::Error(format!("this shim speaks versions {VERSIONS:?}, not {version}"))),
        Err(_) => Err(Reply::Unsupported),
    }
}

/// The calls. Files that a call needs lie in the container's directory, written before the call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// Which versions the caller speaks; answered by [`Reply::Hello`].
    Hello { min: u32, max: u32 },
    /// All containers; answered by [`Reply::State`].
    State,
    /// All containers now, then each that changes, until the caller hangs up: [`Reply::Container`] each.
    Watch,
    /// Makes a container; answered by [`Reply::Container`], as the next ones.
    Create { container: String },
    /// Runs it.
    Start { container: String },
    /// Signals its first process.
    Kill { container: String, signal: i32 },
    /// Forgets one that has ended.
    Delete { container: String },
    /// Opens its log file again.
    ReopenLog { container: String },
    /// Runs a command in it with the three files that come along; answered by [`Reply::Exited`]. A caller that hangs up
    /// ends the command.
    Exec { container: String, command: Vec<String> },
    /// Runs a command in it whose streams the caller keeps: on the three files that come along, or on a terminal, which
    /// comes with the answer. Answered by [`Reply::Started`] and then [`Reply::Exited`]. The command outlives its caller.
    Run { container: String, command: Vec<String>, terminal: bool },
    /// Copies what it writes from now on into the two files that come along. Answered by [`Reply::Started`], with the file
    /// that its input or its terminal is, if asked for or there; and by [`Reply::Exited`] when it has ended. Until the
    /// caller hangs up.
    Attach { container: String, stdin: bool },
    /// Begins to connect to a port of the pod's loopback address; answered by [`Reply::Started`] with the socket.
    Connect { port: u16, ipv6: bool },
    /// Ends all containers and then the shim.
    Shutdown,
}

/// The answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Done,
    /// Which versions the shim speaks.
    Hello {
        min: u32,
        max: u32,
    },
    /// There is no such call.
    Unsupported,
    /// What was asked for has begun; files that belong to it come along.
    Started,
    State(Vec<ContainerRecord>),
    Container(ContainerRecord),
    Exited(i32),
    NotFound,
    Error(String),
}

/// A container as its shim knows it; also the file that tells its end when the shim is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    /// First process; 0 before it is made.
    pub(crate) pid: i32,
    /// When that process began, in the kernel's ticks: tells it from a later one of the same number.
    pub(crate) start_ticks: u64,
    /// Nanoseconds since the Unix epoch, 0: not yet. So the next two.
    pub(crate) created_at: i64,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) exit_code: i32,
    pub(crate) oom_killed: bool,
    pub(crate) message: String,
}

/// A frame: big-endian length, then JSON.
pub(crate) fn encode(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Takes the first whole frame's content off a buffer. An error is a frame that is too long.
pub(crate) fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, usize> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_FRAME {
        return Err(length);
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let rest = buffer.split_off(4 + length);
    let mut frame = std::mem::replace(buffer, rest);
    frame.drain(..4);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_survive_any_cut(words in prop::collection::vec(".{0,20}", 0..6), cut in 1usize..9) {
            let stream: Vec<u8> = words.iter().flat_map(|word| encode(word).unwrap()).collect();
            let (mut buffer, mut read) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = take_frame(&mut buffer).unwrap() {
                    read.push(serde_json::from_slice::<String>(&frame).unwrap());
                }
            }
            prop_assert_eq!(read, words);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn whatever_arrives_is_a_call_or_an_answer(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            version in 0u32..4,
            call in "\"(hello|state|watch|fly)\"|\\{\"(kill|run|exec|hello|connect)\":\\{(\"(container|signal|min|max|port|ipv6)\":(1|-1|65536|true|\"x\"),?){0,3}\\}\\}",
        ) {
            let mut buffer = bytes.clone();
            while let Ok(Some(frame)) = take_frame(&mut buffer) {
                drop(understand(&frame));
            }
            prop_assert!(understand(&bytes).is_err());
            match understand(format!("{{\"version\":{version},\"call\":{call}}}").as_bytes()) {
                Ok(Call::Hello { .. }) | Err(_) => {}
                Ok(_) => prop_assert!(VERSIONS.contains(&version)),
            }
        }
    }

    #[test]
    fn releases_of_different_times_understand_each_other() {
        assert_eq!(common_version(1, 1), Some(1));
        assert_eq!(common_version(1, 7), Some(*VERSIONS.end()));
        assert_eq!(common_version(VERSIONS.end() + 1, 9), None);
        let said = |text: &str| understand(text.as_bytes());
        assert!(matches!(said(r#"{"version":1,"call":"state"}"#), Ok(Call::State)));
        // A later caller says hello in a version of its own, with words of its own.
        let hello = r#"{"version":9,"call":{"hello":{"min":1,"max":9,"name":"x"}}}"#;
        assert!(matches!(said(hello), Ok(Call::Hello { min: 1, max: 9 })));
        assert!(matches!(said(r#"{"version":9,"call":"state"}"#), Err(Reply::Error(_))));
        assert!(matches!(said(r#"{"version":1,"call":{"fly":{}}}"#), Err(Reply::Unsupported)));
        assert!(matches!(said("[]"), Err(Reply::Error(_))));
    }

    #[test]
    fn a_frame_too_long_is_refused_at_its_length() {
        assert_eq!(take_frame(&mut vec![0xff, 0xff, 0xff, 0xff]), Err(u32::MAX as usize));
    }
}
