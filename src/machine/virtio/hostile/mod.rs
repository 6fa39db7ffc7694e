//! A hostile guest on every queue: each device, behind its real registers and event loop, against random drivers.
//!
//! `steps.rs` says what a driver may do, `subjects.rs` has a device of each kind and what stirs it on the host's side,
//! `driver.rs` does it, in `memory.rs` between pages that nobody may touch, and for `walls.rs` on threads that are held to their
//! system calls. What a fuzzer begins with is in `seeds.rs`. Whatever that is, of each device:
//!
//! - It does not panic, and its thread comes to rest: nothing spins, whether it serves or has given up.
//! - It writes into guest memory only where a descriptor lets it, and into its used rings.
//! - It leaves no descriptor open.
//! - It alone is broken: a device beside it, on the same thread, answers as ever.
//! - A driver that resets it and then keeps to the protocol has its device again (the file system: has none).

#![allow(clippy::unwrap_used, reason = "all of it is a test, which a fuzzer runs too")]

mod driver;
mod memory;
#[cfg(test)]
mod random;
mod seeds;
mod steps;
mod subjects;
#[cfg(test)]
mod walls;

use self::driver::Driver;
use self::steps::Step;
use self::subjects::Subject;

/// Makes a device.
type Make = fn() -> Subject;

/// The devices, by the names of their fuzz targets.
const SUBJECTS: [(&str, Make); 9] = [
    ("rng", subjects::rng),
    ("block", subjects::block),
    ("block-read-only", subjects::read_only),
    ("block-throttled", subjects::throttled_block),
    ("net", subjects::net),
    ("net-throttled", subjects::throttled_net),
    ("vsock", subjects::vsock),
    ("balloon", subjects::balloon),
    ("fs", subjects::fs),
];

/// What these bytes, as a driver, do to the device of that name.
///
/// # Errors
/// What it did that it must not.
fn bytes_as_a_driver(device: &str, bytes: &[u8]) -> Result<(), String> {
    let (_, subject) =
        SUBJECTS.into_iter().find(|(name, _)| *name == device).ok_or("there is no such device")?;
    drive(subject, &steps::of_bytes(bytes))
}

fn drive(subject: Make, steps: &[Step]) -> Result<(), String> {
    let before = descriptors();
    let mut driver = Driver::new(subject);
    for step in steps {
        driver.take(step)?;
    }
    driver.end()?;
    let after = descriptors();
    if before == after { Ok(()) } else { Err(format!("descriptors: {before:?} before, {after:?} after")) }
}

/// How many this process has open; none where other tests run in it, which open and close some.
fn descriptors() -> Option<usize> {
    let alone = cfg!(feature = "fuzzing") || std::env::var_os("NEXTEST").is_some();
    alone.then(|| std::fs::read_dir("/proc/self/fd").unwrap().count())
}

/// What the fuzz target of that device begins with.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn seeds(device: &str) -> Vec<Vec<u8>> {
    seeds::of(device).iter().map(|steps| steps::to_bytes(steps)).collect()
}

/// For the fuzz target of that device.
///
/// # Panics
/// When the device does what it must not.
#[cfg(feature = "fuzzing")]
pub fn fuzz(device: &str, bytes: &[u8]) {
    if let Err(wrong) = bytes_as_a_driver(device, bytes) {
        panic!("{device}: {wrong}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::test_runner::{Config, TestCaseError, TestRunner};

    use super::*;

    /// Drivers that each device is to survive.
    const DRIVERS: u32 = 96;

    fn survives(subject: Make) {
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(DRIVERS) });
        let came =
            runner.run(&random::drivers(), |steps| drive(subject, &steps).map_err(TestCaseError::fail));
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
    fn a_hostile_guest_on_a_disk_that_is_held_to_a_rate() {
        survives(subjects::throttled_block);
    }

    #[test]
    fn a_hostile_guest_on_an_interface_that_is_held_to_a_rate() {
        survives(subjects::throttled_net);
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

    fn descriptor(at: u16, address: u64, length: u32, flags: u16, next: u16) -> Step {
        Step::Descriptor { queue: 0, at, address, length, flags, next }
    }

    /// Kicks every queue with the first descriptor made available in each.
    fn offered(mut table: Vec<Step>) -> Vec<Step> {
        let mut steps = vec![Step::Start { sizes: [4; 3], features: steps::NO_EVENT_INDEX }];
        for queue in 0..3 {
            for step in &mut table {
                if let Step::Descriptor { queue: of, .. } = step {
                    *of = queue;
                }
            }
            steps.extend(table.iter().cloned());
            steps.extend([Step::Entry { queue, at: 0, head: 0 }, Step::Available { queue, more: 1 }]);
            steps.push(Step::Kick { queue });
        }
        steps
    }

    /// Sections 2.7.5.2 and 2.7.5.3: chains end, and so do indirect tables; neither is as long as a driver says.
    #[test]
    fn chains_and_indirect_tables_without_an_end_are_survived() {
        const NEXT: u16 = 1;
        const INDIRECT: u16 = 4;
        let data = steps::DATA;
        let tables = [
            // A circle of one, and of two.
            vec![descriptor(0, data, 64, NEXT, 0)],
            vec![descriptor(0, data, 64, NEXT, 1), descriptor(1, data, 64, NEXT | 2, 0)],
            // A next descriptor that there is not.
            vec![descriptor(0, data, 64, NEXT, 0xffff)],
            // Indirect: in itself, longer than any queue, no whole descriptors, out of memory, with a next one.
            vec![descriptor(0, 0, 16, INDIRECT, 0)],
            vec![descriptor(0, 0, 0xffff_fff0, INDIRECT, 0)],
            vec![descriptor(0, 0, 17, INDIRECT, 0)],
            vec![descriptor(0, u64::MAX - 8, 64, INDIRECT, 0)],
            vec![descriptor(0, 0x100, 64, INDIRECT | NEXT, 1), descriptor(1, data, 64, 0, 0)],
        ];
        for (device, subject) in SUBJECTS {
            for (number, table) in tables.iter().enumerate() {
                drive(subject, &offered(table.clone()))
                    .unwrap_or_else(|wrong| panic!("{device}, table {number}: {wrong}"));
            }
        }
    }

    /// Section 2.1.2. That a device beside it goes on is looked at by every end.
    #[test]
    fn a_queue_that_is_broken_stops_its_device() {
        for (device, subject) in SUBJECTS {
            if device == "fs" {
                // Its queues are its daemon's.
                continue;
            }
            let mut driver = Driver::new(subject);
            let mut steps = vec![Step::Start { sizes: [2; 3], features: steps::NO_EVENT_INDEX }];
            for queue in 0..3 {
                // More chains than the queue has room for.
                steps.extend([Step::Available { queue, more: 5 }, Step::Kick { queue }]);
            }
            for step in &steps {
                driver.take(step).unwrap_or_else(|wrong| panic!("{device}: {wrong}"));
            }
            assert_ne!(driver.status(0) & driver::NEEDS_RESET, 0, "{device}");
            driver.end().unwrap_or_else(|wrong| panic!("{device}: {wrong}"));
        }
    }

    /// Another processor of the guest writes into descriptors, rings and headers while they are read: what was checked is what
    /// counts, and not what is there afterwards.
    #[test]
    fn a_guest_that_writes_while_it_is_served_is_survived() {
        use std::sync::atomic::{AtomicBool, Ordering};
        for (device, subject) in SUBJECTS {
            let mut driver = Driver::new(subject);
            let scribble = driver.scribbler();
            let end = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut number = 1_u64;
                    while !end.load(Ordering::Relaxed) {
                        // Any numbers will do, and the same each time (Knuth's).
                        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        scribble(number);
                    }
                });
                for seed in 0..200_u8 {
                    let parts = |writable: [bool; 3]| {
                        let at = |number: u64| steps::DATA + number * 0x1000;
                        let part =
                            |(number, writable)| steps::Part { address: at(number), length: 512, writable };
                        (0..).zip(writable).map(part).collect()
                    };
                    // It may not come to rest while it is written to, which is its driver's fault.
                    let _ = driver.take(&Step::Start { sizes: [4; 3], features: u32::MAX });
                    for queue in 0..3 {
                        let parts = parts(if queue == 0 { [false, true, true] } else { [false; 3] });
                        let indirect = seed % 2 == 0;
                        let _ = driver.take(&Step::Chain { queue, parts, indirect, seed, bytes: Vec::new() });
                        let _ = driver.take(&Step::Kick { queue });
                    }
                    let _ = driver.take(&Step::Host { seed });
                }
                end.store(true, Ordering::Relaxed);
            });
            driver.end().unwrap_or_else(|wrong| panic!("{device}: {wrong}"));
        }
    }

    /// They say in bytes what they are to say, and a device is as whole after them as after any driver.
    #[test]
    fn what_a_fuzzer_begins_with_is_driven() {
        for (device, subject) in SUBJECTS {
            for steps in seeds::of(device) {
                let again = steps::of_bytes(&steps::to_bytes(&steps));
                assert_eq!(again[1..], steps[..steps.len().min(again.len() - 1)], "{device}");
                drive(subject, &again).unwrap_or_else(|wrong| panic!("{device}: {wrong}: {steps:?}"));
            }
        }
    }

    /// What the fuzzer has found, each input behind its length (four bytes): `integration/fuzz`.
    #[test]
    fn what_was_found_before_does_no_harm() {
        for (device, _) in SUBJECTS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fuzz/corpus");
            let packed = std::fs::read(folder.join(device)).unwrap();
            let mut rest = packed.as_slice();
            while let Some((length, behind)) = rest.split_first_chunk() {
                let (input, behind) = behind.split_at(usize::try_from(u32::from_le_bytes(*length)).unwrap());
                bytes_as_a_driver(device, input)
                    .unwrap_or_else(|wrong| panic!("{device}: {wrong}: {input:?}"));
                rest = behind;
            }
        }
    }
}
