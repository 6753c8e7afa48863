//! Hydrant (architecture page comes with the last module).

pub mod clock;
pub mod error;
pub mod limits;

pub mod budget;
pub mod config;
pub mod event;
pub mod metrics;
pub mod scan;
pub mod cursor;
pub mod task;

pub mod json;

pub mod encode;
pub mod envelope;
pub mod matcher;
pub mod net;

pub mod source;
pub mod frame;
pub mod decode;
pub mod batch;
pub mod sink;
pub mod journal;
pub mod deliver;
