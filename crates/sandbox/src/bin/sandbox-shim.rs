//! Plays the shim's program in this crate's tests, as the hidden subcommand of `monoplane` does in earnest.

fn main() {
    std::process::exit(sandbox::shim::main(std::env::args_os().skip(1)));
}
