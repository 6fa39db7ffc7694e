//! `msb-runtime`: the command line of an OCI runtime, one file per verb.
//!
//! Enters: runc's arguments. Leaves: an exit code; nothing on stdout or stderr when all is well, unless a verb is
//! there to tell something. Errors are printed here and nowhere else, once, with their whole chain ([`report`]).

mod args;
mod attach;
mod checkpoint;
mod config;
mod console;
mod create;
mod delete;
mod doctor;
mod events;
mod exec;
mod features;
mod foreground;
mod kill;
mod launch;
mod list;
mod member;
mod pause;
mod ps;
mod report;
mod resume;
mod run;
mod show;
mod spec;
mod start;
mod state;
mod statistics;
mod update;
mod victim;
mod vmm;
mod volumes;

use std::process::ExitCode;

use args::{Cli, Parsed, Rootless, Verb};
use msb_runtime::{state::Store, verbs::Context};
use report::Report;

fn main() -> ExitCode {
    let cli = match args::parse() {
        Parsed::Cli(cli) => *cli,
        Parsed::Told => return ExitCode::SUCCESS,
        Parsed::Wrong { report, message } => {
            report.text(&message);
            return ExitCode::FAILURE;
        }
    };
    let (report, context) = (Report::of(&cli), context(&cli));
    let verb = cli.verb.name();
    let rootless = cli.rootless == Rootless::True;
    match rootful(rootless).and_then(|()| carry_out(cli.verb, &context)) {
        Ok(code) => code,
        Err(error) => {
            report.error(verb, &error);
            // Not one of the container's own codes: as runc for an exec, and for a machine that was lost.
            if matches!(verb, "exec" | "vmm" | "member" | "attach") {
                ExitCode::from(255)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// What the global flags mean to every verb.
fn context(cli: &Cli) -> Context {
    // Absolute, as paths beneath it are given to processes that run elsewhere.
    let root = std::path::absolute(&cli.root).unwrap_or_else(|_| cli.root.clone());
    let (store, tell) = (Store::new(root), Box::new(Report::of(cli)));
    Context { store, systemd_cgroup: cli.systemd_cgroup, settings: None, tell }
}

/// `--rootless=true`
fn rootful(rootless: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        !rootless,
        "--rootless=true is not supported: the runtime needs root. Leave it out, and run as root"
    );
    Ok(())
}

fn carry_out(verb: Verb, context: &Context) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Create(verb) => verb.run(context),
        Verb::Start(verb) => verb.run(context),
        Verb::Run(verb) => verb.run(context),
        Verb::Exec(verb) => verb.run(context),
        Verb::Kill(verb) => verb.run(context),
        Verb::Pause(verb) => verb.run(context),
        Verb::Resume(verb) => verb.run(context),
        Verb::Delete(verb) => verb.run(context),
        Verb::Vmm(verb) => verb.run(),
        Verb::Member(verb) => verb.run(),
        Verb::Attach(verb) => verb.run(),
        Verb::Volumes(verb) => verb.run(),
        Verb::State(verb) => verb.run(context),
        Verb::List(verb) => verb.run(context),
        Verb::Ps(verb) => verb.run(context),
        Verb::Update(verb) => verb.run(context),
        Verb::Events(verb) => verb.run(context),
        Verb::Victim(verb) => verb.run(),
        Verb::Spec(verb) => verb.run(),
        Verb::Config(verb) => verb.run(),
        Verb::Features(verb) => verb.run(),
        Verb::Checkpoint(verb) => verb.run("checkpoint"),
        Verb::Restore(verb) => verb.run("restore"),
        Verb::Doctor(verb) => verb.run(),
    }
}
