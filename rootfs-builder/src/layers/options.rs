//! The options of an overlay mount as the kernel shows them: `ovl_show_options()` of `fs/overlayfs/params.c`.
//!
//! In: the last field of mountinfo. Out: the layers' paths as they were given, or the reason why they are of no use.
//! It must never touch a file.

use super::Why;
use super::mountinfo::unescape;
use crate::tree::Marks;

/// A path as it was given to mount(2). Which of its bytes the kernel took for escapes depends on the kernel's version and on
/// how it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Each reading of it, the likeliest first.
    pub(super) readings: Vec<Vec<u8>>,
}

/// What an overlay was mounted from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The lowest last, as in the option.
    pub(super) lowers: Vec<Given>,
    pub(super) upper: Option<Given>,
    pub(super) work: Option<Given>,
    pub(super) marks: Marks,
}

/// Reads the options, which still have the kernel's escapes.
pub(super) fn parse(text: &[u8]) -> Result<Options, Why> {
    let mut options = Options::default();
    for option in text.split(|byte| *byte == b',') {
        let (name, value) = match option.iter().position(|byte| *byte == b'=') {
            Some(at) => (&option[..at], unescape(&option[at + 1..])),
            None => (option, Vec::new()),
        };
        match name {
            b"lowerdir" => options.lowers = lowers(&value)?,
            b"lowerdir+" => options.lowers.push(Given::raw(value)),
            b"datadir+" => return Err(Why::DataOnly),
            b"upperdir" => options.upper = Some(Given::escaped(value)),
            b"workdir" => options.work = Some(Given::escaped(value)),
            b"userxattr" => options.marks = Marks::User,
            b"index" | b"nfs_export" if value == b"on" => return Err(Why::Index),
            // What metacopy and redirect_dir do is noted on the files, and many kernels have redirect_dir always on.
            _ => {}
        }
    }
    let given = options.lowers.iter().chain(&options.upper).chain(&options.work);
    if options.lowers.is_empty() || given.flat_map(|given| &given.readings).any(Vec::is_empty) {
        return Err(Why::Options("a layer without a name"));
    }
    Ok(options)
}

/// `lowerdir=a:b`: a colon in a name has a backslash before it; two colons begin the layers for data only.
fn lowers(value: &[u8]) -> Result<Vec<Given>, Why> {
    let mut parts = vec![Vec::new()];
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        let part = parts.last_mut().expect("there is always one");
        match byte {
            b':' => parts.push(Vec::new()),
            b'\\' => part.extend([Some(&b'\\'), bytes.next()].into_iter().flatten()),
            _ => part.push(*byte),
        }
    }
    if parts.iter().any(Vec::is_empty) {
        return Err(Why::DataOnly);
    }
    Ok(parts.into_iter().map(Given::escaped).collect())
}

impl Given {
    fn raw(value: Vec<u8>) -> Self {
        Self { readings: vec![value] }
    }

    fn escaped(value: Vec<u8>) -> Self {
        let mut plain = Vec::with_capacity(value.len());
        let mut bytes = value.iter();
        while let Some(byte) = bytes.next() {
            plain.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
        }
        let readings = if plain == value { vec![value] } else { vec![plain, value] };
        Self { readings }
    }

    /// Whether every reading of it is a path from the root directory.
    pub(super) fn is_absolute(&self) -> bool {
        self.readings.iter().all(|reading| reading.starts_with(b"/"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(given: &[Given]) -> Vec<String> {
        given.iter().map(|given| String::from_utf8(given.readings[0].clone()).unwrap()).collect()
    }

    /// As Linux 6.18 showed them.
    #[test]
    fn options_that_were_seen() {
        let text = b"rw,lowerdir=a\\134:b:c\\134\\054d:e\\040f:g\\134\\134h,upperdir=u=p\\134\\054q,workdir=w,uuid=on";
        let options = parse(text).unwrap();
        assert_eq!(first(&options.lowers), ["a:b", "c,d", "e f", "g\\h"]);
        assert_eq!(first(options.upper.as_slice()), ["u=p,q"]);
        assert_eq!((first(options.work.as_slice()), options.marks), (vec!["w".to_owned()], Marks::Trusted));
        let text = b"ro,lowerdir+=/tmp/a:b,lowerdir+=/tmp/c\\054d,redirect_dir=on,userxattr";
        let options = parse(text).unwrap();
        assert_eq!(first(&options.lowers), ["/tmp/a:b", "/tmp/c,d"]);
        assert_eq!((options.upper, options.marks), (None, Marks::User));
    }

    #[test]
    fn dockers_hundred_and_twenty_eight_short_links() {
        let names: Vec<String> = (0..128).map(|index| format!("l/{index:026}")).collect();
        let text = format!("rw,lowerdir={},upperdir=ID/diff,workdir=ID/work,index=off", names.join(":"));
        assert_eq!(first(&parse(text.as_bytes()).unwrap().lowers), names);
    }

    #[test]
    fn what_only_the_kernel_can_merge() {
        let cases: [(&str, Why); 7] = [
            ("ro,lowerdir=/a::/b", Why::DataOnly),
            ("ro,lowerdir+=/a,datadir+=/b", Why::DataOnly),
            ("rw,lowerdir=/a,index=on", Why::Index),
            ("rw,lowerdir=/a,nfs_export=on", Why::Index),
            ("rw,upperdir=/a", Why::Options("a layer without a name")),
            ("rw,lowerdir=/a,upperdir=", Why::Options("a layer without a name")),
            ("", Why::Options("a layer without a name")),
        ];
        for (text, why) in cases {
            assert_eq!(parse(text.as_bytes()), Err(why), "{text}");
        }
        for text in
            ["lowerdir=/a,metacopy=on", "lowerdir=/a,redirect_dir=on", "lowerdir=/a,volatile,xino=auto"]
        {
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_names_come_back(names in prop::collection::vec("[a-z:,\\\\ =\t]{1,12}", 1..20)) {
            let escape = |text: &str, set: &str| -> String {
                text.chars().map(|c| if set.contains(c) { format!("\\{c}") } else { c.to_string() }).collect()
            };
            // First as mount(8) wants them, then as the kernel shows that.
            let given: Vec<String> = names.iter().map(|name| escape(name, ":,\\")).collect();
            let shown: String = given.join(":").chars().map(|c| match c {
                ',' | '=' | ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", u32::from(c)),
                c => c.to_string(),
            }).collect();
            let options = parse(format!("rw,lowerdir={shown}").as_bytes()).unwrap();
            prop_assert_eq!(first(&options.lowers), names);
        }

        #[test]
        fn any_text_is_harmless(text: Vec<u8>, options in "((lowerdir|upperdir|workdir)[+]?=[a:\\\\0-7]{0,9},){0,9}") {
            let _ = parse(&text);
            let _ = parse(options.as_bytes());
        }
    }
}
