//! `ps --filter`

use std::str::FromStr;

use msb::sandbox::{Exit, Info, State, Where};

use crate::ps;

/// What a sandbox has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Its name holds this.
    Name(String),
    /// It does this.
    Status(String),
    /// It has this label, with this value if one is given.
    Label(String, Option<String>),
    /// It was made of this image, as it was given then, or without its tag.
    Ancestor(String),
    /// It ended with this code.
    Exited(i32),
    /// It has this volume, or something mounted there.
    Volume(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("give KEY=VALUE")?;
        Ok(match key {
            "name" => Self::Name(value.to_owned()),
            "status" => match value {
                "created" | "running" | "stopped" => Self::Status(value.to_owned()),
                // In Docker's word.
                "exited" => Self::Status("stopped".to_owned()),
                _ => return Err("give status=created, running or exited".into()),
            },
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            },
            "ancestor" => Self::Ancestor(value.to_owned()),
            "exited" => Self::Exited(value.parse().map_err(|_| "give exited=CODE")?),
            "volume" => Self::Volume(value.to_owned()),
            _ => return Err("give name, status, label, ancestor, exited or volume".into()),
        })
    }
}

impl Filter {
    /// Whether it asks for those that do not run.
    pub fn is_of_state(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Exited(_))
    }

    fn lets(&self, info: &Info) -> bool {
        let request = &info.request;
        match self {
            Self::Name(part) => info.key.name.as_str().contains(part.as_str()),
            Self::Status(state) => ps::state(info) == state,
            Self::Label(key, value) => {
                let has = request.labels.get(key);
                has.is_some() && (value.is_none() || has == value.as_ref())
            }
            Self::Ancestor(image) => {
                request.image == *image
                    || request.image.rsplit_once(':').is_some_and(|(name, _)| name == image)
            }
            Self::Exited(code) => match info.state {
                State::Stopped(exit) => exit.map(Exit::code) == Some(*code),
                State::Created | State::Running => false,
            },
            Self::Volume(wanted) => request.volumes.iter().any(|volume| {
                let is_source = match &volume.source {
                    Where::Named(name) => name.as_str() == wanted,
                    Where::Host(path) => path.as_os_str() == wanted.as_str(),
                };
                is_source || volume.target.as_os_str() == wanted.as_str()
            }),
        }
    }
}

/// Whether each lets it through; of several with the same key one is enough, as with Docker, but for labels.
pub fn all(filters: &[Filter], info: &Info) -> bool {
    filters.iter().all(|filter| {
        let label = matches!(filter, Filter::Label(..));
        let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
        filter.lets(info) || (!label && filters.iter().filter(same).any(|other| other.lets(info)))
    })
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::SystemTime};

    use msb::sandbox::{Key, Request, Volume};

    use super::*;

    #[test]
    fn sandboxes_pass_or_not() {
        let labels = [("tier".to_owned(), "web".to_owned())].into();
        let volumes = vec![Volume::parse("data:/srv", Path::new("/")).unwrap()];
        let info = Info {
            boot: None,
            key: Key::of("web-1".parse().unwrap()),
            request: Request { labels, volumes, ..Request::of("busybox:1") },
            state: State::Stopped(Some(Exit::Code(3))),
            created: SystemTime::now(),
            started: None,
            up: None,
            ended: None,
        };
        let pass = |texts: &[&str]| {
            let filters: Vec<Filter> = texts.iter().map(|text| text.parse().unwrap()).collect();
            all(&filters, &info)
        };
        for yes in [
            &["name=web"][..],
            &["name=none", "name=eb-1"],
            &["status=exited"],
            &["label=tier"],
            &["label=tier=web", "ancestor=busybox"],
            &["ancestor=busybox:1", "exited=3"],
            &["volume=data"],
            &["volume=/srv"],
        ] {
            assert!(pass(yes), "{yes:?}");
        }
        for no in [
            &["name=db"][..],
            &["status=running"],
            &["label=tier=db"],
            &["label=tier", "label=other"],
            &["ancestor=busy"],
            &["exited=0"],
            &["volume=/data"],
            &["name=web", "status=created"],
        ] {
            assert!(!pass(no), "{no:?}");
        }
        for bad in ["", "name", "color=red", "status=paused", "exited=x"] {
            bad.parse::<Filter>().unwrap_err();
        }
    }
}
