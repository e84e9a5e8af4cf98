//! The compiling child by itself, for this crate's tests, examples and benchmarks. The shipped binary has the same as a
//! hidden subcommand.

fn main() -> std::process::ExitCode {
    wasm::compile_child_main()
}
