//! The options of a task or of a pod's sandbox, as containerd's configuration gives them to a shim:
//! `runtimeoptions.v1.Options`.

use std::{io::Read, path::PathBuf};

use anyhow::Context;
use containerd_shim_protos::protobuf::{CodedInputStream, Error, Message, rt, well_known_types::any::Any};

/// More than any options are long.
const MAX: u64 = 1 << 20;

/// The type's name, after whatever prefix.
const TYPE: &str = "runtimeoptions.v1.Options";
/// Its field `config_path`, with protobuf's wire type 2 (a length and bytes).
const CONFIG_PATH: u32 = 2 << 3 | 2;

/// `ConfigPath`: the file with the host's settings. Options of another shim have none.
pub fn config_path(options: &Any) -> Result<Option<PathBuf>, Error> {
    let mut path = None;
    if options.type_url.ends_with(TYPE) {
        let mut input = CodedInputStream::from_bytes(&options.value);
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            if tag == CONFIG_PATH {
                path = Some(PathBuf::from(input.read_string()?));
            } else {
                rt::skip_field_for_tag(tag, &mut input)?;
            }
        }
    }
    Ok(path.filter(|path| !path.as_os_str().is_empty()))
}

/// Those of a sandbox come with `start`, on its input: its requests have the pod's instead.
pub fn of_sandbox(input: impl Read) -> anyhow::Result<Option<PathBuf>> {
    let mut bytes = Vec::new();
    input.take(MAX).read_to_end(&mut bytes).context("The runtime's options can't be read")?;
    let understood = Any::parse_from_bytes(&bytes).and_then(|options| config_path(&options));
    understood.context("The runtime's options can't be understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_found_among_other_fields() {
        let value = b"\x0a\x03url\x12\x06/x.tml\x1a\x01b".to_vec();
        let mut options = Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Any::default() };
        assert_eq!(config_path(&options).unwrap(), Some("/x.tml".into()));
        options.value.truncate(8);
        assert!(config_path(&options).is_err());
        options.type_url = "containerd.runc.v1.Options".into();
        assert_eq!(config_path(&options).unwrap(), None);
        assert_eq!(config_path(&Any::default()).unwrap(), None);
    }

    #[test]
    fn those_of_a_sandbox_are_read_from_what_start_is_given() {
        let value = b"\x12\x06/x.tml".to_vec();
        let options = Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Any::default() };
        let bytes = options.write_to_bytes().unwrap();
        assert_eq!(of_sandbox(&bytes[..]).unwrap(), Some("/x.tml".into()));
        assert_eq!(of_sandbox(&b""[..]).unwrap(), None);
        assert!(of_sandbox(&b"\xff"[..]).is_err());
    }
}
