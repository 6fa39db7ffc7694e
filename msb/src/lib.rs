//! MicroSandbox, the product around the runtime: images, sandboxes that are made of them, and those who ask for them.
//!
//! ```text
//!  msb run, exec, ps, …  ─┐
//!  HTTP on port 5555     ─┴─▶ sandbox ─▶ image: what its root is made of
//!                                    └─▶ msb_runtime::verbs: what is done to it, as for any other caller of the runtime
//! ```
//!
//! A package of its own and no part of the runtime, because it brings what must not get near a VMM: HTTP, TLS, archives,
//! and with them an executor. Everything it knows is below one directory, the [`home`].

mod engine;
pub mod home;
pub mod image;
pub mod name;
pub mod network;
pub mod sandbox;
pub mod server;
