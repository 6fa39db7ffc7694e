//! What a fuzzer begins with: whole messages, requests, archives and configurations of each kind, made anew for each run, so that
//! they always are what the code of today takes. The devices' are beside their driver, in the runtime.

mod agent;
mod config;
mod image;
mod root;
mod server;
mod writeback;

pub(crate) use agent::{to_agent, to_host};
pub(crate) use config::configurations;
pub(crate) use image::{archives, layers};
pub(crate) use root::trees;
pub(crate) use server::{frames, requests, terminal};
pub(crate) use writeback::disks;
