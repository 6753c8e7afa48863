//! Looks for ISA-L (Debian: libisal-dev) and sets `cfg(isal)` when it may be used.
//!
//! Absent, too old or of another layout: the build goes on without it and gzip falls back to zlib-rs.
//! `LIBISAL_NO_PKG_CONFIG=1` builds without it on a machine that has it.

/// Asserts the layout that `src/encode/isal.rs` declares against the header that is installed here.
const LAYOUT_CHECK: &str = "src/encode/isal_layout.c";

fn main() {
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
