//! Makes running pods look as the first release left them: records without what came later, and shims that speak version 1
//! of the protocol. The containers stay what they are; what a shim is told and says goes through a relay that knows no
//! more than that release did.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};

/// The calls of the first release.
const CALLS: [&str; 9] =
    ["state", "watch", "create", "start", "kill", "delete", "reopen_log", "exec", "shutdown"];

/// Sets back every sandbox below a node's state directory, of which no process may be at work, and returns how many.
pub(crate) fn set_back(state: &Path) -> usize {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sandbox/tests/records/0.1");
    let sandboxes = directories(&state.join("sandboxes"));
    for sandbox in &sandboxes {
        for name in ["sandbox.json", "shim.json", "shim-config.json"] {
            strip(&sandbox.join(name), &records.join(name));
        }
        for container in directories(&sandbox.join("containers")) {
            for name in ["container.json", "plan.json", "state.json"] {
                strip(&container.join(name), &records.join(name));
            }
        }
        relay(sandbox);
    }
    sandboxes.len()
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
}

/// Leaves in a record what one of that release has, too.
fn strip(record: &Path, sample: &Path) {
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a record")).expect("JSON")
    };
    if record.exists() {
        let kept = common(read(record), &read(sample));
        std::fs::write(record, kept.to_string()).expect("a record");
    }
}

fn common(value: Value, sample: &Value) -> Value {
    match (value, sample) {
        // An empty one is a map from names, not a record.
        (Value::Object(fields), Value::Object(known)) if !known.is_empty() => {
            let kept = fields.into_iter().filter_map(|(name, value)| {
                let value = common(value, known.get(&name)?);
                Some((name, value))
            });
            Value::Object(kept.collect())
        }
        (value, _) => value,
    }
}

/// Stands before a sandbox's shim from now on.
fn relay(sandbox: &Path) {
    let (front, back) = (sandbox.join("shim.sock"), sandbox.join("now.sock"));
    std::fs::rename(&front, &back).expect("the shim's socket");
    let listener = UnixListener::bind(front).expect("a socket");
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            let back = back.clone();
            // A caller or a shim that has gone is the other's to hear of.
            std::thread::spawn(move || pass_on(&caller, &back).ok());
        }
    });
}

fn pass_on(mut caller: &UnixStream, back: &Path) -> std::io::Result<()> {
    let (frame, files) = receive(caller)?;
    let request: Value = serde_json::from_slice(&frame[4..])?;
    let call = &request["call"];
    let name = call.as_str().or_else(|| Some(call.as_object()?.keys().next()?.as_str())).unwrap_or_default();
    let refusal = match CALLS.contains(&name) {
        false => Some(format!("bad request: unknown variant `{name}`, expected one of `state`, `watch`")),
        true => (request["version"] != 1).then(|| "this shim speaks version 1".to_owned()),
    };
    if let Some(why) = refusal {
        let text = json!({ "error": why }).to_string();
        caller.write_all(&(text.len() as u32).to_be_bytes())?;
        return caller.write_all(text.as_bytes());
    }
    let mut shim = UnixStream::connect(back)?;
    send(&shim, &frame, &files)?;
    drop(files);
    let (mut hangs_up, asked) = (caller.try_clone()?, shim.try_clone()?);
    std::thread::spawn(move || {
        // Nothing more is said; its end is passed on.
        let _ = hangs_up.read(&mut [0]);
        let _ = asked.shutdown(Shutdown::Both);
    });
    std::io::copy(&mut shim, &mut caller)?;
    caller.shutdown(Shutdown::Both)
}

/// One frame, with its length, and the files that come along.
fn receive(caller: &UnixStream) -> std::io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut frame, mut files) = (Vec::new(), Vec::new());
    let whole = |frame: &[u8]| {
        frame.first_chunk().is_some_and(|length| frame.len() >= 4 + u32::from_be_bytes(*length) as usize)
    };
    while !whole(&frame) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let count = recvmsg(caller, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                files.extend(came);
            }
        }
        frame.extend_from_slice(&buffer[..count]);
    }
    Ok((frame, files))
}

fn send(shim: &UnixStream, frame: &[u8], files: &[OwnedFd]) -> std::io::Result<()> {
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)), "too many files");
    }
    let sent = sendmsg(shim, &[IoSlice::new(frame)], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut rest = shim;
    rest.write_all(&frame[sent..])
}
