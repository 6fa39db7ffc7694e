//! What Docker's `--mount` says of one mount.

use std::path::Path;

use super::{BadRequest, Tmpfs, Volume, Where, setup::inside};

/// A mount, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Of the host, or a volume of ours.
    Volume(Volume),
    /// In memory.
    Tmpfs(Tmpfs),
}

impl Mount {
    /// From `type=…,source=…,target=…,readonly`. A relative source begins in `current`.
    ///
    /// # Errors
    /// [`BadRequest::Mount`].
    pub fn parse(text: &str, current: &Path) -> Result<Self, BadRequest> {
        let bad = || BadRequest::Mount(text.to_owned());
        let (mut kind, mut source, mut target, mut read_only) = ("volume", None, None, false);
        let mut options = Vec::new();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            match (key, value) {
                ("type", Some(value)) => kind = value,
                ("source" | "src", Some(value)) => source = Some(value),
                ("target" | "destination" | "dst", Some(value)) => target = Some(value),
                ("readonly" | "ro", None | Some("true" | "1")) => read_only = true,
                ("readonly" | "ro", Some("false" | "0")) => read_only = false,
                ("tmpfs-size", Some(value)) => options.push(format!("size={value}")),
                ("tmpfs-mode", Some(value)) => options.push(format!("mode={value}")),
                // What each mount is anyway.
                ("bind-propagation", Some("rprivate" | "private")) | ("consistency", Some(_)) => {}
                ("volume-nocopy", _) => {}
                _ => return Err(bad()),
            }
        }
        let target = target.ok_or_else(bad)?;
        if kind == "tmpfs" {
            if source.is_some() {
                return Err(bad());
            }
            options.extend(read_only.then(|| "ro".to_owned()));
            let tmpfs = Tmpfs::parse(&format!("{target}:{}", options.join(",")));
            return Ok(Self::Tmpfs(tmpfs.map_err(|_| bad())?));
        }
        let source = source.filter(|source| !source.is_empty() && !source.contains('\0')).ok_or_else(bad)?;
        let source = match kind {
            "bind" => Where::Host(current.join(source)),
            "volume" => Where::Named(source.parse().map_err(|_| bad())?),
            _ => return Err(bad()),
        };
        if !options.is_empty() {
            return Err(bad());
        }
        Ok(Self::Volume(Volume { source, target: inside(target).ok_or_else(bad)?, read_only }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_as_docker_writes_them() {
        let parse = |text| Mount::parse(text, Path::new("/here"));
        let volume = |source, target: &str, read_only| {
            Ok(Mount::Volume(Volume { source, target: target.into(), read_only }))
        };
        assert_eq!(
            parse("type=bind,source=/etc,target=/host,readonly"),
            volume(Where::Host("/etc".into()), "/host", true)
        );
        assert_eq!(parse("type=bind,src=sub,dst=/x"), volume(Where::Host("/here/sub".into()), "/x", false));
        let named = Where::Named("data".parse().unwrap());
        assert_eq!(parse("source=data,destination=/x,ro=false"), volume(named, "/x", false));
        let Ok(Mount::Tmpfs(tmpfs)) = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777") else {
            panic!("it is one");
        };
        assert_eq!(tmpfs.options, ["size=1m", "mode=1777"]);
        for bad in [
            "",
            "/etc:/x",
            "type=bind,target=/x",
            "type=bind,source=/etc",
            "type=bind,source=/etc,target=x",
            "type=volume,source=a/b,target=/x",
            "type=tmpfs,source=/etc,target=/x",
            "type=npipe,source=a,target=/x",
            "type=bind,source=/etc,target=/x,bind-propagation=rshared",
            "type=bind,source=/etc,target=/x,tmpfs-size=1m",
        ] {
            parse(bad).unwrap_err();
        }
    }
}
