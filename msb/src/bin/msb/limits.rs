//! What the server does not go beyond: flags, and variables of the environment for who has it in a container.

use std::{fs, path::Path, str::FromStr, time::Duration};

use clap::Args;
use msb::{sandbox::request, server::Limits};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that a server has open at most, where it may have so many.
const FILES: u64 = 65_536;
/// Where cgroups of the second version are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Limits of the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct Flags {
    /// Sandboxes that run at once.
    #[arg(long, value_name = "NUMBER", env = "MICROSANDBOX_MAX_SANDBOXES", default_value_t = 100)]
    max_sandboxes: usize,
    /// Memory of all sandboxes that run: a size, `none`, or `auto`, which is what the server's own cgroup may have.
    #[arg(long, value_name = "SIZE", env = "MICROSANDBOX_MAX_MEMORY", default_value = "auto")]
    max_memory: Memory,
    /// Requests at once; the next one is told to try again.
    #[arg(long, value_name = "NUMBER", env = "MICROSANDBOX_MAX_REQUESTS", default_value_t = 256)]
    max_requests: usize,
    /// Of a request's body.
    #[arg(long, value_name = "SIZE", env = "MICROSANDBOX_MAX_BODY", default_value = "8m", value_parser = request::memory)]
    max_body: u64,
    /// Of what one command or one run of code writes; the rest is dropped, and that is said.
    #[arg(long, value_name = "SIZE", env = "MICROSANDBOX_MAX_OUTPUT", default_value = "4m", value_parser = request::memory)]
    max_output: u64,
    /// For a sandbox to be started, its image pulled included.
    #[arg(long, value_name = "SECONDS", env = "MICROSANDBOX_START_TIMEOUT", default_value_t = 180)]
    start_timeout: u64,
    /// For a command or a run of code that has no shorter one.
    #[arg(long, value_name = "SECONDS", env = "MICROSANDBOX_RUN_TIMEOUT", default_value_t = 3600)]
    run_timeout: u64,
}

/// How much memory all sandboxes may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// As the cgroup says.
    Auto,
    /// No matter.
    Any,
    /// Bytes.
    Bytes(u64),
}

impl FromStr for Memory {
    type Err = request::BadRequest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "none" => Self::Any,
            size => Self::Bytes(request::memory(size)?),
        })
    }
}

impl Flags {
    /// The same, for a server that is begun by this one.
    pub fn words(&self) -> [String; 7] {
        let memory = match self.max_memory {
            Memory::Auto => "auto".to_owned(),
            Memory::Any => "none".to_owned(),
            Memory::Bytes(bytes) => format!("{bytes}b"),
        };
        [
            format!("--max-sandboxes={}", self.max_sandboxes),
            format!("--max-memory={memory}"),
            format!("--max-requests={}", self.max_requests),
            format!("--max-body={}b", self.max_body),
            format!("--max-output={}b", self.max_output),
            format!("--start-timeout={}", self.start_timeout),
            format!("--run-timeout={}", self.run_timeout),
        ]
    }

    /// As the server takes them.
    pub fn limits(&self) -> Limits {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        Limits {
            sandboxes: self.max_sandboxes,
            memory: match self.max_memory {
                Memory::Auto => allowed(),
                Memory::Any => None,
                Memory::Bytes(bytes) => Some(bytes),
            },
            requests: self.max_requests,
            body: bytes(self.max_body),
            output: bytes(self.max_output),
            start: Duration::from_secs(self.start_timeout),
            run: Duration::from_secs(self.run_timeout),
            ..Limits::default()
        }
    }
}

/// Each command that runs has ten open files here, a connection has one: more than the 1024 that a shell gives. What is begun in
/// a sandbox has this process's limit, so that it is not as high as the kernel lets it be (getrlimit(2)).
pub fn many_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < FILES
    {
        // With those that there are it can do less at once, which is said then.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(FILES), hard);
    }
}

/// The least that this process's cgroup and those above it allow; none: as much as there is.
fn allowed() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    least(Path::new(CGROUPS), Path::new(path))
}

fn least(all: &Path, own: &Path) -> Option<u64> {
    let limit = |path: &Path| fs::read_to_string(all.join(path).join("memory.max")).ok()?.trim().parse().ok();
    own.ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_all_cgroups_above_counts() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("a/b");
        fs::create_dir_all(&own).unwrap();
        assert_eq!(least(dir.path(), Path::new("a/b")), None);
        fs::write(own.join("memory.max"), "max\n").unwrap();
        assert_eq!(least(dir.path(), Path::new("a/b")), None);
        fs::write(dir.path().join("a/memory.max"), "4294967296\n").unwrap();
        fs::write(dir.path().join("memory.max"), "8589934592\n").unwrap();
        assert_eq!(least(dir.path(), Path::new("a/b")), Some(4 << 30));
        assert_eq!(least(dir.path(), Path::new("")), Some(8 << 30));
    }

    #[test]
    fn limits_are_those_that_were_the_servers_own() {
        #[derive(Debug, clap::Parser)]
        struct Only {
            #[command(flatten)]
            flags: Flags,
        }
        let of = |words: &[&str]| {
            <Only as clap::Parser>::try_parse_from([&["x"], words].concat()).map(|only| only.flags.limits())
        };
        let (usual, own) = (of(&[]).unwrap(), Limits::default());
        assert_eq!(
            (usual.sandboxes, usual.requests, usual.body, usual.output, usual.start, usual.run),
            (own.sandboxes, own.requests, own.body, own.output, own.start, own.run)
        );
        assert_eq!(of(&["--max-memory", "3g"]).unwrap().memory, Some(3 << 30));
        assert_eq!(of(&["--max-memory", "none"]).unwrap().memory, None);
        for memory in ["auto", "none", "3g"] {
            let given =
                <Only as clap::Parser>::try_parse_from(["x", "--max-memory", memory, "--max-body", "9m"]);
            let words = given.unwrap().flags.words();
            assert_eq!(
                <Only as clap::Parser>::try_parse_from([&["x".to_owned()], &words[..]].concat())
                    .unwrap()
                    .flags
                    .words(),
                words
            );
        }
        for bad in [["--max-memory", "much"], ["--max-body", "0"], ["--max-sandboxes", "-1"]] {
            of(&bad).unwrap_err();
        }
    }
}
