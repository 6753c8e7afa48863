//! The rules that come with the program: `rules/**/*.yml` of the repository, embedded by `build.rs`.

include!(concat!(env!("OUT_DIR"), "/rules.rs"));
