//! Gives the shared library its soname, which carries the version of the binary interface.

/// Raised with each change after which a program must be compiled again. See README.md, "The binary interface".
const ABI: u32 = 0;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "macos" && os != "windows") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnbd_extents.so.{ABI}");
    }
}
