//! A static HTTP server without a C library: see README.md.
#![no_std]
#![no_main]

mod kernel;

use kernel::Text;

const BUSY: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: ";

/// What a request asks for.
#[derive(PartialEq)]
enum Asked {
    Hello,
    Health,
    Crash,
    Unknown,
}

fn asked(request: &[u8]) -> Asked {
    let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    match path {
        b"/" => Asked::Hello,
        b"/healthz" => Asked::Health,
        b"/crash" => Asked::Crash,
        _ => Asked::Unknown,
    }
}

/// Answers one connection. Slow or silent clients are left after the socket's time limit.
fn serve(connection: i32, host: &[u8], count: &mut u64) {
    let mut request = [0u8; 4096];
    let mut length = 0;
    while length < request.len() && !request[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match kernel::read(connection, &mut request[length..]) {
            read if read > 0 => length += read as usize,
            _ => break,
        }
    }
    let mut body = Text::new();
    let head = match asked(&request[..length]) {
        Asked::Crash => {
            kernel::write(1, b"asked to crash\n");
            kernel::exit(1)
        }
        Asked::Hello => {
            *count += 1;
            body.add(b"hello from ").add(host).add(b", request ").number(*count).add(b"\n");
            kernel::write(1, body.bytes());
            BUSY
        }
        Asked::Health => {
            body.add(b"ok\n");
            BUSY
        }
        Asked::Unknown => {
            body.add(b"not found\n");
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: "
        }
    };
    let mut answer = Text::new();
    answer.add(head.as_bytes()).number(body.bytes().len() as u64).add(b"\r\n\r\n").add(body.bytes());
    kernel::write(connection, answer.bytes());
}

/// Called by the program's first instruction, with its arguments.
pub(crate) fn main(argument: Option<&[u8]>) -> i32 {
    let port = argument
        .and_then(|text| core::str::from_utf8(text).ok())
        .map_or(Some(8080), |text| text.parse::<u16>().ok());
    let Some(port) = port else {
        kernel::write(2, b"usage: hello [PORT]\n");
        return 2;
    };
    let ending = kernel::signals_as_file();
    let listener = kernel::listen(port);
    if ending < 0 || listener < 0 {
        kernel::write(2, b"hello: cannot listen\n");
        return 1;
    }
    let mut name = [0u8; 65];
    let host = kernel::host_name(&mut name);
    let mut ready = Text::new();
    ready.add(b"listening on port ").number(port.into()).add(b"\n");
    kernel::write(1, ready.bytes());
    let mut count = 0;
    loop {
        match kernel::wait(ending, listener) {
            kernel::Ready::Ending => return 0,
            kernel::Ready::Connection(connection) => {
                serve(connection, host, &mut count);
                kernel::close(connection);
            }
            kernel::Ready::Nothing => {}
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    kernel::write(2, b"hello: panicked\n");
    kernel::exit(101)
}
