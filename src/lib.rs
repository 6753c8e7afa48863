//! Hydrant (architecture page comes with the last module).

pub mod clock;
pub mod error;
pub mod limits;

pub mod budget;
pub mod config;
pub mod event;
pub mod metrics;
pub mod scan;
pub mod task;

pub mod cursor;
pub mod json;

pub mod encode;
pub mod envelope;
pub mod matcher;
pub mod net;
pub mod traffic;
pub mod vrl;

pub mod batch;
pub mod decode;
pub mod detect;
pub mod enrich;
pub mod frame;
pub mod route;
pub mod sink;
pub mod source;
pub mod transform;
pub mod unwrap;

pub mod deliver;
pub mod journal;

pub mod pipeline;

pub mod admin;

pub mod cli;
