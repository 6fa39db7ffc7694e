//! `doctor`: one line for each thing that a container needs, and what to do where it is missing.

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{plain, verbs::doctor};

/// Check whether this machine can run containers, and say what to do if not.
#[derive(Debug, Args)]
pub struct Doctor {}

impl Doctor {
    /// Prints all lines; fails if one of them is bad.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for (name, finding) in doctor::findings() {
            match finding {
                Ok(found) => println!("ok    {name}: {}", plain::lines(&found)),
                Err(advice) => {
                    println!("FAIL  {name}: {}", plain::lines(&advice));
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}
