//! `cargo dev soak`: the tests whose length is a number, as long as the promise says; `cargo dev test` has their short form.
//! And what `cargo dev test` does with one of our two shims in turn, with both.

use anyhow::{Context, Result};

use super::Project;
use super::test::cargo;
use crate::host::Fixture;

/// The tests, for nextest's filter.
const TESTS: &str = "test(/^(soak::|links::|faults::|starved::|upset::|clients::|many::msb::again_and_again|product::msb::served|work::msb::(quick_execs|much_output)|contract::)/)";
/// The races of one process, which need no host: packages, and their tests.
const RACES: [&str; 9] = [
    "--package",
    "fuzz",
    "--package",
    "msb",
    "--package",
    "rootfs-builder",
    "-E",
    "test(/(changes_meanwhile|comes_meanwhile|becomes_a_link)/)",
    "--locked",
];
/// How many rounds of those there are for each of a race that is about containers, which takes seconds.
const QUICK: u32 = 100;

/// What `soak` is told. Each count goes to its test by the variable that the test names.
#[derive(Debug, clap::Args)]
pub struct Soak {
    /// Starts and stops of containers that keep what they wrote
    #[arg(long, default_value_t = 200)]
    starts: u32,
    /// Containers that live in random order while what serves them is killed
    #[arg(long, default_value_t = 100)]
    containers: u32,
    /// Processes that join a container, one after the other and four at a time
    #[arg(long, default_value_t = 500)]
    execs: u32,
    /// MiB that a container writes to a reader who begins late
    #[arg(long, default_value_t = 1024)]
    output: u32,
    /// Rounds of each race about links; those that need no container have a hundred times as many
    #[arg(long, default_value_t = 60)]
    races: u32,
    /// Which random lives; another one finds other things
    #[arg(long)]
    seed: Option<u64>,
}

impl Soak {
    fn variables(&self) -> Vec<(&'static str, String)> {
        let seed = self.seed.map(|seed| ("MSB_SEED", seed.to_string()));
        [
            ("MSB_STARTS", self.starts.to_string()),
            ("MSB_SOAK", self.containers.to_string()),
            ("MSB_EXECS", self.execs.to_string()),
            ("MSB_OUTPUT", self.output.to_string()),
            ("MSB_RACES", self.races.saturating_mul(QUICK).to_string()),
        ]
        .into_iter()
        .chain(seed)
        .collect()
    }
}

/// Runs them; the code of the runner.
pub fn run(project: &Project, arguments: &Soak) -> Result<i32> {
    project.payload()?;
    project.host(Fixture::Plain)?;
    let line = [
        "nextest",
        "run",
        "--profile",
        "soak",
        "--no-fail-fast",
        "--locked",
        "--package",
        "integration",
        "--test",
        "e2e",
        "-E",
        TESTS,
    ];
    let status = cargo(project, &line)
        .envs(arguments.variables())
        .status()
        .context("Cannot run cargo nextest, which these tests need for their time limits")?;
    let races = cargo(project, &["nextest", "run", "--profile", "soak", "--no-fail-fast"])
        .args(RACES)
        .envs(arguments.variables())
        .status()
        .context("Cannot run cargo nextest")?;
    Ok(if status.success() { races } else { status }.code().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_reaches_its_test() {
        let soak = Soak { starts: 1, containers: 2, execs: 3, output: 4, races: 6, seed: Some(5) };
        let told: Vec<String> =
            soak.variables().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected =
            ["MSB_STARTS=1", "MSB_SOAK=2", "MSB_EXECS=3", "MSB_OUTPUT=4", "MSB_RACES=600", "MSB_SEED=5"];
        assert_eq!(told, expected);
    }
}
