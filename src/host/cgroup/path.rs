//! `linux.cgroupsPath` → where the cgroup is, and what systemd calls it.

use std::path::{Component, Path, PathBuf};

/// A cgroup's place, valid beneath every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Relative to the mount; not empty, and it climbs nowhere.
    pub directory: PathBuf,
    /// With systemd: the unit that owns it.
    pub unit: Option<Unit>,
}

/// A scope of systemd's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// `docker-ID.scope`
    pub name: String,
    /// `system.slice`
    pub slice: String,
}

/// `/docker/ID`, or relative, beneath the mount; nothing that climbs out of it.
pub(super) fn plain(path: &str) -> Option<Place> {
    let mut directory = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => directory.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    let usable = directory.components().next().is_some() && !path.contains('\0');
    usable.then_some(Place { directory, unit: None })
}

/// `system.slice:docker:ID` → `system.slice/docker-ID.scope`; `a-b.slice` lies in `a.slice`.
pub(super) fn systemd(path: &str) -> Option<Place> {
    let mut parts = path.split(':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = |part: &str| !part.is_empty() && !part.contains(['/', '\0']) && part != "." && part != "..";
    if parts.next().is_some() || !plain(name) || prefix.contains(['/', '\0']) {
        return None;
    }
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").filter(|stem| plain(stem) || *stem == "-")?;
    let mut directory = PathBuf::new();
    if stem != "-" {
        let mut unit = String::new();
        for word in stem.split('-') {
            if word.is_empty() {
                return None;
            }
            unit.push_str(if unit.is_empty() { "" } else { "-" });
            unit.push_str(word);
            directory.push(format!("{unit}.slice"));
        }
    }
    let scope = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    directory.push(&scope);
    Some(Place { directory, unit: Some(Unit { name: scope, slice: slice.to_owned() }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systemd_path_is_the_directory_systemd_would_use() {
        let path = |text| systemd(text).map(|place| place.directory.display().to_string());
        assert_eq!(path("system.slice:docker:ab12").unwrap(), "system.slice/docker-ab12.scope");
        assert_eq!(path("machine.slice:libpod:x").unwrap(), "machine.slice/libpod-x.scope");
        assert_eq!(
            path("user-1000-a.slice::x").unwrap(),
            "user.slice/user-1000.slice/user-1000-a.slice/x.scope"
        );
        assert_eq!(path(":p:x").unwrap(), "system.slice/p-x.scope");
        assert_eq!(path("-.slice:p:x").unwrap(), "p-x.scope");
        let unit = systemd("system.slice:docker:ab12").unwrap().unit.unwrap();
        assert_eq!((&*unit.name, &*unit.slice), ("docker-ab12.scope", "system.slice"));
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        for bad in ["", "/", "/a/../../b", "..", "/docker/\0"] {
            assert_eq!(plain(bad), None, "{bad:?}");
        }
        for bad in ["/docker/x", "a:b", "a.slice:b:../x", "../a.slice:b:x", "a--b.slice:p:x", "a.slice:b:c:d"]
        {
            assert_eq!(systemd(bad), None, "{bad:?}");
        }
        assert_eq!(plain("/docker/ab12").unwrap().directory, Path::new("docker/ab12"));
    }
}
