//! A process's streams: pipes or a terminal on its side, connections of the host on the other, threads between.
//!
//! In: what the process writes and the host sends. Out: the same bytes. Nothing is read before the host's stream is
//! there, so a slow host stops the process by a full pipe, not by memory of the agent.

pub mod pipes;
mod relay;
pub mod streams;
pub mod terminal;
