//! `msb-runtime`: the command line of an OCI runtime, one file per verb.
//!
//! Enters: runc's arguments. Leaves: an exit code; nothing on stdout or stderr when all is well, unless a verb is
//! there to tell something. Errors are printed here and nowhere else, once, with their whole chain ([`report`]).

mod args;
mod clock;
mod context;
mod doctor;
mod features;
mod list;
mod ps;
mod report;
mod show;
mod spec;
mod state;

use std::process::ExitCode;

use args::{Parsed, Verb};
use context::Context;
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
    let report = Report::new(cli.log.as_deref(), cli.log_format);
    let context = Context::new(&cli);
    let verb = cli.verb.name();
    match run(cli.verb, &context) {
        Ok(code) => code,
        Err(error) => {
            report.error(verb, &error);
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb, context: &Context) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::State(verb) => verb.run(context),
        Verb::List(verb) => verb.run(context),
        Verb::Ps(verb) => verb.run(context),
        Verb::Spec(verb) => verb.run(),
        Verb::Features(verb) => verb.run(),
        Verb::Doctor(verb) => verb.run(),
    }
}
