//! The same drivers against a device whose threads are held to their system calls, as in production: registers are written on a
//! vCPU's thread, events are served on the devices', devices come and go on the one that takes orders. Whoever calls what is on no
//! list ends the process, which is a child of the test's; the drive that did it was told before. Each drive comes twice, the second
//! time without a descriptor to be had from some step on.
#![allow(unsafe_code)] // a process to try it in

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::driver::Driver;
use super::steps::Step;
use super::subjects::file;
use super::{Make, SUBJECTS, random, seeds};
use crate::machine::seccomp::{Filters, Kind, Verdict, one_heap};

/// Drivers of each device at random, behind whole requests of each kind.
const DRIVERS: usize = 60;

type Job = Box<dyn FnOnce() + Send>;

/// A thread of each kind, for one process's life.
#[derive(Clone)]
pub(super) struct Walls([Sender<Job>; 3]);

impl Walls {
    fn new() -> Self {
        Self([Kind::Vcpu, Kind::Device, Kind::Main].map(|kind| {
            let (jobs, given) = channel::<Job>();
            thread::spawn(move || {
                Filters::new(Verdict::Kill).hold(kind).unwrap();
                given.into_iter().for_each(|job| job());
            });
            jobs
        }))
    }

    /// Does it there, and waits for it.
    pub(super) fn run<R: Send + 'static>(&self, kind: Kind, what: impl FnOnce() -> R + Send + 'static) -> R {
        let (tell, told) = channel();
        self.0[kind as usize].send(Box::new(move || drop(tell.send(what())))).unwrap();
        told.recv().expect("the thread has not panicked")
    }
}

/// As long as there are none, no descriptor is made.
fn descriptors(some: bool) {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, if some { most } else { 0 }, most).unwrap();
}

/// Without descriptors from step `short` on, until the driver comes to its senses; the host's side has some.
fn drive(subject: Make, walls: &Walls, steps: &[Step], short: usize) -> Result<(), String> {
    let mut driver = Driver::between(subject, walls.clone());
    for (number, step) in steps.iter().enumerate() {
        descriptors(number < short || matches!(step, Step::Host { .. } | Step::Plug));
        let taken = driver.take(step);
        descriptors(true);
        taken?;
    }
    driver.end()
}

/// In the child: each drive, which is told before it begins.
fn drives(device: &str, subject: Make, told: &File) -> Result<(), String> {
    let walls = Walls::new();
    let mut runner = TestRunner::default();
    let at_random = (0..DRIVERS).map(|_| random::drivers().new_tree(&mut runner).unwrap().current());
    let all = seeds::of(device).into_iter().chain(at_random);
    for (number, steps) in all.enumerate() {
        for short in [usize::MAX, number % steps.len()] {
            let until = if short < steps.len() { format!("step {short}") } else { "the end".to_owned() };
            let text = format!("descriptors until {until}: {steps:?}");
            told.set_len(0).and_then(|()| told.write_all_at(text.as_bytes(), 0)).unwrap();
            drive(subject, &walls, &steps, short).map_err(|wrong| format!("{wrong}; {text}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_hostile_guest_makes_no_thread_call_what_it_may_not() {
    const ALONE: &str = "MSB_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // In a process that has one thread, and so one heap: see `one_heap`.
        let name = "machine::virtio::hostile::walls::a_hostile_guest_makes_no_thread_call_what_it_may_not";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let alone = command.args(["--exact", name, "--test-threads=1"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    one_heap();
    let children = SUBJECTS.map(|(device, subject)| {
        let told = file();
        // SAFETY: the child goes on with the one thread that it has, and ends without returning.
        let child = match unsafe { libc::fork() } {
            0 => {
                let came = std::panic::catch_unwind(|| drives(device, subject, &told));
                if let Ok(Err(wrong)) = &came {
                    // In place of the drive, which is part of it.
                    told.write_all_at(wrong.as_bytes(), 0).unwrap();
                }
                // SAFETY: it ends the process.
                unsafe { libc::_exit(i32::from(!matches!(came, Ok(Ok(()))))) }
            }
            child => child,
        };
        (device, told, child)
    });
    let mut wrong = Vec::new();
    for (device, told, child) in children {
        let mut status = 0;
        // SAFETY: the place is ours, and so is the child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        if status != 0 {
            let mut text = vec![0; usize::try_from(told.metadata().unwrap().len()).unwrap()];
            told.read_exact_at(&mut text, 0).unwrap();
            let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
            wrong.push(format!("{device}, signal {signal:?}: {}", String::from_utf8_lossy(&text)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
