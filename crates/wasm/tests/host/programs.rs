//! Programs as a pod's container has them: components and core modules, loaded and run to their end.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use wasm::CompileLimits;
use wasm::pod::{Cache, LoadError, Process, Program, Source};

use crate::fixture::compiler;

/// A module of WASI 0.1 that says something and exits with this code.
fn module(code: u8) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 8) "from a module\n")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 8))
                (i32.store (i32.const 4) (i32.const 14))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
                (call $exit (i32.const {code}))))"#
    );
    wat::parse_str(text).unwrap()
}

/// A component that says with which code it ends.
fn component(code: u8) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:cli/exit@0.2.12" (instance $exit
                (export "exit-with-code" (func (param "status-code" u8)))))
            (core func $exit (canon lower (func $exit "exit-with-code")))
            (core module $code
                (import "host" "exit" (func $exit (param i32)))
                (func (export "run") (result i32) (call $exit (i32.const {code})) (i32.const 0)))
            (core instance $code (instantiate $code (with "host" (instance (export "exit" (func $exit))))))
            (func $run (result (result)) (canon lift (core func $code "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.12" (instance $run)))"#
    );
    wat::parse_str(text).unwrap()
}

fn load_as(directory: &Path, program: &[u8], identity: Option<&str>) -> Result<Program, LoadError> {
    let path = directory.join("program");
    File::create(&path).and_then(|mut file| file.write_all(program)).unwrap();
    let source = Source { file: File::open(path).unwrap(), identity: identity.map(str::to_owned) };
    let cache = Cache { directory: directory.join("cache"), key_file: directory.join("key") };
    Program::load(source, Some(64 << 20), &cache, &compiler(CompileLimits::default()))
}

fn exit_code(program: &[u8]) -> i32 {
    let directory = tempfile::tempdir().unwrap();
    load_as(directory.path(), program, None).map(|program| program.run(Process::default())).unwrap()
}

fn refusal(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    load_as(directory.path(), &wat::parse_str(text).unwrap(), None).err().unwrap().to_string()
}

#[test]
fn both_kinds_end_with_the_code_that_they_say() {
    assert_eq!(exit_code(&module(3)), 3);
    // WASI has room for less than systems do.
    assert_eq!(exit_code(&module(200)), 200);
    assert_eq!(exit_code(&component(7)), 7);
    let trap = r#"(module (func (export "_start") unreachable))"#;
    assert_eq!(exit_code(&wat::parse_str(trap).unwrap()), 134);
    let greedy = r#"(module (memory 1) (func (export "_start")
        (if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then unreachable))))"#;
    assert_eq!(exit_code(&wat::parse_str(greedy).unwrap()), 137);
    assert_eq!(exit_code(&wat::parse_str(r#"(module (func (export "_start")))"#).unwrap()), 0);
}

#[test]
fn what_is_no_command_is_told_what_it_is() {
    let library = refusal(r#"(module (func (export "_initialize")))"#);
    assert!(library.contains("core module without a function _start()"), "{library}");
    let odd = refusal(r#"(module (func (export "_start") (param i32)))"#);
    assert_eq!(odd, library);
    let foreign = refusal(r#"(module (import "env" "f" (func)) (func (export "_start")))"#);
    assert!(foreign.contains("env::f"), "{foreign}");
    let unknown =
        refusal(r#"(module (import "wasi_snapshot_preview1" "fork" (func)) (func (export "_start")))"#);
    assert!(unknown.contains("wasi_snapshot_preview1::fork"), "{unknown}");
    let large = refusal(r#"(module (memory 2000) (func (export "_start")))"#);
    assert!(large.contains("its limit is 67108864"), "{large}");
    let directory = tempfile::tempdir().unwrap();
    let broken = load_as(directory.path(), b"\0asm\x01\0\0\0broken", None).err().unwrap();
    assert!(matches!(broken, LoadError::Compile(wasm::CompileError::Invalid(_))), "{broken}");
}

#[test]
fn a_file_that_is_known_is_not_read_again() {
    let directory = tempfile::tempdir().unwrap();
    load_as(directory.path(), &module(3), Some("layer")).unwrap();
    // It would not do.
    let known = load_as(directory.path(), b"\0asm\x01\0\0\0broken", Some("layer")).unwrap();
    assert_eq!(known.run(Process::default()), 3);
    assert!(load_as(directory.path(), b"\0asm\x01\0\0\0broken", Some("another")).is_err());
    assert!(load_as(directory.path(), b"\0asm\x01\0\0\0broken", None).is_err());
}
