//! Guests that measure themselves by the wall's clock: each VMM in its turn, the best of some runs.
//!
//! Not by counting instructions: the emulator leaves its loop at the end of each count, by which guests stand still that
//! keep their devices busy (`host/still.rs`).

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::host::VirtualHost;

/// Runs of each, where the best is asked.
const RUNS: usize = 2;

/// A guest that takes longer stands still.
const PATIENCE: Duration = Duration::from_secs(180);

/// Each case and its nanoseconds: with each of `runners`, names and arguments of `command`, whose output `cases` reads. In
/// a `brief` run, of one run.
///
/// # Errors
/// A guest that does not come to its end, or tells of a failure.
pub fn best(
    host: &VirtualHost,
    brief: bool,
    runners: &[(&str, &str)],
    command: impl Fn(&str) -> String,
    cases: impl Fn(&str) -> Result<Vec<(String, u64)>>,
    progress: &dyn Fn(&str),
) -> Result<Vec<(String, Vec<u64>)>> {
    let mut best: Vec<BTreeMap<String, u64>> = vec![BTreeMap::new(); runners.len()];
    let mut order = Vec::new();
    for _ in 0..if brief { 1 } else { RUNS } {
        for ((name, argument), best) in runners.iter().zip(&mut best) {
            progress(name);
            let output = host.sh(&command(argument)).timeout(Some(PATIENCE)).run()?.out();
            order = cases(&output).with_context(|| format!("{name} said:\n{output}"))?;
            for (case, time) in &order {
                let known = best.entry(case.clone()).or_insert(*time);
                *known = (*known).min(*time);
            }
        }
    }
    let times = |case: &str| best.iter().map(|best| best.get(case).copied().unwrap_or(0)).collect();
    Ok(order
        .into_iter()
        .map(|(case, _)| {
            let all = times(&case);
            (case, all)
        })
        .collect())
}

/// The lines `MARK name operations nanoseconds` among others; the last must be `last`.
///
/// # Errors
/// When the guest failed or did not come to its end, or a line is not like that.
pub fn cases(output: &str, mark: &str, last: &str) -> Result<Vec<(String, u64)>> {
    ensure!(!output.contains("FAILED"), "The guest failed");
    let mut cases = Vec::new();
    for line in output.lines().filter_map(|line| line.trim().strip_prefix(mark)) {
        let mut words = line.split_whitespace();
        let name = words.next().context("A line without a name")?;
        let time = words.nth(1).context("A line without a time")?.parse().context("No time")?;
        cases.push((name.to_owned(), time));
    }
    ensure!(cases.last().is_some_and(|(name, _)| name == last), "The guest did not come to its end");
    Ok(cases)
}
