//! The verbs of `cargo dev`, one per file, over one [`Project`]: a checkout and its cache of products.

pub mod advisories;
pub mod arm;
pub mod bench;
pub mod cache;
pub mod clean;
mod deny;
pub mod doctor;
pub mod fuzz;
pub mod host;
pub mod install;
pub mod kernel;
pub mod kvm;
pub mod packages;
pub mod products;
pub mod progress;
pub mod reproduce;
pub mod run;
mod sbom;
pub mod shell;
pub mod soak;
pub mod test;

use std::path::PathBuf;

use cache::Cache;

/// Names another folder for the products than `target/msb`; several checkouts may share one.
pub const CACHE_VARIABLE: &str = "MSB_DEV_CACHE";

/// This checkout.
#[derive(Clone, Debug)]
pub struct Project {
    /// The workspace's folder.
    pub root: PathBuf,
    /// Cargo's output folder.
    pub target: PathBuf,
    /// The products.
    pub cache: Cache,
}

impl Project {
    /// The checkout that this program was built from.
    pub fn here() -> Self {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().expect("the package is a folder of the workspace").to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let cache = std::env::var_os(CACHE_VARIABLE).map_or_else(|| target.join("msb"), PathBuf::from);
        Self { root, target, cache: Cache::new(cache) }
    }
}
