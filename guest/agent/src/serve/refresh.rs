//! `Refresh`: a file that came by its content is written anew, in place, so that every mount of it shows the same.

use std::fs::OpenOptions;
use std::io::Write;

use msb_agent::protocol::{Failure, Reply};

use crate::container::made::Made;
use crate::container::{at, mounts};

/// First the bytes, then the length: whoever reads meanwhile sees old or new ones, and never none.
///
/// # Errors
/// [`Failure::Setup`], also for a file that is none.
pub fn refresh(made: &Made, file: u32, content: &[u8]) -> Result<Reply, Failure> {
    let path = mounts::stored(&made.place, file);
    let write = || {
        let mut file = OpenOptions::new().write(true).open(&path)?;
        file.write_all(content)?;
        file.set_len(u64::try_from(content.len()).unwrap_or(u64::MAX))
    };
    write().map_err(at(|| format!("write {path} anew"))).map(|()| Reply::Done)
}
