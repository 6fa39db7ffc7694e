//! `kill ID [SIGNAL]`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{
    state::Id,
    verbs::{Context, kill},
};
use nix::sys::signal::Signal;

/// Send a signal to a container's process.
#[derive(Debug, Args)]
pub struct Kill {
    /// To every process of the container.
    #[arg(short, long)]
    all: bool,
    /// Which container.
    id: String,
    /// A number, or a name with or without SIG.
    #[arg(default_value = "TERM", value_parser = number)]
    signal: i32,
}

impl Kill {
    /// Sends it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = context.store.look(&id)?;
        kill::send(&entry, self.signal, self.all)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `9`, `KILL`, `SIGKILL`, `kill`.
fn number(text: &str) -> Result<i32, String> {
    let wrong = || format!("there is no signal {text:?}: give a number from 1 to 64, or a name such as TERM");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    format!("SIG{name}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        for (text, expected) in
            [("15", 15), ("TERM", 15), ("SIGTERM", 15), ("usr1", 10), ("sigkill", 9), ("64", 64)]
        {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "NOSUCH"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
