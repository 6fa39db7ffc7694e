//! The HTTP server over real sockets, with an engine that runs its processes on this machine.

#![allow(clippy::tests_outside_test_module, reason = "every function of an integration test is one")]
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    missing_docs,
    reason = "a test says what failed where it failed"
)]

mod client;
mod clients;
mod engine;
mod mcp;
mod page;
mod repl;
mod robustness;
mod rpc;
mod tools;
mod v1;
