//! containerd's flags, as Go writes them: `-name value`, `-name=value`, and the same with two dashes.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// What is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing was named: be the shim.
    #[default]
    Serve,
    /// `start`
    Start,
    /// `delete`
    Delete,
    /// `members`, by ourselves: what a pod's other containers have left.
    Members,
    /// `-v`
    Version,
    /// `-info`
    Info,
}

/// What was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// What is to be done.
    pub action: Action,
    /// containerd's namespace of the task.
    pub namespace: String,
    /// The task.
    pub id: String,
    /// containerd's own socket.
    pub address: String,
    /// Its program, for shims that publish events by running it.
    pub publish_binary: String,
    /// The bundle, for `delete`; otherwise it is the working directory.
    pub bundle: Option<PathBuf>,
    /// More is logged.
    pub debug: bool,
}

impl Flags {
    /// From this program's arguments.
    pub fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut flags = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-') else {
                flags.action = match word.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    "members" => Action::Members,
                    other => bail!("{other:?} is nothing that a shim does: it is run by containerd"),
                };
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, given) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let on = given.as_deref() != Some("false");
            let mut value = || given.clone().or_else(|| words.next().cloned()).context("A flag has no value");
            match name {
                "debug" => flags.debug = on,
                "v" | "version" if on => flags.action = Action::Version,
                "info" if on => flags.action = Action::Info,
                "v" | "version" | "info" => {}
                "namespace" => flags.namespace = value()?,
                "id" => flags.id = value()?,
                "address" => flags.address = value()?,
                "publish-binary" => flags.publish_binary = value()?,
                "bundle" => flags.bundle = Some(value()?.into()),
                // Of use to shims that listen where they are told.
                "socket" => drop(value()?),
                other => bail!("The flag -{other} is not known: it is run by containerd"),
            }
        }
        if matches!(flags.action, Action::Start | Action::Delete | Action::Serve) {
            let missing = [("namespace", &flags.namespace), ("id", &flags.id), ("address", &flags.address)];
            if let Some((name, _)) = missing.iter().find(|(_, value)| value.is_empty()) {
                bail!("-{name} is missing: this program is run by containerd");
            }
        }
        Ok(flags)
    }

    /// The flags that make a process of this program the server of the same task.
    pub fn of_server(&self) -> Vec<&str> {
        let mut words = vec![
            "-namespace",
            &self.namespace,
            "-address",
            &self.address,
            "-publish-binary",
            &self.publish_binary,
            "-id",
            &self.id,
        ];
        words.extend(self.debug.then_some("-debug"));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Flags> {
        Flags::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn as_containerd_gives_them() {
        let flags =
            parse("-namespace moby -address /c.sock -publish-binary /usr/bin/containerd -id a -debug start")
                .unwrap();
        assert_eq!((flags.action, flags.debug, &flags.bundle), (Action::Start, true, &None));
        let words = flags.of_server().join(" ");
        let server = parse(&words).unwrap();
        assert_eq!((server.action, &*server.id, &*server.namespace), (Action::Serve, "a", "moby"));
        let flags = parse("-namespace=n --address=/c -publish-binary= -id=a -bundle /b delete").unwrap();
        assert_eq!((flags.action, flags.bundle), (Action::Delete, Some("/b".into())));
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (words, named) in
            [("-id a -address /c start", "-namespace"), ("-nonsense", "-nonsense"), ("run", "\"run\"")]
        {
            assert!(parse(words).unwrap_err().to_string().contains(named), "{words}");
        }
    }
}
