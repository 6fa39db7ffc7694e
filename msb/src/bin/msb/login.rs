//! `login [REGISTRY]` and `logout`

use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use msb::image::{Credentials, Registries};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Of who names none.
const HUB: &str = "docker.io";
/// A password is not longer.
const LONGEST: u64 = 64 << 10;

/// Keep a name and a password for a registry, in Docker's configuration.
#[derive(Debug, Args)]
pub struct Login {
    /// The name; otherwise it is asked for.
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The password; others can see it in the list of processes.
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// The password comes by stdin.
    #[arg(long)]
    password_stdin: bool,
    /// Which registry, like ghcr.io or localhost:5000.
    #[arg(default_value = HUB)]
    registry: String,
}

/// Forget what is kept for a registry.
#[derive(Debug, Args)]
pub struct Logout {
    /// Which registry.
    #[arg(default_value = HUB)]
    registry: String,
}

impl Login {
    /// Asks the registry before anything is kept.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let registry = name(&self.registry)?;
        let user = match self.username {
            Some(user) => user,
            None => ask("Username: ")?,
        };
        let password = if self.password_stdin {
            let mut text = String::new();
            io::stdin().lock().take(LONGEST).read_to_string(&mut text)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        } else if let Some(password) = self.password {
            password
        } else {
            unseen(|| ask("Password: "))?
        };
        if user.is_empty() || password.is_empty() || user.contains(':') {
            bail!("Give a name without a colon, and a password");
        }
        Registries::of_environment().login(registry, &Credentials { user, password })?;
        println!("Login Succeeded");
        Ok(ExitCode::SUCCESS)
    }
}

impl Logout {
    /// Says so where there was nothing.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let registry = name(&self.registry)?;
        if Registries::of_environment().logout(registry)? {
            println!("Removed what was kept for {registry}");
        } else {
            println!("Nothing was kept for {registry}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A registry, also as an address of the Web.
fn name(text: &str) -> anyhow::Result<&str> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let bare = bare.split('/').next().unwrap_or(bare);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if bare.is_empty() || !bare.bytes().all(good) {
        bail!("{text:?} is no registry: give HOST or HOST:PORT");
    }
    Ok(bare)
}

fn ask(what: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        bail!("The input is no terminal: give --username, and --password-stdin");
    }
    eprint!("{what}");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// With a terminal that does not show what is typed.
fn unseen(work: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
    let Ok(before) = tcgetattr(io::stdin()) else { return work() };
    let mut dark = before.clone();
    dark.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Flush, &dark).context("The terminal can't hide what is typed")?;
    let done = work();
    eprintln!();
    tcsetattr(io::stdin(), OptionalActions::Flush, &before).context("The terminal can't be put back")?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_by_name_or_address() {
        assert_eq!(name("https://index.docker.io/v1/").unwrap(), "index.docker.io");
        assert_eq!(name("localhost:5000").unwrap(), "localhost:5000");
        for bad in ["", "https://", "a b", "a@b"] {
            name(bad).unwrap_err();
        }
    }
}
