//! `msb`: sandboxes for a person at a shell, in the words of Docker's command line.
//!
//! Enters: arguments, and the environment. Leaves: what was asked for on stdout, errors on stderr, an exit code: the
//! sandbox's own where one was in the foreground; 125 where `msb` itself failed, as with Docker.
//!
//! ```text
//!  main ─▶ one verb per file ─▶ msb::{sandbox, image, server}
//! ```

mod completion;
mod cp;
mod default;
mod doctor;
mod enter;
mod exec;
mod format;
mod hidden;
mod images;
mod import;
mod inspect;
mod kill;
mod limits;
mod load;
mod logs;
mod progress;
mod ps;
mod pull;
mod remove;
mod rmi;
mod run;
mod save;
mod server;
mod start;
mod stats;
mod stop;
mod version;
mod volume;

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};
use msb::{
    home::Home,
    name::{BadName, Name},
    sandbox::{Key, Sandboxes},
};

/// What Docker's command ends with where it failed itself.
const FAILED: u8 = 125;

/// Run programs that you do not trust, each in a virtual machine of its own.
#[derive(Debug, Parser)]
#[command(name = "msb", version, max_term_width = 120, subcommand_required = false)]
struct Cli {
    /// Which sandboxes are meant.
    #[arg(
        long,
        global = true,
        default_value = "default",
        value_name = "NAME",
        env = "MICROSANDBOX_NAMESPACE"
    )]
    namespace: Name,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<run::Run>),
    Create(Box<run::Create>),
    Start(start::Start),
    Exec(exec::Exec),
    #[command(visible_alias = "list", alias = "ls")]
    Ps(ps::Ps),
    #[command(alias = "log")]
    Logs(logs::Logs),
    Stop(stop::Stop),
    Kill(kill::Kill),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::Remove),
    Cp(cp::Cp),
    Inspect(inspect::Inspect),
    #[command(visible_alias = "metrics")]
    Stats(stats::Stats),
    Images(images::Images),
    Pull(pull::Pull),
    Load(load::Load),
    Save(save::Save),
    Rmi(rmi::Rmi),
    Prune(rmi::Prune),
    Import(import::Import),
    #[command(subcommand)]
    Volume(volume::Volume),
    #[command(subcommand)]
    Server(server::Server),
    #[command(hide = true)]
    Enter(enter::Enter),
    Doctor(doctor::Doctor),
    Completion(completion::Completion),
    Version(version::Version),
}

/// What verbs work on.
struct Scope {
    sandboxes: Sandboxes,
    namespace: Name,
}

impl Scope {
    /// The sandbox of that name.
    fn key(&self, name: &str) -> Result<Key, BadName> {
        Ok(Key { namespace: self.namespace.clone(), name: name.parse()? })
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = hidden::run(&words) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // There is nowhere else to tell it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILED } else { 0 });
        }
    };
    match act(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("msb: {}", msb_runtime::verbs::words::chain(error.as_ref()));
            ExitCode::from(FAILED)
        }
    }
}

fn act(cli: Cli) -> anyhow::Result<ExitCode> {
    let Some(verb) = cli.verb else {
        if std::io::stdin().is_terminal() {
            return run::Run::shell(true).run(&Scope::of(cli.namespace)?);
        }
        anyhow::bail!("Give a command: `msb run IMAGE`, or `msb --help` for all of them");
    };
    let verb = match verb {
        Verb::Doctor(doctor) => return doctor.run(),
        Verb::Completion(completion) => return completion.run(),
        Verb::Version(version) => return version.run(),
        verb => verb,
    };
    let scope = Scope::of(cli.namespace)?;
    match verb {
        Verb::Run(run) => run.run(&scope),
        Verb::Create(create) => create.run(&scope),
        Verb::Start(start) => start.run(&scope),
        Verb::Exec(exec) => exec.run(&scope),
        Verb::Ps(ps) => ps.run(&scope),
        Verb::Logs(logs) => logs.run(&scope),
        Verb::Stop(stop) => stop.run(&scope),
        Verb::Kill(kill) => kill.run(&scope),
        Verb::Remove(remove) => remove.run(&scope),
        Verb::Cp(cp) => cp.run(&scope),
        Verb::Inspect(inspect) => inspect.run(&scope),
        Verb::Stats(stats) => stats.run(&scope),
        Verb::Images(images) => images.run(&scope),
        Verb::Pull(pull) => pull.run(&scope),
        Verb::Load(load) => load.run(&scope),
        Verb::Save(save) => save.run(&scope),
        Verb::Rmi(rmi) => rmi.run(&scope),
        Verb::Prune(prune) => prune.run(&scope),
        Verb::Import(import) => import.run(&scope),
        Verb::Volume(volume) => volume.run(&scope),
        Verb::Server(server) => server.run(&scope),
        Verb::Enter(enter) => enter.run(&scope),
        Verb::Doctor(_) | Verb::Completion(_) | Verb::Version(_) => Ok(ExitCode::SUCCESS),
    }
}

impl Scope {
    fn of(namespace: Name) -> anyhow::Result<Self> {
        Ok(Self { sandboxes: Sandboxes::new(Home::of_environment()?), namespace })
    }
}
