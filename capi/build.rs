//! Gives the shared library its soname. The file `abi` has the number of the binary interface; README.md
//! says when it changes.

fn main() {
    println!("cargo::rerun-if-changed=abi");
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    let abi = include_str!("abi").trim();
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "macos" && os != "windows") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnbd_extents.so.{abi}");
    }
}
