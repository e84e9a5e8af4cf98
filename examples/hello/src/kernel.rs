//! Linux's system calls, as far as this program needs them, and the functions that compiled code expects of a C library.

use core::arch::{asm, naked_asm};

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const READ: usize = 0;
    pub(super) const WRITE: usize = 1;
    pub(super) const CLOSE: usize = 3;
    pub(super) const SOCKET: usize = 41;
    pub(super) const BIND: usize = 49;
    pub(super) const LISTEN: usize = 50;
    pub(super) const SETSOCKOPT: usize = 54;
    pub(super) const UNAME: usize = 63;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const PPOLL: usize = 271;
    pub(super) const ACCEPT4: usize = 288;
    pub(super) const SIGNALFD4: usize = 289;
    pub(super) const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const READ: usize = 63;
    pub(super) const WRITE: usize = 64;
    pub(super) const CLOSE: usize = 57;
    pub(super) const SOCKET: usize = 198;
    pub(super) const BIND: usize = 200;
    pub(super) const LISTEN: usize = 201;
    pub(super) const SETSOCKOPT: usize = 208;
    pub(super) const UNAME: usize = 160;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const PPOLL: usize = 73;
    pub(super) const ACCEPT4: usize = 242;
    pub(super) const SIGNALFD4: usize = 74;
    pub(super) const EXIT_GROUP: usize = 94;
}

/// A system call. Negative results are error numbers.
#[cfg(target_arch = "x86_64")]
fn call(number: usize, args: [usize; 5]) -> isize {
    let result;
    // SAFETY: the kernel reads and writes only what the arguments point to, which every caller owns.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    result
}

/// A system call. Negative results are error numbers.
#[cfg(target_arch = "aarch64")]
fn call(number: usize, args: [usize; 5]) -> isize {
    let result;
    // SAFETY: the kernel reads and writes only what the arguments point to, which every caller owns.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4], options(nostack));
    }
    result
}

/// The first instruction: the stack holds the number of arguments and then pointers to them.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start)
}

/// The first instruction: the stack holds the number of arguments and then pointers to them.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("mov x29, xzr", "mov x0, sp", "bl {start}", "brk 1", start = sym start)
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc here, then argc pointers to texts that end with a zero byte, all of which live as
    // long as the program.
    let argument = unsafe {
        let count = *stack;
        (count > 1).then(|| {
            let text = *stack.add(2) as *const u8;
            let mut length = 0;
            while *text.add(length) != 0 {
                length += 1;
            }
            core::slice::from_raw_parts(text, length)
        })
    };
    exit(crate::main(argument))
}

/// Ends the program.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        call(number::EXIT_GROUP, [code as usize, 0, 0, 0, 0]);
    }
}

/// Reads what is there.
pub(crate) fn read(fd: i32, buffer: &mut [u8]) -> isize {
    call(number::READ, [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0])
}

/// Writes all of it, or as much as goes.
pub(crate) fn write(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match call(number::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0]) {
            written if written > 0 => bytes = bytes.get(written as usize..).unwrap_or_default(),
            _ => return,
        }
    }
}

/// Closes a file.
pub(crate) fn close(fd: i32) {
    call(number::CLOSE, [fd as usize, 0, 0, 0, 0]);
}

/// TERM, INT and PIPE no longer end the program; the first two can be read from the file returned.
pub(crate) fn signals_as_file() -> i32 {
    const TERM_AND_INT: u64 = 1 << 14 | 1 << 1;
    const PIPE: u64 = 1 << 12;
    let (ending, blocked) = (TERM_AND_INT, TERM_AND_INT | PIPE);
    call(number::RT_SIGPROCMASK, [0, &raw const blocked as usize, 0, 8, 0]);
    call(number::SIGNALFD4, [usize::MAX, &raw const ending as usize, 8, 0, 0]) as i32
}

/// A socket that listens on all addresses of a port.
pub(crate) fn listen(port: u16) -> i32 {
    const INTERNET: usize = 2;
    const STREAM_CLOSE_ON_EXEC: usize = 1 | 0o2000000;
    let socket = call(number::SOCKET, [INTERNET, STREAM_CLOSE_ON_EXEC, 0, 0, 0]);
    let on = 1i32;
    call(number::SETSOCKOPT, [socket as usize, 1, 2, &raw const on as usize, 4]);
    let port = port.to_be_bytes();
    let address: [u8; 16] = [2, 0, port[0], port[1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if call(number::BIND, [socket as usize, address.as_ptr() as usize, 16, 0, 0]) < 0 {
        return -1;
    }
    match call(number::LISTEN, [socket as usize, 128, 0, 0, 0]) {
        0 => socket as i32,
        _ => -1,
    }
}

/// The host's name.
pub(crate) fn host_name(buffer: &mut [u8; 65]) -> &[u8] {
    let mut names = [[0u8; 65]; 6];
    call(number::UNAME, [names.as_mut_ptr() as usize, 0, 0, 0, 0]);
    *buffer = names[1];
    let length = buffer.iter().position(|byte| *byte == 0).unwrap_or(0);
    &buffer[..length]
}

/// What there is to do.
pub(crate) enum Ready {
    Ending,
    Connection(i32),
    Nothing,
}

/// Waits for a signal or a connection.
pub(crate) fn wait(ending: i32, listener: i32) -> Ready {
    #[repr(C)]
    struct Poll {
        fd: i32,
        wanted: i16,
        ready: i16,
    }
    let mut polled = [Poll { fd: ending, wanted: 1, ready: 0 }, Poll { fd: listener, wanted: 1, ready: 0 }];
    call(number::PPOLL, [polled.as_mut_ptr() as usize, 2, 0, 0, 8]);
    if polled[0].ready != 0 {
        return Ready::Ending;
    }
    if polled[1].ready == 0 {
        return Ready::Nothing;
    }
    match call(number::ACCEPT4, [listener as usize, 0, 0, 0o2000000, 0]) {
        connection if connection >= 0 => {
            // Two seconds for either direction: one client must not hold up the others for longer.
            let limit: [u64; 2] = [2, 0];
            for option in [20, 21] {
                call(number::SETSOCKOPT, [connection as usize, 1, option, limit.as_ptr() as usize, 16]);
            }
            Ready::Connection(connection as i32)
        }
        _ => Ready::Nothing,
    }
}

/// A short text in the making; what does not fit is cut off.
pub(crate) struct Text {
    bytes: [u8; 512],
    length: usize,
}

impl Text {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 512], length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn add(&mut self, more: &[u8]) -> &mut Self {
        for byte in more {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
        self
    }

    pub(crate) fn number(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let digits = digits;
        self.add(&digits[first..])
    }
}

/// Compiled code calls these by name. Volatile, so that the compiler does not see a copy in them and call them again.
mod expected {
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: the caller promises `length` bytes on both sides.
            unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        for step in 0..length {
            // From the end where the regions may overlap that way.
            let index = if (to as usize) < from as usize { step } else { length - 1 - step };
            // SAFETY: as above.
            unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: as above.
            unsafe { to.add(index).write_volatile(byte as u8) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
        for index in 0..length {
            // SAFETY: as above.
            let (a, b) = unsafe { (one.add(index).read_volatile(), other.add(index).read_volatile()) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut length = 0;
        // SAFETY: the caller promises a zero byte.
        while unsafe { text.add(length).read_volatile() } != 0 {
            length += 1;
        }
        length
    }

    /// The precompiled core library names it for unwinding, which this program never does.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
        // SAFETY: the same promise.
        unsafe { memcmp(one, other, length) }
    }
}
