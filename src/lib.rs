//! Hydrant (architecture page comes with the last module).

pub mod error;
pub mod limits;
pub mod clock;
pub mod config;
pub mod event;
pub mod matcher;
