//! Sandboxes for who speaks HTTP.

pub mod engine;

pub use engine::{Engine, Running};
