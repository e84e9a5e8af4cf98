//! Links the program static, without the C library's start-up code or anything else of it.

fn main() {
    for flag in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={flag}");
    }
}
