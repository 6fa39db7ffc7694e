//! `HOME`, from the container's `/etc/passwd`, when the spec's environment has none.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Read at most; what lies behind is not looked at.
const PASSWD: u64 = 1 << 20;

/// Adds `HOME` as runc does: an empty one counts as missing, and who is not in the file has `/`.
pub fn add_home(env: &mut Vec<String>, uid: u32) {
    if env.iter().rev().find_map(|entry| entry.strip_prefix("HOME=")).is_some_and(|home| !home.is_empty()) {
        return;
    }
    let home = passwd().and_then(|text| home_of(&text, uid)).unwrap_or_else(|| "/".into());
    env.retain(|entry| !entry.starts_with("HOME="));
    env.push(format!("HOME={home}"));
}

/// The file is the image's: it may be a fifo, endless or no text.
fn passwd() -> Option<String> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open("/etc/passwd").ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(PASSWD).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// passwd(5): `name:password:UID:GID:GECOS:directory:shell`.
fn home_of(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let matches = fields.nth(2)?.parse() == Ok(uid);
        let home = fields.nth(2)?;
        (matches && !home.is_empty() && !home.contains('\0')).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33:web:/var/www:/bin/false\nnone:x:7:7::\n";

    #[test]
    fn homes() {
        assert_eq!(home_of(TEXT, 0).unwrap(), "/root");
        assert_eq!(home_of(TEXT, 33).unwrap(), "/var/www");
        assert_eq!(home_of(TEXT, 7), None);
        assert_eq!(home_of(TEXT, 8), None);
    }

    #[test]
    fn a_home_that_is_given_stays() {
        let mut env = vec!["HOME=/given".to_owned()];
        add_home(&mut env, 0);
        assert_eq!(env, ["HOME=/given"]);
    }
}
