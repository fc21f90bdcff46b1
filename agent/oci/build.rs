//! Links the program at a fixed address, as docs/decisions/0010 tells.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
