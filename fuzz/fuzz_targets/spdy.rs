//! SPDY frames: whatever a peer sends, in whatever pieces, is understood or refused, and what is decoded is bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streams::PIECE;
use streams::spdy::{Decoder, Frame};

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(usize::from(cut) + 1) {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.decode() {
                Ok(Some(Frame::Data { bytes, .. })) => assert!(bytes.len() <= PIECE),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
