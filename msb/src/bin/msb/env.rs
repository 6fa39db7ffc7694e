//! Environment variables, as `-e` and `--env-file` give them.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use msb::sandbox::request;

/// Those of the files, and behind them those that are given by themselves: the last one of a name counts.
pub fn read(files: &[PathBuf], given: &[String]) -> anyhow::Result<Vec<String>> {
    let own = |name: &str| std::env::var(name).ok();
    let mut all = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
        for line in
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            all.extend(request::env(line, own)?);
        }
    }
    for text in given {
        all.extend(request::env(text, own)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_before_the_flags() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# a comment\n\nA=1\n  B=two words \nPATH\nNOT_SET_ANYWHERE\n").unwrap();
        let path = std::env::var("PATH").unwrap();
        let all = read(&[file.path().to_owned()], &["A=2".to_owned()]).unwrap();
        assert_eq!(all, ["A=1", "B=two words ", &format!("PATH={path}"), "A=2"]);
        read(&["/nonexistent/file".into()], &[]).unwrap_err();
        read(&[], &["=x".to_owned()]).unwrap_err();
    }
}
