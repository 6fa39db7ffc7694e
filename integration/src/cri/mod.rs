//! A client of Kubernetes' Container Runtime Interface, for tests: what a kubelet would say to containerd.
//!
//! Enters: a call's name and its request as JSON. Leaves: the answer as JSON, or what a stream brings. The interface is read
//! from `runtime.proto`, so that nothing of a message is known here.

mod grpc;
mod schema;
mod stream;

pub use grpc::{CallError, call};
pub use schema::SchemaError;
pub use stream::{Size, StreamError, attach, forward, watch};
