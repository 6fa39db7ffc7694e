//! `msb`: sandboxes for a person at a shell, in the words of Docker's command line.
//!
//! Enters: arguments, and the environment. Leaves: what was asked for on stdout, errors on stderr, an exit code: the
//! sandbox's own where one was in the foreground; 125 where `msb` itself failed, as with Docker.
//!
//! ```text
//!  main ─▶ one verb per file ─▶ msb::{sandbox, image, server}
//! ```

mod attach;
mod completion;
mod cp;
mod default;
mod doctor;
mod enter;
mod env;
mod exec;
mod filter;
mod format;
mod hidden;
mod image;
mod images;
mod import;
mod inspect;
mod kill;
mod limits;
mod load;
mod login;
mod logs;
mod moment;
mod options;
mod port;
mod progress;
mod ps;
mod pull;
mod remove;
mod restart;
mod rmi;
mod run;
mod save;
mod server;
mod start;
mod stats;
mod stop;
mod top;
mod version;
mod volume;
mod wait;
mod words;

use std::{io::IsTerminal, path::Path, process::ExitCode, str::FromStr};

use clap::{Parser, Subcommand};
use msb::{
    home::Home,
    image::Images,
    name::{BadName, Name},
    sandbox::{Failure, Key, Sandboxes},
};

/// Environment variable with a home whose images come with the program.
const SHIPPED: &str = "MICROSANDBOX_SHIPPED";
/// What Docker's command ends with where it failed itself.
const FAILED: u8 = 125;

/// Run programs that you do not trust, each in a virtual machine of its own.
#[derive(Debug, Parser)]
#[command(name = "msb", version, max_term_width = 120, subcommand_required = false)]
struct Cli {
    /// Which sandboxes are meant; otherwise those of `default`. For a key, whose: otherwise everybody's, `*`.
    #[arg(long, global = true, value_name = "NAME", env = "MICROSANDBOX_NAMESPACE")]
    namespace: Option<Meant>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<run::Run>),
    Create(Box<run::Create>),
    Start(start::Start),
    Restart(restart::Restart),
    Attach(attach::Attach),
    Exec(exec::Exec),
    #[command(visible_alias = "list", alias = "ls")]
    Ps(ps::Ps),
    #[command(alias = "log")]
    Logs(logs::Logs),
    Stop(stop::Stop),
    Kill(kill::Kill),
    Wait(wait::Wait),
    Rename(restart::Rename),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::Remove),
    Cp(cp::Cp),
    Inspect(inspect::Inspect),
    #[command(visible_alias = "metrics")]
    Stats(stats::Stats),
    Top(top::Top),
    Port(port::Port),
    #[command(subcommand)]
    Image(image::Image),
    Images(images::Images),
    Pull(pull::Pull),
    Load(load::Load),
    Save(save::Save),
    Tag(image::Tag),
    Rmi(rmi::Rmi),
    Prune(rmi::Prune),
    Import(import::Import),
    Login(login::Login),
    Logout(login::Logout),
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

/// `--namespace`
#[derive(Debug, Clone)]
enum Meant {
    All,
    One(Name),
}

impl FromStr for Meant {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text == "*" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
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

    /// Starts a sandbox in the background, and tells how its walls are relaxed.
    fn start(&self, key: &Key) -> Result<(), Failure> {
        self.sandboxes.start(key)?;
        // It may be gone again.
        if let Ok((_, stored)) = self.sandboxes.find(key) {
            run::warn(&stored);
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = hidden::run(&words) {
        return code;
    }
    let cli = match parse(&words) {
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

/// What follows `--` is a command, and not an image, where no image is before it.
fn parse(words: &[String]) -> Result<Cli, clap::Error> {
    let of = |words: &[String]| Cli::try_parse_from([&["msb".to_owned()], words].concat());
    if let Some(at) = words.iter().position(|word| word == "--")
        && let Ok(mut cli) = of(&words[..at])
    {
        let command = &words[at + 1..];
        match &mut cli.verb {
            Some(Verb::Run(run)) if run.is_bare() => run.set_command(command),
            Some(Verb::Create(create)) if create.is_bare() => create.set_command(command),
            _ => return of(words),
        }
        return Ok(cli);
    }
    of(words)
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
        Verb::Server(server) => return server.run(cli.namespace),
        Verb::Login(login) => return login.run(),
        Verb::Logout(logout) => return logout.run(),
        verb => verb,
    };
    let scope = Scope::of(cli.namespace)?;
    match verb {
        Verb::Run(run) => run.run(&scope),
        Verb::Create(create) => create.run(&scope),
        Verb::Start(start) => start.run(&scope),
        Verb::Restart(restart) => restart.run(&scope),
        Verb::Attach(attach) => attach.run(&scope),
        Verb::Exec(exec) => exec.run(&scope),
        Verb::Ps(ps) => ps.run(&scope),
        Verb::Logs(logs) => logs.run(&scope),
        Verb::Stop(stop) => stop.run(&scope),
        Verb::Kill(kill) => kill.run(&scope),
        Verb::Wait(wait) => wait.run(&scope),
        Verb::Rename(rename) => rename.run(&scope),
        Verb::Remove(remove) => remove.run(&scope),
        Verb::Cp(cp) => cp.run(&scope),
        Verb::Inspect(inspect) => inspect.run(&scope),
        Verb::Stats(stats) => stats.run(&scope),
        Verb::Top(top) => top.run(&scope),
        Verb::Port(port) => port.run(&scope),
        Verb::Image(image) => image.run(&scope),
        Verb::Images(images) => images.run(&scope),
        Verb::Pull(pull) => pull.run(&scope),
        Verb::Load(load) => load.run(&scope),
        Verb::Save(save) => save.run(&scope),
        Verb::Tag(tag) => tag.run(&scope),
        Verb::Rmi(rmi) => rmi.run(&scope),
        Verb::Prune(prune) => prune.run(&scope),
        Verb::Import(import) => import.run(&scope),
        Verb::Volume(volume) => volume.run(&scope),
        Verb::Enter(enter) => enter.run(&scope),
        Verb::Doctor(_)
        | Verb::Completion(_)
        | Verb::Version(_)
        | Verb::Server(_)
        | Verb::Login(_)
        | Verb::Logout(_) => Ok(ExitCode::SUCCESS),
    }
}

impl Scope {
    fn of(meant: Option<Meant>) -> anyhow::Result<Self> {
        let namespace = match meant {
            None => Name::default_namespace(),
            Some(Meant::One(name)) => name,
            Some(Meant::All) => anyhow::bail!("`*` is for keys alone: give one namespace"),
        };
        let home = Home::of_environment()?;
        if let Some(shipped) = std::env::var_os(SHIPPED).filter(|path| !path.is_empty())
            && let Err(error) = Images::open(&home).and_then(|images| images.take_over(Path::new(&shipped)))
        {
            // What is here already can still be used, or removed where the disk is full.
            eprintln!("msb: {}", msb_runtime::verbs::words::chain(&error));
        }
        Ok(Self { sandboxes: Sandboxes::new(home), namespace })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command, CommandFactory};

    use super::*;

    /// One of these is a value of whatever takes any.
    const VALUES: [&str; 15] = [
        "name",
        "1",
        "1s",
        "/a:/b",
        "1:1",
        "none",
        "127.0.0.1",
        "never",
        "this is a rather long secret",
        "/a",
        "nofile=1",
        "size=1g",
        "name=x",
        "KILL",
        "always",
    ];

    /// A verb: its words, its options, and what it can't be without.
    struct Line {
        words: Vec<String>,
        options: Vec<Arg>,
        rest: Vec<String>,
    }

    impl Line {
        /// Whether it can be given that.
        fn takes(&self, option: &[&str]) -> bool {
            let option = option.iter().map(ToString::to_string);
            Cli::try_parse_from(self.words.iter().cloned().chain(option).chain(self.rest.iter().cloned()))
                .is_ok()
        }
    }

    /// One of these is a value of `arg`.
    fn values(arg: &Arg) -> Vec<String> {
        let possible = arg.get_possible_values();
        possible.iter().map(clap::builder::PossibleValue::get_name).chain(VALUES).map(str::to_owned).collect()
    }

    /// `command` and all below it.
    fn lines(command: &Command, words: &[String], found: &mut Vec<Line>) {
        if !command.has_subcommands() || !command.is_subcommand_required_set() {
            let required = command.get_arguments().filter(|arg| arg.is_required_set());
            let printed = |arg: &&Arg| matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
            let options = command.get_arguments().filter(|arg| !arg.is_positional() && !printed(arg));
            found.push(Line {
                words: words.to_vec(),
                options: options.cloned().collect(),
                rest: required.map(|arg| values(arg).swap_remove(0)).collect(),
            });
        }
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            lines(below, &[words, &[below.get_name().to_owned()]].concat(), found);
        }
    }

    /// Asked for one by one, since some exclude each other. What parses is also converted, which is where two that share an id
    /// are found out.
    #[test]
    fn every_verb_takes_each_of_its_options() {
        let mut command = Cli::command();
        command.build();
        let mut found = Vec::new();
        lines(&command, &["msb".to_owned()], &mut found);
        assert!(found.len() > 25);
        for line in &found {
            assert!(line.takes(&[]), "{:?} {:?}", line.words, line.rest);
            for arg in &line.options {
                let flag = format!("--{}", arg.get_long().expect("each has a long name"));
                let taken = match arg.get_action() {
                    ArgAction::SetTrue => line.takes(&[&flag]),
                    _ => values(arg).iter().any(|value| line.takes(&[&flag, value])),
                };
                assert!(taken, "{:?} {flag}", line.words);
            }
        }
    }

    #[test]
    fn a_key_for_all_is_only_for_who_names_no_namespace() {
        let meant = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().namespace;
        for line in ["msb --namespace team server keygen", "msb server keygen --namespace team"] {
            assert!(matches!(meant(line), Some(Meant::One(name)) if name.as_str() == "team"));
        }
        assert!(matches!(meant("msb server keygen --namespace *"), Some(Meant::All)));
        Cli::try_parse_from(["msb", "server", "keygen", "--namespace", "../x"]).unwrap_err();
        assert!(Scope::of(Some(Meant::All)).is_err());
    }

    #[test]
    fn a_command_without_an_image_stands_behind_two_dashes() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let of = |line: &str| match parse(&words(line)).unwrap().verb {
            Some(Verb::Run(run)) => run.words(),
            _ => panic!("{line}"),
        };
        assert_eq!(of("run --rm -e A=b -- ls -l"), (None, words("ls -l")));
        assert_eq!(of("run busybox -- ls -l"), (Some("busybox".into()), words("ls -l")));
        assert_eq!(of("run -i busybox sh -c x -- y"), (Some("busybox".into()), words("sh -c x -- y")));
        assert_eq!(of("run --entrypoint python app -c 1 -u"), (Some("app".into()), words("-c 1 -u")));
        assert_eq!(of("run --namespace a -- -v"), (None, words("-v")));
    }
}
