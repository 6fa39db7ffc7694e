//! `cargo dev bench`: start-up, memory and size, side by side with runc and QEMU, in one run.
//!
//! What starts and ends is measured inside the virtual host with its clock counting instructions, so that the numbers hold
//! on whatever machine they are taken: ratios are what counts. `host-measure` is the stop watch there; `cases` says what
//! is measured of a start, `callers` of Docker's commands and of streams, `roots` of roots, `shim` of containerd's shims,
//! `product` of the product's server, and `walls` judges what a VMM's confinement costs. Work that keeps devices busy is measured by the wall's clock, in `turns`: `volumes`,
//! and the guest's `disks` and `network`; so are many sandboxes at once, in `product` as well. `report` prints it all
//! and writes it as JSON.

pub mod callers;
pub mod cases;
pub mod clock;
pub mod disks;
pub mod hello;
pub mod memory;
pub mod network;
pub mod product;
pub mod report;
pub mod roots;
pub mod shim;
pub mod turns;
pub mod volumes;
pub mod walls;
