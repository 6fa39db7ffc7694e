//! Extended headers: POSIX.1-2024, pax, "pax Extended Header".

use super::archive::{Time, Xattr};
use super::limits;

/// Extended attributes: star's prefix, which all others took.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// Sparse files, in one of GNU's three ways.
const SPARSE: &[u8] = b"GNU.sparse.";

/// What an extended header says of the entry behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: bool,
}

/// Adds what `text` says.
pub(super) fn parse(mut text: &[u8], to: &mut Attributes) -> Result<(), &'static str> {
    while !text.is_empty() {
        let (record, rest) = record(text).ok_or("an extended header whose records do not fit it")?;
        text = rest;
        let equals =
            record.iter().position(|byte| *byte == b'=').ok_or("an extended header without a value")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => to.path = nonempty(value)?,
            b"linkpath" => to.link = nonempty(value)?,
            b"size" => to.size = Some(number(value)?),
            b"uid" => to.uid = Some(number(value)?),
            b"gid" => to.gid = Some(number(value)?),
            b"mtime" => to.mtime = Some(time(value).ok_or("an extended header's time that is no number")?),
            _ if key.starts_with(SPARSE) => to.sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    xattr(name, value, &mut to.xattrs)?;
                }
            }
        }
    }
    Ok(())
}

fn xattr(name: &[u8], value: &[u8], to: &mut Vec<Xattr>) -> Result<(), &'static str> {
    if name.is_empty() || name.contains(&0) || name.len() > limits::XATTR_NAME || value.len() > limits::XATTR
    {
        return Err("an attribute that no system has");
    }
    to.retain(|other| other.name != name);
    if to.len() >= limits::XATTRS {
        return Err("too many attributes for one file");
    }
    to.push(Xattr { name: name.to_vec(), value: value.to_vec() });
    Ok(())
}

/// `LENGTH KEY=VALUE\n`, where the length is that of all of it.
fn record(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = text.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = str::from_utf8(&text[..space]).ok()?.parse().ok()?;
    let record = text.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &text[length..]))
}

fn nonempty(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("an extended header with a path that no system has");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8]) -> Result<u64, &'static str> {
    let text = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or("an extended header's number that is none")
}

/// Decimal seconds, with a fraction of any length, before or after 1970.
fn time(value: &[u8]) -> Option<Time> {
    let text = str::from_utf8(value).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = nine.parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn values_may_hold_line_ends_and_nul() {
        let mut found = Attributes::default();
        let text = [
            line("path", b"a\nb"),
            line("SCHILY.xattr.user.x", b"\n\0=\n"),
            line("comment", b"whatever"),
            line("mtime", b"1.5"),
        ]
        .concat();
        parse(&text, &mut found).unwrap();
        assert_eq!(found.path.unwrap(), b"a\nb");
        assert_eq!(found.xattrs, [Xattr { name: b"user.x".to_vec(), value: b"\n\0=\n".to_vec() }]);
        assert_eq!(found.mtime, Some(Time { seconds: 1, nanoseconds: 500_000_000 }));
    }

    #[test]
    fn times_before_1970_count_forwards() {
        assert_eq!(time(b"-1.25"), Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(time(b"-3"), Some(Time { seconds: -3, nanoseconds: 0 }));
        for bad in ["", ".", "1e3", "+1", "--1", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_no_header_is_refused_and_never_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _refused = parse(&text, &mut Attributes::default());
        }
    }
}
