//! `ps ID`
//!
//! Docker filters the host's `ps` by these pids. The container's processes have none there: what stands for all of
//! them is the VMM. Who wants to see them asks for `--guest`.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use msb_agent::protocol::ProcessInfo;
use msb_runtime::{
    plain,
    sandbox::control::Control,
    state::{Id, StateError, Status},
    verbs::Context,
};
use serde_json::{Value, json};

use crate::list::Format;

/// List a container's processes: what stands for them on the host, or with --guest themselves.
#[derive(Debug, Args)]
pub struct Ps {
    /// table or json.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The container's own processes, as its machine has them.
    #[arg(long)]
    guest: bool,
    /// Which container.
    id: String,
    /// Given to ps(1) for the table.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    ps_args: Vec<String>,
}

impl Ps {
    /// Prints them.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = context.store.look(&id)?;
        let record = entry.record()?;
        if self.guest {
            if record.status() == Status::Stopped {
                return Err(StateError::NotRunning.into());
            }
            let processes = Control::of(entry.directory()).processes()?;
            match self.format {
                Format::Json => println!("{}", objects(&processes)),
                Format::Table => print!("{}", guests(&processes)),
            }
            return Ok(ExitCode::SUCCESS);
        }
        let pids = if record.status() == Status::Stopped { vec![] } else { vec![record.vmm.pid] };
        match self.format {
            Format::Json => println!("{}", serde_json::to_string(&pids)?),
            Format::Table => print!("{}", table(&pids, &self.ps_args)?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The lines of ps(1) that are about `pids`, under its heading.
fn table(pids: &[i32], args: &[String]) -> anyhow::Result<String> {
    let usual = ["-ef".to_owned()];
    let args = if args.is_empty() { &usual } else { args };
    let output = Command::new("ps").args(args).output().context("ps can't be run: install procps")?;
    if !output.status.success() {
        bail!("ps failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let heading = text.lines().next().unwrap_or_default();
    let column =
        heading.split_whitespace().position(|name| name == "PID").context("ps prints no PID column")?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let lines = std::iter::once(heading).chain(text.lines().skip(1).filter(ours));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

/// All processes, for programs, or for a person who looks at what those get.
fn objects(processes: &[ProcessInfo]) -> String {
    plain::json(&Value::from_iter(processes.iter().map(object)).to_string())
}

/// One process, for programs.
fn object(process: &ProcessInfo) -> Value {
    json!({
        "pid": process.pid, "ppid": process.parent, "uid": process.uid, "state": process.state.to_string(),
        "name": process.name, "args": process.args, "started": process.started, "cpuMillis": process.cpu,
        "residentBytes": process.resident,
    })
}

/// All processes, for people. What the guest says is shown without what would move a terminal's cursor.
fn guests(processes: &[ProcessInfo]) -> String {
    let mut text = format!("{:>7} {:>7} {:>7} S {:>10} {:>9} CMD\n", "PID", "PPID", "UID", "TIME", "RSS");
    for process in processes {
        let seconds = process.cpu / 1000;
        let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let command =
            if process.args.is_empty() { format!("[{}]", process.name) } else { process.args.join(" ") };
        let command = plain::line(&command);
        let state = if process.state.is_ascii_alphabetic() { process.state } else { '?' };
        text.push_str(&format!(
            "{:>7} {:>7} {:>7} {state} {time:>10} {:>8}K {command}\n",
            process.pid,
            process.parent,
            process.uid,
            process.resident / 1024
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_the_guest_are_shown_plainly() {
        let process = ProcessInfo {
            pid: 7,
            parent: 1,
            uid: 1000,
            state: 'S',
            name: "sh".into(),
            args: vec!["sh".into(), "-c".into(), "a\u{1b}[2J\nb".into()],
            started: 0,
            cpu: 3_723_000,
            resident: 2 << 20,
        };
        let kernel = ProcessInfo { args: Vec::new(), ..process.clone() };
        let table = guests(&[process.clone(), kernel]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>()[..6],
            ["7", "1", "1000", "S", "01:02:03", "2048K"]
        );
        assert!(lines[1].ends_with("sh -c a?[2J?b") && lines[2].ends_with("[sh]"), "{table}");
        assert_eq!(object(&process)["ppid"], 1);
        let c1 = ProcessInfo { name: "\u{9b}2J".into(), ..process };
        assert!(objects(&[c1]).contains(r#""name":"\u009b2J""#));
    }
}
