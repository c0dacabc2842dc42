//! Embeds the eBPF programs where `cargo xtask build` has made them.

use std::path::Path;
use std::{env, fs};

fn main() {
    let name = if env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some() {
        "fairlead-next.bpf.o"
    } else {
        "fairlead.bpf.o"
    };
    let object = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/bpf")
        .join(name);
    println!("cargo::rerun-if-changed={}", object.display());
    let embedded = if object.exists() {
        format!(
            "Some(aya::include_bytes_aligned!({:?}))",
            object.display().to_string()
        )
    } else {
        "None".to_owned()
    };
    let source = format!(
        "/// The eBPF object, where this build has one (`cargo xtask build`).\npub static OBJECT: Option<&[u8]> = {embedded};\n"
    );
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("object.rs"), source).expect("OUT_DIR is writable");
}
