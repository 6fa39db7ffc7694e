//! `server start|stop|keygen|health`

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use msb::{
    home::Home,
    name::Name,
    sandbox::Pull,
    server::{
        ServerConfig,
        auth::{self, Access},
    },
};
use msb_runtime::state::Process;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    Meant, Scope,
    format::{self, Format},
    options,
};

/// How long a server may take to say that it is well.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often its beginning and its end are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// What it says first, and where.
const SERVING: &str = "Serving sandboxes on http://";

/// The HTTP server.
#[derive(Debug, Subcommand)]
pub enum Server {
    Start(Start),
    /// End the server of this home, and wait until it has.
    Stop,
    Keygen(Keygen),
    /// Ask the server of this machine whether it is well.
    Health(Health),
}

/// Serve sandboxes over HTTP until it is told to end.
#[derive(Debug, Args)]
pub struct Start {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1", env = "MICROSANDBOX_HOST")]
    host: IpAddr,
    /// On which port.
    #[arg(long, default_value_t = 5555, env = "MICROSANDBOX_PORT")]
    port: u16,
    /// Everybody is let in, without a key.
    #[arg(long)]
    dev: bool,
    /// What keys are signed with, from now on: it is kept. Otherwise the server makes a secret of its own.
    #[arg(short, long, value_name = "SECRET")]
    key: Option<String>,
    /// Let sandboxes go on when the server ends.
    #[arg(long)]
    leave: bool,
    /// In the background, with its log in `run/.server.log` of the home; return when it serves.
    #[arg(short, long)]
    detach: bool,
    /// When an image is asked for from its registry by who says nothing of it.
    #[arg(
        long,
        value_name = "always|if-missing|never",
        env = "MICROSANDBOX_PULL",
        default_value = "if-missing",
        value_parser = options::pull
    )]
    pull: Pull,
    #[command(flatten)]
    limits: crate::limits::Flags,
}

/// Make a key for the server: for the namespace that is given, or for all.
#[derive(Debug, Args)]
pub struct Keygen {
    /// How long it is valid: a number with s, m, h, d, w, mo or y.
    #[arg(long, default_value = "24h", value_name = "TIME")]
    expire: String,
    /// How it is told; JSON has the moment at which it expires in seconds since 1970.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Where it is asked.
#[derive(Debug, Args)]
pub struct Health {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1", env = "MICROSANDBOX_HOST")]
    host: IpAddr,
    /// On which port.
    #[arg(long, default_value_t = 5555, env = "MICROSANDBOX_PORT")]
    port: u16,
}

impl Server {
    /// Does it.
    pub fn run(self, meant: Option<Meant>) -> anyhow::Result<ExitCode> {
        match self {
            Self::Start(start) => start.run(&Scope::of(meant)?),
            Self::Stop => stop(&Scope::of(meant)?),
            // Alone in what it does with the namespace: without one it is for all of them.
            Self::Keygen(keygen) => keygen.run(&Home::of_environment()?, meant),
            // Often: it touches nothing of the home.
            Self::Health(health) => health.run(),
        }
    }
}

impl Start {
    /// As the environment says alone.
    pub fn of_environment() -> anyhow::Result<Self> {
        let words = ["msb", "server", "start"];
        match <crate::Cli as clap::Parser>::try_parse_from(words)?.verb {
            Some(crate::Verb::Server(Server::Start(start))) => Ok(start),
            _ => anyhow::bail!("`msb server start` is no command"),
        }
    }

    /// Serves until SIGTERM or SIGINT.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let home = scope.sandboxes.home();
        let everybody = self.dev || env::var("MICROSANDBOX_DEV_MODE").is_ok_and(|value| value == "true");
        let access = match &self.key {
            _ if everybody => Access::Everybody,
            Some(text) => {
                fs::create_dir_all(home.namespaces()).context("The server's key can't be kept")?;
                Access::Keys(auth::Secret::replace(&home.server_key(), text)?)
            }
            None => Access::Keys(secret(home)?),
        };
        if self.detach {
            return self.in_background(home);
        }
        let config = ServerConfig {
            address: SocketAddr::new(self.host, self.port),
            access,
            limits: self.limits.limits(),
            pull: self.pull,
            stop_sandboxes: !self.leave,
            log: Some(home.server_log()),
        };
        crate::limits::many_files();
        let pid = home.server_pid();
        fs::create_dir_all(home.run()).context("The server's pid can't be kept")?;
        let served = msb::server::serve(Arc::new(scope.sandboxes.clone()), config, |address| {
            // Not before: one that can't listen must not be taken for the one that does.
            if let Err(error) = fs::write(&pid, std::process::id().to_string()) {
                eprintln!("The server's pid can't be kept, so `msb server stop` does not find it: {error}");
            }
            eprintln!("{SERVING}{address}");
        });
        // Another server may have begun, or was there before, and is not served by its removal.
        if fs::read_to_string(&pid).is_ok_and(|text| text == std::process::id().to_string()) {
            let _ = fs::remove_file(&pid);
        }
        served?;
        Ok(ExitCode::SUCCESS)
    }

    /// What the server that is begun by this one is told of it. Not the secret, and not that it is in the background.
    fn words(&self) -> Vec<String> {
        let pull = match self.pull {
            Pull::Always => "always",
            Pull::IfMissing => "if-missing",
            Pull::Never => "never",
        };
        let mut words =
            vec![format!("--host={}", self.host), format!("--port={}", self.port), format!("--pull={pull}")];
        words.extend(self.dev.then(|| "--dev".to_owned()));
        words.extend(self.leave.then(|| "--leave".to_owned()));
        words.extend(self.limits.words());
        words
    }

    /// This program again. The secret that was given is kept by now, and must not be seen among its arguments.
    fn in_background(&self, home: &Home) -> anyhow::Result<ExitCode> {
        let path = home.server_log();
        fs::create_dir_all(home.run()).context("What the server says can't be kept")?;
        // Another server may write to it.
        let (log, before) =
            msb::server::log::begin(&path).with_context(|| format!("{} can't be written", path.display()))?;
        let mut server = Command::new("/proc/self/exe")
            .arg0("msb")
            .args(["server", "start"])
            .args(self.words())
            .env(Home::VARIABLE, home.path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Not of the terminal's foreground, which is interrupted and hung up as a whole.
            .process_group(0)
            .spawn()
            .context("The server can't be started")?;
        loop {
            let ended = server.try_wait()?.is_some();
            let said = said(&path, before).unwrap_or_default();
            if let Some(line) = said.lines().find(|line| line.starts_with(SERVING)) {
                println!("{line}");
                return Ok(ExitCode::SUCCESS);
            }
            anyhow::ensure!(!ended, "The server ended: {}", msb_runtime::plain::lines(said.trim_end()));
            thread::sleep(LOOK);
        }
    }
}

/// What was written to a log since it was so long.
fn said(path: &Path, before: u64) -> io::Result<String> {
    let mut log = File::open(path)?;
    log.seek(SeekFrom::Start(before))?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the keys of this home are signed with.
fn secret(home: &Home) -> anyhow::Result<auth::Secret> {
    fs::create_dir_all(home.namespaces()).context("The server's key can't be kept")?;
    Ok(auth::Secret::kept(&home.server_key())?)
}

fn stop(scope: &Scope) -> anyhow::Result<ExitCode> {
    let text =
        fs::read_to_string(scope.sandboxes.home().server_pid()).context("No server runs for this home")?;
    let pid: i32 = text.trim().parse().context("The server's pid is no number")?;
    let server = Process::of(pid).context("No server runs for this home: it was killed")?;
    // Only a program of ours: the number may be another's by now.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    anyhow::ensure!(name.trim() == "msb", "No server runs for this home: process {pid} is another program");
    kill(Pid::from_raw(pid), Signal::SIGTERM).context("The server can't be ended")?;
    // It ends its sandboxes first, each with as long as it has for that.
    while server.is_alive() {
        thread::sleep(LOOK);
    }
    Ok(ExitCode::SUCCESS)
}

impl Keygen {
    /// Prints it, until when it is valid, and for what.
    fn run(self, home: &Home, meant: Option<Meant>) -> anyhow::Result<ExitCode> {
        let lasts = auth::lasting(&self.expire)?;
        let namespace = match meant {
            Some(Meant::One(name)) => Some(name),
            Some(Meant::All) | None => None,
        };
        let token = auth::keygen(&secret(home)?, lasts, namespace.as_ref())?;
        let until = token.expires.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let namespace = namespace.as_ref().map_or("*", Name::as_str);
        if self.format == Format::Json {
            let told = json!({ "token": token.text, "expires": until.as_secs(), "namespace": namespace });
            format::json(&told)?;
            return Ok(ExitCode::SUCCESS);
        }
        println!("Token: {}", token.text);
        println!("Token expires: {} (seconds since 1970), in {}", until.as_secs(), format::span(lasts));
        println!("Namespace: {namespace}");
        Ok(ExitCode::SUCCESS)
    }
}

impl Health {
    /// Fails where it does not say so.
    fn run(self) -> anyhow::Result<ExitCode> {
        let address = SocketAddr::new(reached(self.host), self.port);
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("Nobody serves on {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        anyhow::ensure!(
            answer.starts_with("HTTP/1.1 200 "),
            "The server is not well: {}",
            msb_runtime::plain::line(&answer)
        );
        println!("healthy");
        Ok(ExitCode::SUCCESS)
    }
}

/// Who listens everywhere is reached at this machine's own address.
fn reached(listens: IpAddr) -> IpAddr {
    match listens {
        IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn start(words: &[String]) -> Start {
        let line = ["msb", "server", "start"].map(str::to_owned).into_iter().chain(words.iter().cloned());
        match crate::Cli::try_parse_from(line).unwrap().verb {
            Some(crate::Verb::Server(Server::Start(start))) => start,
            _ => panic!("{words:?}"),
        }
    }

    #[test]
    fn a_server_is_reached_where_it_listens() {
        for (listens, at) in
            [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::1", "::1"), ("10.0.0.7", "10.0.0.7")]
        {
            assert_eq!(reached(listens.parse().unwrap()).to_string(), at);
        }
    }

    #[test]
    fn a_server_in_the_background_has_each_option() {
        let given = "--host=::1 --port=1234 --dev --leave --pull=never --max-sandboxes=3 --max-memory=1g --max-requests=4 \
                     --max-body=1m --max-output=2m --start-timeout=5 --run-timeout=6";
        let given: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
        let words = start(&given).words();
        assert_eq!(start(&words).words(), words);
        let command = crate::Cli::command();
        let server = command.find_subcommand("server").unwrap().find_subcommand("start").unwrap();
        let options: Vec<&str> = server.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert!(options.contains(&"pull") && options.contains(&"max-memory"), "{options:?}");
        for option in options {
            let passed =
                words.iter().any(|word| word.trim_start_matches("--").split('=').next() == Some(option));
            // The first is kept on disk, the second is what is done here.
            assert!(passed != matches!(option, "key" | "detach"), "{option} {words:?}");
            let asked =
                given.iter().any(|word| word.trim_start_matches("--").split('=').next() == Some(option));
            assert_eq!(asked, passed, "this test must give {option}");
        }
        assert_eq!(words[..3], given[..2].iter().chain(&given[4..5]).cloned().collect::<Vec<_>>()[..]);
    }
}
