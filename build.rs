//! Embeds the rule pack, and looks for ISA-L (Debian: libisal-dev) and sets `cfg(isal)` when it may be used.
//!
//! The pack: `rules.rs` in the build's own folder, a table of every `rules/**/*.yml` and its text.
//!
//! ISA-L: absent, too old or of another layout: the build goes on without it and gzip falls back to zlib-rs.
//! `LIBISAL_NO_PKG_CONFIG=1` builds without it on a machine that has it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where the rules of the pack are; the maps in `rules/schema` end in `yaml` and belong to the decoders.
const PACK: &str = "rules";

/// Asserts the layout that `src/encode/isal.rs` declares against the header that is installed here.
const LAYOUT_CHECK: &str = "src/encode/isal_layout.c";

fn main() -> io::Result<()> {
    embed_pack()?;
    link_isal();
    Ok(())
}

/// Writes the table that `src/detect/pack.rs` includes.
fn embed_pack() -> io::Result<()> {
    println!("cargo::rerun-if-changed={PACK}");
    let mut files = Vec::new();
    let mut open = vec![PathBuf::from(PACK)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yml") {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut table = String::from("pub(super) static PACK: &[(&str, &str)] = &[\n");
    for file in &files {
        let name = file.display().to_string();
        // Not by its absolute path, which is another one when a second checkout builds into the same folder. A `String`
        // takes every write.
        let _ = writeln!(table, "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?}))),", format!("/{name}"));
    }
    table.push_str("];\n");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("rules.rs"), table)
}

fn link_isal() {
    println!("cargo::rustc-check-cfg=cfg(isal)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LAYOUT_CHECK}");
    println!("cargo::rerun-if-env-changed=LIBISAL_NO_PKG_CONFIG");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    // 2.30 is the oldest that was tested; 3 would be another ABI.
    let Ok(library) = pkg_config::Config::new().range_version("2.30".."3").cargo_metadata(false).probe("libisal") else {
        return;
    };
    let check = cc::Build::new()
        .file(LAYOUT_CHECK)
        .includes(&library.include_paths)
        .cargo_metadata(false)
        .warnings(false)
        .try_compile("isal_layout");
    if check.is_err() {
        println!("cargo::warning=libisal {} has another layout than expected; gzip uses zlib-rs", library.version);
        return;
    }
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for name in &library.libs {
        println!("cargo::rustc-link-lib={name}");
    }
    println!("cargo::rustc-cfg=isal");
}
