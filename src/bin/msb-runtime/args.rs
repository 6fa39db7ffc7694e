//! What was typed. runc's flags, with runc's names: global ones before the verb, in any order.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgAction, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::{
    attach, checkpoint, config, create, delete, doctor, events, exec, features, kill, list, member, pause,
    ps, report::Report, resume, run, spec, start, state, update, victim, vmm, volumes,
};

/// The newest version of the specification that is understood.
pub const SPEC_VERSION: &str = "1.2.0";

/// An OCI runtime that runs each container in a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "msb-runtime", version, disable_version_flag = true, subcommand_required = true)]
pub struct Cli {
    /// Where the containers' state is kept.
    #[arg(long, default_value = "/run/msb-runtime", value_name = "DIR")]
    pub root: PathBuf,
    /// File that errors are appended to.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How errors are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Accepted as runc does; there is nothing more to tell.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub debug: bool,
    /// cgroupsPath is slice:prefix:name, as systemd has it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub systemd_cgroup: bool,
    /// Only `auto` and `false`: the runtime needs root, and `true` is refused.
    #[arg(long, value_enum, default_value_t = Rootless::Auto, value_name = "WHETHER")]
    pub rootless: Rootless,
    /// Print the version.
    #[arg(short, long, action = ArgAction::Version)]
    version: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// `--log-format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`
    Text,
    /// One JSON object a line.
    Json,
}

/// `--rootless`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    /// Not rootless.
    Auto,
    /// Not rootless.
    False,
    /// Refused.
    True,
}

/// One file each.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a container whose process waits for `start`.
    Create(create::Create),
    /// Let a created container's process go.
    Start(start::Start),
    /// Create a container, start it, and remove it when it ends.
    Run(run::Run),
    /// Run one more process in a container.
    Exec(Box<exec::Exec>),
    /// Send a signal to a container's process.
    Kill(kill::Kill),
    /// Stop a container's processes where they are.
    Pause(pause::Pause),
    /// Let a paused container's processes go on.
    Resume(resume::Resume),
    /// Remove a container.
    Delete(delete::Delete),
    /// Print a container's state as JSON.
    State(state::State),
    /// List the containers.
    List(list::List),
    /// List a container's processes: what stands for them on the host, or with --guest themselves.
    Ps(ps::Ps),
    /// Change a container's limits.
    Update(Box<update::Update>),
    /// Print what a container uses, again and again.
    Events(events::Events),
    /// Write a config.json to begin with.
    Spec(spec::Spec),
    /// Print the host's settings that are in force, as TOML.
    Config(config::Config),
    /// Print what this runtime can do as JSON.
    Features(features::Features),
    /// Refused: a machine can't be written down by CRIU.
    Checkpoint(checkpoint::Checkpoint),
    /// Refused, as checkpoint is.
    Restore(checkpoint::Checkpoint),
    /// Check whether this machine can run containers, and say what to do if not.
    Doctor(doctor::Doctor),
    /// For this program's own use.
    #[command(hide = true)]
    Vmm(vmm::Vmm),
    /// For this program's own use.
    #[command(hide = true)]
    Member(member::Member),
    /// For this program's own use.
    #[command(hide = true)]
    Attach(attach::Attach),
    /// For this program's own use.
    #[command(hide = true)]
    Victim(victim::Victim),
    /// For this program's own use.
    #[command(hide = true)]
    Volumes(volumes::Volumes),
}

impl Verb {
    /// As typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Start(_) => "start",
            Self::Run(_) => "run",
            Self::Exec(_) => "exec",
            Self::Kill(_) => "kill",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Delete(_) => "delete",
            Self::Vmm(_) => "vmm",
            Self::Member(_) => "member",
            Self::Attach(_) => "attach",
            Self::Victim(_) => "victim",
            Self::Volumes(_) => "volumes",
            Self::State(_) => "state",
            Self::List(_) => "list",
            Self::Ps(_) => "ps",
            Self::Update(_) => "update",
            Self::Events(_) => "events",
            Self::Spec(_) => "spec",
            Self::Config(_) => "config",
            Self::Features(_) => "features",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
            Self::Doctor(_) => "doctor",
        }
    }
}

/// What came of the arguments.
pub enum Parsed {
    /// Something to do.
    Cli(Box<Cli>),
    /// Help or version was asked for and printed.
    Told,
    /// They can't be understood.
    Wrong {
        /// Where that is to be told: `--log` counts even among wrong arguments.
        report: Report,
        /// What is wrong.
        message: String,
    },
}

/// Reads this process's arguments.
pub fn parse() -> Parsed {
    let typed: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&typed) {
        Ok(cli) => Parsed::Cli(Box::new(cli)),
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            println!("msb-runtime version {}\nspec: {SPEC_VERSION}", env!("CARGO_PKG_VERSION"));
            Parsed::Told
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            print!("{error}");
            Parsed::Told
        }
        Err(error) => {
            let value = |name: &str| value_of(&typed, name);
            let json = value("--log-format").is_some_and(|format| format == "json");
            let format = if json { LogFormat::Json } else { LogFormat::Text };
            let log = value("--log").map(PathBuf::from);
            let message = error.to_string().trim().trim_start_matches("error: ").to_owned();
            Parsed::Wrong { report: Report::new(log.as_deref(), format), message }
        }
    }
}

/// The value of `name` among arguments that as a whole can't be understood: `--name VALUE` or `--name=VALUE`.
fn value_of(typed: &[OsString], name: &str) -> Option<OsString> {
    let mut words = typed.iter();
    while let Some(word) = words.next() {
        if word == name {
            return words.next().cloned();
        }
        if let Some(value) = word.to_str().and_then(|word| word.strip_prefix(name)?.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_in_any_order() {
        let words = "msb-runtime --debug --systemd-cgroup=false --root /r --log /l --log-format json state a";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        assert!(cli.debug && !cli.systemd_cgroup);
        let words = "msb-runtime --log-format json --log /l --root /r --systemd-cgroup state a";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        assert!(cli.systemd_cgroup && cli.log_format == LogFormat::Json);
        assert_eq!(cli.root, PathBuf::from("/r"));
    }

    #[test]
    fn the_log_is_found_among_wrong_arguments() {
        let typed: Vec<OsString> =
            "x --log=/l --nonsense --log-format json".split(' ').map(Into::into).collect();
        assert_eq!(value_of(&typed, "--log"), Some("/l".into()));
        assert_eq!(value_of(&typed, "--log-format"), Some("json".into()));
        assert_eq!(value_of(&typed, "--root"), None);
    }
}
