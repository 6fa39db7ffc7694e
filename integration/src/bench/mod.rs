//! `cargo dev bench`: start-up, memory and size, side by side with runc and QEMU, in one run.
//!
//! Everything but disks is measured inside the virtual host with its clock counting instructions, so that the numbers hold
//! on whatever machine they are taken: ratios are what counts. `host-measure` is the stop watch there; `cases` says what
//! is measured of a start, `callers` of Docker's commands and of streams, `roots` of roots, `volumes` of volumes, `disks`
//! and `network` of the guest's; `report` prints it and writes it as JSON.

pub mod callers;
pub mod cases;
pub mod clock;
pub mod disks;
pub mod hello;
pub mod memory;
pub mod network;
pub mod report;
pub mod roots;
pub mod turns;
pub mod volumes;
