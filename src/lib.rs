//! Hydrant (architecture page comes with the last module).

pub mod error;
pub mod limits;
pub mod clock;

pub mod event;
pub mod scan;
pub mod metrics;
pub mod budget;
pub mod stop;
pub mod config;

pub mod json;

pub mod net;
pub mod envelope;
pub mod matcher;
pub mod encode;

pub mod source;
pub mod frame;
pub mod decode;
