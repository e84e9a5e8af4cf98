//! Programs that make one system call, written byte by byte: what a shell cannot try, and no compiler is there for.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where a program lies in memory.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// Writes a program that makes this call and ends with its error's number, 0 if there is none.
pub(crate) fn write_caller(path: &Path, number: u32, arguments: [u64; 6]) {
    let code = code(number, arguments);
    let size = HEADERS + code.len() as u64;
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    // A 64-bit, little-endian executable of one segment that is read and run.
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    elf.resize(16, 0);
    for half in [2, machine] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes());
    for long in [BASE + HEADERS, 64, 0] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1u32, 5] {
        elf.extend(word.to_le_bytes());
    }
    for long in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(code);
    std::fs::write(path, elf).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(target_arch = "x86_64")]
fn code(number: u32, arguments: [u64; 6]) -> Vec<u8> {
    // mov to rax, rdi, rsi, rdx, r10, r8, r9
    let registers =
        [[0x48, 0xb8], [0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
    let values = std::iter::once(u64::from(number)).chain(arguments);
    let mut code: Vec<u8> = registers
        .iter()
        .zip(values)
        .flat_map(|(mov, value)| [mov.to_vec(), value.to_le_bytes().to_vec()].concat())
        .collect();
    // syscall; mov rdi, rax; neg rdi; cmp rdi, 4096; jb over; xor edi, edi; over: mov eax, exit_group; syscall
    code.extend([0x0f, 0x05, 0x48, 0x89, 0xc7, 0x48, 0xf7, 0xdf, 0x48, 0x81, 0xff, 0x00, 0x10, 0x00, 0x00]);
    code.extend([0x72, 0x02, 0x31, 0xff, 0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f, 0x05]);
    code
}

#[cfg(target_arch = "aarch64")]
fn code(number: u32, arguments: [u64; 6]) -> Vec<u8> {
    let mut words: Vec<u32> = vec![];
    let values = (0u32..).zip(arguments).chain([(8, u64::from(number))]);
    for (register, value) in values {
        // movz, then three times movk
        for part in 0..4u32 {
            let keep = if part == 0 { 0xd280_0000 } else { 0xf280_0000 };
            words.push(keep | part << 21 | ((value >> (16 * part)) as u32 & 0xffff) << 5 | register);
        }
    }
    // svc; neg x0, x0; cmp x0, 4095; b.ls over; mov x0, 0; over: mov x8, exit_group; svc
    words.extend([0xd400_0001, 0xcb00_03e0, 0xf13f_fc1f, 0x5400_0049, 0xd280_0000, 0xd280_0bc8, 0xd400_0001]);
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}
