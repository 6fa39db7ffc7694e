//! The options of a task, as containerd's configuration gives them to a shim: `runtimeoptions.v1.Options`.

use std::path::PathBuf;

use containerd_shim_protos::protobuf::{CodedInputStream, Error, rt, well_known_types::any::Any};

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
}
