//! The language of the tables: text in, cases out. It knows no calls.
//!
//! ```text
//! == a title: the case's own empty directory begins
//! for T: file; dir; fifo        the whole case, once for each; in it `{T}` is the value
//! for C: chmod % 644; unlink %  with `{C|PATH}` its `%` is PATH
//! verb argument…                must succeed
//! verb argument… -> EPERM       must fail so
//! verb argument… -> a b         must succeed, and tell that (`''`: nothing)
//! @1000:100+5 verb…             as user 1000 of group 100 and also 5; the group is the user's number where it isn't told
//! d:mc !f:m | verb…             that changes d's modification and status times, and not f's modification time
//! ```
//! `{x*N}` is x, N times. A line that begins with `#` is none.

use anyhow::{Context, Result, ensure};

/// Lines that work in one directory, one after the other.
#[derive(Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is about, with the values of its `for`s.
    pub title: String,
    pub lines: Vec<Line>,
}

/// One call and its outcome.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// As it is written, for who reads of its failure.
    pub text: String,
    /// Who calls: user, group and other groups; root without.
    pub caller: Option<(u32, u32, Vec<u32>)>,
    /// Which times of which file must change, or must not.
    pub times: Vec<(String, String, bool)>,
    pub verb: String,
    pub arguments: Vec<String>,
    pub outcome: String,
}

/// All cases of a table.
pub fn parse(text: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for block in format!("\n{text}").split("\n== ").skip(1) {
        let mut lines =
            block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let title = lines.next().context("a case without a title")?;
        let (mut instances, mut body) = (vec![Vec::new()], Vec::new());
        for line in lines {
            match line.strip_prefix("for ") {
                Some(values) => instances = multiply(&instances, values)?,
                None => body.push(line),
            }
        }
        for values in &instances {
            let with = values.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ");
            let title = if with.is_empty() { title.to_owned() } else { format!("{title} ({with})") };
            let lines = body
                .iter()
                .map(|text| line(&repeat(&fill(text, values))?).with_context(|| format!("{title}: {text}")));
            cases.push(Case { lines: lines.collect::<Result<_>>()?, title });
        }
    }
    Ok(cases)
}

type Values = Vec<(String, String)>;

fn multiply(instances: &[Values], of: &str) -> Result<Vec<Values>> {
    let (name, values) = of.split_once(": ").context("`for` without values")?;
    let with = |known: &Values, value: &str| {
        let mut known = known.clone();
        known.push((name.to_owned(), value.trim().to_owned()));
        known
    };
    Ok(instances.iter().flat_map(|known| values.split(';').map(|value| with(known, value))).collect())
}

/// Puts values in place of their names.
fn fill(text: &str, values: &Values) -> String {
    let mut text = text.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
        let opening = format!("{{{name}|");
        while let Some(at) = text.find(&opening) {
            // A repetition may stand in the path.
            let rest = &text[at + opening.len()..];
            let mut depth = 0;
            let end = rest.find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth < 0
            });
            let Some(end) = end else { break };
            let call = value.replace('%', &rest[..end]);
            text = format!("{}{call}{}", &text[..at], &rest[end + 1..]);
        }
    }
    text
}

/// Writes `{x*N}` out.
fn repeat(text: &str) -> Result<String> {
    let Some((before, rest)) = text.split_once('{') else { return Ok(text.to_owned()) };
    let (inside, after) = rest.split_once('}').context("a brace that is not closed")?;
    let (what, times) = inside.split_once('*').context("a name that is not known")?;
    Ok(format!("{before}{}{}", what.repeat(times.parse()?), repeat(after)?))
}

fn line(text: &str) -> Result<Line> {
    let (call, outcome) = text.split_once(" -> ").unwrap_or((text, ""));
    let (times, call) = call.split_once(" | ").unwrap_or(("", call));
    let times = times.split_whitespace().map(|word| {
        let (word, changes) = word.strip_prefix('!').map_or((word, true), |word| (word, false));
        let (name, which) = word.split_once(':').context("FILE:TIMES")?;
        Ok((name.to_owned(), which.to_owned(), changes))
    });
    let times = times.collect::<Result<_>>()?;
    let mut words = call.split_whitespace().map(str::to_owned).peekable();
    let caller = match words.next_if(|word| word.starts_with('@')) {
        Some(word) => Some(caller(&word[1..])?),
        None => None,
    };
    let verb = words.next().context("no verb")?;
    ensure!(!outcome.contains(" -> "), "two outcomes");
    let outcome = outcome.to_owned();
    Ok(Line { text: text.to_owned(), caller, times, verb, arguments: words.collect(), outcome })
}

fn caller(word: &str) -> Result<(u32, u32, Vec<u32>)> {
    let mut groups = word.split('+');
    let first = groups.next().unwrap_or_default();
    let (user, group) = first.split_once(':').unwrap_or((first, first));
    Ok((user.parse()?, group.parse()?, groups.map(str::parse).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_for_each_value() {
        let cases =
            parse("== t\nfor C: rm %; mk % 1\nfor T: a; b\n@5:6+7 {C|{n*3}/x} {T} -> EPERM\n").unwrap();
        assert_eq!(cases.len(), 4);
        assert_eq!(cases[3].title, "t (mk % 1, b)");
        let line = &cases[3].lines[0];
        assert_eq!((line.caller.clone(), line.verb.as_str()), (Some((5, 6, vec![7])), "mk"));
        assert_eq!((line.arguments.join(" "), line.outcome.as_str()), ("nnn/x 1 b".to_owned(), "EPERM"));
    }

    #[test]
    fn times_and_outcomes() {
        let cases = parse("# none\n== t\nd:mc !f:m | rm f\nstat f size -> 1 2\n").unwrap();
        let times = [("d".to_owned(), "mc".to_owned(), true), ("f".to_owned(), "m".to_owned(), false)];
        assert_eq!(cases[0].lines[0].times, times);
        assert_eq!(cases[0].lines[1].outcome, "1 2");
        assert!(parse("== t\nrm {x\n").is_err());
    }
}
