//! A sandbox comes to be: what is asked for is checked against its image, and then stored; nothing runs yet.
//!
//! In: a request. Out: a directory with `sandbox.json` in it, or nothing.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
};

use nix::fcntl::Flock;

use super::{
    Failure, Key, Port, Request, Sandboxes, Where,
    bundle::{Defaults, arguments},
    sandboxes::unreadable,
    stored::{Place, Stored},
};
use crate::image::{Image, Images, Lock, Progress, Registries};

/// How often one that is made anew is removed meanwhile, before that is an error.
const TRIES: u32 = 16;

/// A sandbox that is asked for, and its image, which is not pruned as long as this is there.
#[derive(Debug)]
pub struct Prepared {
    request: Request,
    image: Image,
    defaults: Defaults,
    _hold: Lock,
}

impl Sandboxes {
    /// Makes a sandbox of an image and does not start it.
    ///
    /// # Errors
    /// [`Failure::Exists`], before any registry is asked; [`Failure::Bad`]; nothing is left then.
    pub fn create(&self, key: &Key, request: Request, progress: &dyn Progress) -> Result<(), Failure> {
        if self.place(key).load().map_err(|error| unreadable(key, error))?.is_some() {
            return Err(Failure::Exists(key.clone()));
        }
        self.create_of(key, self.prepare(request, progress)?)
    }

    /// As [`Self::create`], of what is prepared.
    ///
    /// # Errors
    /// As there.
    pub fn create_of(&self, key: &Key, wanted: Prepared) -> Result<(), Failure> {
        let place = self.place(key);
        let _lock = make(&place).map_err(Failure::other)?;
        // Half a sandbox is what a create that was killed has left.
        if place.load().map_err(|error| unreadable(key, error))?.is_some() {
            return Err(Failure::Exists(key.clone()));
        }
        let made = store_new(key, wanted, &place);
        if made.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_dir_all(&place.0);
        }
        made
    }

    /// What is made of one that does not run the next time it is started; what it wrote stays. What it was before.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::Runs`]; it is as it was then.
    pub fn remake(&self, key: &Key, wanted: Prepared) -> Result<Stored, Failure> {
        self.while_at_rest(key, |place, before| {
            store_new(key, wanted, place)?;
            Ok(before)
        })
    }

    /// Takes a [`Self::remake`] back.
    ///
    /// # Errors
    /// As there.
    pub fn put_back(&self, key: &Key, before: &Stored) -> Result<(), Failure> {
        self.while_at_rest(key, |place, _| place.save(before).map_err(Failure::other))
    }

    /// All that is needed of an image for a sandbox that is asked for, and that can be found to be wrong before there is one.
    ///
    /// # Errors
    /// That there is no such image or path of the host, [`Failure::Bad`].
    pub fn prepare(&self, request: Request, progress: &dyn Progress) -> Result<Prepared, Failure> {
        request.bounded()?;
        for volume in &request.volumes {
            if let Where::Host(path) = &volume.source
                && let Err(error) = fs::metadata(path)
            {
                return Err(Failure::Bad(format!("The volume {} can't be mounted: {error}", path.display())));
            }
        }
        let images = Images::open(self.home()).map_err(Failure::other)?;
        let hold = images.hold().map_err(Failure::other)?;
        let mut registries = Registries::of_environment();
        if request.credentials.is_some() {
            registries.credentials.clone_from(&request.credentials);
        }
        let image =
            images.get(&request.image, request.pull, &registries, progress).map_err(Failure::other)?;
        let defaults = Defaults::of(&image.config);
        if arguments(&request, &defaults).is_empty() {
            let text = format!("The image {} says nothing of what to run: give a command", request.image);
            return Err(Failure::Bad(text));
        }
        Ok(Prepared { request, image, defaults, _hold: hold })
    }
}

fn store_new(key: &Key, wanted: Prepared, place: &Place) -> Result<(), Failure> {
    let Prepared { mut request, image, defaults, _hold } = wanted;
    if request.publish_all {
        publish_all(&mut request.ports, &defaults.exposed);
        // What the image names is its maker's.
        request.bounded()?;
    }
    let stored = Stored::new(key.clone(), request, image.digest.to_string(), image.layers, defaults);
    place.save(&stored.map_err(Failure::other)?).map_err(Failure::other)
}

/// Each port that the image names and nobody has published yet, at a free one of the host's. What is no port is the image's
/// mistake.
fn publish_all(ports: &mut Vec<Port>, exposed: &[String]) {
    for port in exposed.iter().filter_map(|text| text.parse::<Port>().ok()) {
        if !ports.iter().any(|has| (has.guest, has.protocol) == (port.guest, port.protocol)) {
            ports.push(port);
        }
    }
}

/// Makes its directory, if it is not there, and locks it. Who removes one of its name just now has it locked, and takes it away.
fn make(place: &Place) -> io::Result<Flock<File>> {
    let mut left = TRIES;
    loop {
        directories().create(&place.0)?;
        match place.lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && left > 0 => left -= 1,
            locked => return locked,
        }
    }
}

/// What is made is its owner's alone.
pub(super) fn directories() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::Volume, *};
    use crate::home::Home;

    #[test]
    fn a_path_of_the_host_that_is_not_there_is_told_before_anything_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::new(Home::at(dir.path().to_owned()).unwrap());
        let mut request = Request::of("busybox");
        request.volumes.push(Volume::parse("/nowhere/at/all:/x", Path::new("/")).unwrap());
        let failure = sandboxes.prepare(request, &()).unwrap_err();
        assert!(matches!(&failure, Failure::Bad(text) if text.contains("/nowhere/at/all")), "{failure:?}");
    }

    #[test]
    fn ports_of_the_image_are_published_once() {
        let mut ports = vec!["8080:80".parse::<Port>().unwrap()];
        publish_all(&mut ports, &["80/tcp", "53/udp", "443", "x", "0/tcp"].map(str::to_owned));
        let all: Vec<String> = ports.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["8080:80/tcp", "0:53/udp", "0:443/tcp"]);
    }
}
