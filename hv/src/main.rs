//! Xenolith's first Rust instruction and the order in which the machine comes up.
//! Before it: `boot/entry.rs`. After it: `launch::run`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod start;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("xenolith runs on bare metal: build it with `cargo xtask build`");
    std::process::exit(2);
}
