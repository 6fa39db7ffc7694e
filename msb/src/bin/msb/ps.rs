//! `ps`

use std::process::ExitCode;

use clap::Args;
use msb::sandbox::{Exit, Info, State};
use serde_json::{Value, json};

use crate::{
    Scope,
    filter::{self, Filter},
    format::{self, Format},
};

/// List sandboxes.
#[derive(Debug, Args)]
pub struct Ps {
    /// Those that have ended as well.
    #[arg(short, long)]
    all: bool,
    /// Names alone.
    #[arg(short, long)]
    quiet: bool,
    /// Those alone that have this; each of several.
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// The last so many that were made, the newest first, whatever they do.
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<usize>,
    /// The last one.
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Of all namespaces.
    #[arg(long)]
    all_namespaces: bool,
    /// How.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Ps {
    /// Prints them.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let known = scope.sandboxes.home().namespaces().join(scope.namespace.as_str()).is_dir();
        let namespace = Some(&scope.namespace).filter(|_| !self.all_namespaces);
        let mut all =
            if known || namespace.is_none() { scope.sandboxes.list(namespace)? } else { Vec::new() };
        let last = self.last.or(self.latest.then_some(1));
        let any = self.all || last.is_some() || self.filter.iter().any(Filter::is_of_state);
        all.retain(|info| (any || info.running()) && filter::all(&self.filter, info));
        if let Some(last) = last {
            all.sort_by_key(|info| std::cmp::Reverse(info.created));
            all.truncate(last);
        }
        if self.quiet {
            all.iter().for_each(|info| println!("{}", info.key.name));
        } else if self.format == Format::Json {
            format::json(&all.iter().map(told).collect::<Vec<_>>())?;
        } else {
            let rows: Vec<Vec<String>> = all.iter().map(row).collect();
            format::table(&["NAME", "NAMESPACE", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS"], &rows)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(info: &Info) -> Vec<String> {
    let ports: Vec<String> = info.request.ports.iter().map(ToString::to_string).collect();
    let command = info.request.command.as_ref().map(|words| words.join(" ")).unwrap_or_default();
    vec![
        info.key.name.to_string(),
        info.key.namespace.to_string(),
        info.request.image.clone(),
        command.chars().take(30).collect(),
        format::ago(info.created),
        status(info),
        ports.join(", "),
    ]
}

fn status(info: &Info) -> String {
    match info.state {
        State::Created => "Created".into(),
        State::Running => info.up.map_or_else(|| "Up".into(), |up| format!("Up {}", format::span(up))),
        State::Stopped(exit) => {
            let code = exit.map_or_else(|| "unknown".into(), |exit| exit.code().to_string());
            format!(
                "Exited ({code}){}",
                info.ended.map(|at| format!(" {}", format::ago(at))).unwrap_or_default()
            )
        }
    }
}

/// In one word.
pub fn state(info: &Info) -> &'static str {
    match info.state {
        State::Created => "created",
        State::Running => "running",
        State::Stopped(_) => "stopped",
    }
}

/// As `ps` and `inspect` tell it to programs.
pub fn told(info: &Info) -> Value {
    let exit = match info.state {
        State::Created | State::Running => None,
        State::Stopped(exit) => exit.map(Exit::code),
    };
    let time = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
    };
    json!({
        "name": info.key.name,
        "namespace": info.key.namespace,
        "state": state(info),
        "exit_code": exit,
        "created": time(info.created),
        "started": info.started.map(time),
        "ended": info.ended.map(time),
        "request": info.request,
    })
}
