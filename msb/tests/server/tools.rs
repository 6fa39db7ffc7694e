//! Programs that tests need beside ours, installed where they are not there.

use integration::dev::{
    packages::{self, Package},
    test::skipped,
};

pub const NODE: Package = ("nodejs", "node");

/// Whether it is there now; otherwise `test` is skipped, which is said.
pub fn has(test: &str, package: Package) -> bool {
    match packages::require(&[package]) {
        Ok(()) => true,
        Err(error) => {
            skipped(test, &format!("{} can't be had: {error}", package.0));
            false
        }
    }
}
