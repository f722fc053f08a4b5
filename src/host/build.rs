//! Sets the stack of an instance, in bytes. Rust's default is 1 MiB, and Spin clears and keeps 2 MiB of each instance that has ended. A
//! thousand instances at once took 1.2 GB, which is more than a pod has.

const STACK: usize = 64 << 10;

fn main() {
    println!("cargo::rustc-link-arg-cdylib=-zstack-size={STACK}");
    println!("cargo::rerun-if-changed=../build.rs");
}
