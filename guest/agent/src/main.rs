//! Pid 1 of the microVM: boots the guest, says hello, and serves the host until the machine ends.
//!
//! The same binary, with a hidden argument, is the helper that becomes a process of the container. With
//! `--unix DIRECTORY` it is an ordinary process for tests and development: run it in namespaces of its own.
#![cfg_attr(not(test), no_main)]
// The entry: the rest of the unsafe code is in `sys`.
#![deny(unsafe_code)]

mod agent;
mod boot;
mod clock;
mod container;
mod datagrams;
mod forward;
mod idle;
mod log;
mod names;
mod network;
mod process;
mod reaper;
mod serve;
mod signals;
mod slots;
mod stdio;
mod sys;
mod transport;

use std::sync::Arc;
use std::{env, thread};

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SigSet, Signal};

use agent::Agent;
use serve::Channel;
use transport::Endpoint;

/// Stacks of the threads that only accept.
const STACK: usize = 32 << 10;
/// Of the boot channel's thread: it decodes whole containers.
const BOOT_STACK: usize = 256 << 10;

/// Called by the C library. Not Rust's own start: that opens `/dev/null` for missing descriptors, and pid 1 has neither.
#[cfg_attr(not(test), allow(unsafe_code))]
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code))]
extern "C" fn main(_count: i32, _arguments: *const *const u8) -> i32 {
    let mut arguments = env::args_os().skip(1);
    match arguments.next() {
        Some(argument) if argument == "--helper" => process::helper::run(),
        Some(argument) if argument == idle::ARGUMENT => idle::run(),
        Some(argument) if argument == "--unix" => {
            run(&Endpoint::Unix(arguments.next().unwrap_or_default().into()))
        }
        Some(_) | None => run(&Endpoint::Vsock),
    }
}

/// Boots and serves. Comes back only when that fails, and in tests.
fn run(endpoint: &Endpoint) -> i32 {
    match start(endpoint) {
        Ok(never) => match never {},
        Err(error) => {
            log::failure("boot", &chain(&*error));
            end(endpoint, 1)
        }
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

fn start(endpoint: &Endpoint) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    let machine = matches!(endpoint, Endpoint::Vsock);
    // Inherited by every thread. SIGPIPE: writing to a closed stream is an error like others.
    let mut blocked = SigSet::from(Signal::SIGCHLD);
    blocked.add(Signal::SIGPIPE);
    blocked.thread_block()?;
    if machine {
        boot::occupy_stdio()?;
    }
    let (channels, streams) = (endpoint.channels()?, endpoint.streams()?);
    let connection = endpoint.connect()?;
    let channel = Channel::open(&connection)?;

    // The host has its hello: the rest of the boot happens while it thinks.
    if machine {
        boot::first()?;
    }
    boot::rest()?;
    if machine {
        boot::seal()?;
        boot::make_room()?;
        if let Err(error) = clock::begin() {
            log::failure("set the clock", &error);
        }
    }
    let agent = Arc::new(Agent::default());
    let shared = Arc::clone(&agent);
    thread::Builder::new().stack_size(STACK).spawn(move || serve::channels(&shared, &channels))?;
    let shared = Arc::clone(&agent);
    thread::Builder::new().stack_size(STACK).spawn(move || serve::streams(&shared, &streams))?;
    let shared = Arc::clone(&agent);
    let endpoint = if machine { Endpoint::Vsock } else { Endpoint::Unix(std::path::PathBuf::new()) };
    thread::Builder::new().stack_size(BOOT_STACK).spawn(move || {
        serve::serve(&shared, &channel, connection);
        shut_down(&shared, &endpoint);
    })?;
    reaper::run(&agent)
}

/// The host has closed the boot channel: nobody needs this guest any more.
fn shut_down(agent: &Agent, endpoint: &Endpoint) {
    for made in agent.all() {
        made.cgroup.kill();
        made.end();
    }
    end(endpoint, 0);
}

/// Ends the machine; as an ordinary process, this process.
#[allow(clippy::exit)]
fn end(endpoint: &Endpoint, status: i32) -> i32 {
    if matches!(endpoint, Endpoint::Vsock) {
        // With `reboot=k` or `reboot=t` on the command line the VMM sees a reset or a triple fault at once.
        let _ = reboot(RebootMode::RB_AUTOBOOT);
    }
    std::process::exit(status)
}
