//! Hydrant (architecture page comes with the last module).

pub mod clock;
pub mod error;
pub mod limits;

pub mod budget;
pub mod config;
pub mod event;
pub mod metrics;

pub mod matcher;
pub mod traffic;
