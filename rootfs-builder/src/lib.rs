//! Directories become block images, in process: no mkfs, no mount, no root needed beyond reading the files.
//!
//! In: a root directory whose content is hostile (it came out of somebody's image), a size, or the agent's binary.
//! Out: image files, each complete under its name or not there at all.
//! It must never know what a container is, nor who attaches the images to which machine.

pub mod cache;
mod checksum;
pub mod composed;
pub mod erofs;
pub mod ext4;
pub mod initramfs;
pub mod layers;
pub mod output;
pub mod tree;
pub mod writeback;
