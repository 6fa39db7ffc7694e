//! The end of a child process, waited for as long as it may take.

use std::{
    io,
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

/// How often a child is looked at: some end at once, and nobody else waits for it meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// The status that `child` ends with; none when it has not ended after `patience`.
///
/// # Errors
/// The kernel's.
pub fn within(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => thread::sleep(LOOK),
            ended => return Ok(ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_so_long() {
        let mut short = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let ended = within(&mut short, Duration::from_secs(60)).unwrap();
        assert_eq!(ended.and_then(|status| status.code()), Some(3));
        let mut long = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(within(&mut long, Duration::from_millis(5)).unwrap(), None);
        long.kill().unwrap();
        long.wait().unwrap();
    }
}
