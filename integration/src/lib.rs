//! x
pub mod bench;
pub mod kernel;
