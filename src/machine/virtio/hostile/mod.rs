//! A hostile guest on every queue: each device, behind its real registers and event loop, against random drivers.
//!
//! `steps.rs` says what a driver may do, `subjects.rs` has a device of each kind and what stirs it on the host's side,
//! `driver.rs` does it. Whatever that is, of each device:
//!
//! - It does not panic, and its thread comes to rest: nothing spins, whether it serves or has given up.
//! - It writes into guest memory only where a descriptor lets it, and into its used rings.
//! - It alone is broken: a device beside it, on the same thread, answers as ever.
//! - A driver that resets it and then keeps to the protocol has its device again (the file system: has none).

mod driver;
mod steps;
mod subjects;

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::driver::Driver;
use self::subjects::Subject;

/// Drivers that each device is to survive.
const DRIVERS: u32 = 96;

fn survives(subject: fn() -> Subject) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(DRIVERS) });
    let came = runner.run(&steps::drivers(), |steps| {
        let mut driver = Driver::new(subject());
        for step in &steps {
            driver.take(step).map_err(TestCaseError::fail)?;
        }
        driver.end().map_err(TestCaseError::fail)
    });
    if let Err(error) = came {
        panic!("{error}");
    }
}

#[test]
fn a_hostile_guest_on_the_entropy_device() {
    survives(subjects::rng);
}

#[test]
fn a_hostile_guest_on_a_disk() {
    survives(subjects::block);
}

#[test]
fn a_hostile_guest_on_a_read_only_disk_without_io_uring() {
    survives(subjects::read_only);
}

#[test]
fn a_hostile_guest_on_an_interface() {
    survives(subjects::net);
}

#[test]
fn a_hostile_guest_on_the_socket_device() {
    survives(subjects::vsock);
}

#[test]
fn a_hostile_guest_on_the_balloon() {
    survives(subjects::balloon);
}

#[test]
fn a_hostile_guest_on_a_file_system_in_front_of_its_daemon() {
    survives(subjects::fs);
}
