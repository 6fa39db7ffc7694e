//! `containerd-shim-msb-v2`: the sandbox as containerd sees it, one process for each task, or for all of a pod's.
//!
//! Enters: containerd's flags, and its requests over ttrpc (`containerd.task.v2.Task`, and for pods that containerd makes by its
//! sandbox API `containerd.runtime.sandbox.v1.Sandbox`). Leaves: answers with gRPC's status
//! codes, and events in containerd's order. What is done to a container is [`msb_runtime::verbs`]', the same as for
//! `msb-runtime`; the VMM is a process of its own, this program with a hidden verb, which outlives a shim that is killed.
//!
//! ```text
//!  containerd ── start ──▶ start: makes the server, prints its address, ends
//!             ── ttrpc ──▶ serve: service ─▶ task ─▶ verbs        events ──▶ containerd
//!                                 pod ───────┘
//!             ── delete ─▶ remove: what a shim that is gone has left
//! ```
//!
//! The container's streams are opened here and given to the VMM: nothing that the container writes passes through the shim.
//! An exec's pass through threads of it, and no process stands for them.

mod address;
mod apart;
mod events;
mod failure;
mod flags;
mod group;
mod hidden;
mod info;
mod log;
mod metrics;
mod mounts;
mod options;
mod pod;
mod remove;
mod serve;
mod service;
mod start;
mod stdio;
mod task;

use std::process::ExitCode;

use flags::{Action, Flags};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = hidden::run(&words) {
        return code;
    }
    let done = Flags::parse(&words).and_then(|flags| match flags.action {
        Action::Version => info::version(),
        Action::Info => info::info(),
        Action::Start => start::start(&flags),
        Action::Delete => remove::remove(&flags),
        Action::Members => remove::members(&flags),
        Action::Serve => serve::serve(&flags),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd takes what is printed for the reason, whichever stream it is on.
            eprintln!("{}", msb_runtime::verbs::words::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
