//! The stack of an instance, in bytes. Rust's own would be 1 MiB, and Spin clears and keeps 2 MiB of each instance that has ended: a thousand
//! at once took 1.2 GB, which no pod has.

const STACK: usize = 64 << 10;

fn main() {
    println!("cargo::rustc-link-arg-cdylib=-zstack-size={STACK}");
    println!("cargo::rerun-if-changed=../stack.rs");
}
