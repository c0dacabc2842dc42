//! Embeds the eBPF programs where `cargo xtask build` has made them.

use std::path::Path;
use std::{env, fs};

fn main() {
    let next = env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some();
    let (name, debug) = if next {
        ("fairlead-next.bpf.o", "none")
    } else {
        ("fairlead.bpf.o", "fairlead-debug.bpf.o")
    };
    let source = format!(
        "/// The eBPF object, where this build has one (`cargo xtask build`).\n\
         pub static OBJECT: Option<&[u8]> = {};\n\
         /// The same with programs that say what they do.\n\
         pub static DEBUG_OBJECT: Option<&[u8]> = {};\n",
        embedded(name),
        embedded(debug)
    );
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("object.rs"), source).expect("OUT_DIR is writable");
}

/// An expression for an object in target/bpf.
fn embedded(name: &str) -> String {
    // Asked when it runs: a build directory may have been copied from another checkout.
    let package = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let object = Path::new(&package).join("../target/bpf").join(name);
    println!("cargo::rerun-if-changed={}", object.display());
    if object.exists() {
        format!(
            "Some(aya::include_bytes_aligned!({:?}))",
            object.display().to_string()
        )
    } else {
        "None".to_owned()
    }
}
