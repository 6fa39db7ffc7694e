//! Kubernetes' interface to a runtime, by hand, inside the virtual host.
//!
//! `host-cri METHOD [JSON]` prints the answer as JSON; `host-cri sh FILE SECONDS SCRIPT` is ExecSync in the container whose id
//! is in FILE (as CreateContainer's answer), with the script's output and exit code. `host-cri stream URL [WIDTHxHEIGHT]` joins
//! standard input and output to an exec or an attach, and gives its exit code; `host-cri watch URL` prints what comes first;
//! `host-cri forward URL` joins them to a port.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use integration::cri::{self, Size};
use serde_json::{Value, json};

/// How long something may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

const SOCKET: &str = "/run/containerd/containerd.sock";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("host-cri: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<i32> {
    match words {
        ["sh", file, seconds, script] => sh(file, seconds.parse().context("SECONDS")?, script),
        ["stream", url] => Ok(cri::attach(url, None)?),
        ["stream", url, size] => Ok(cri::attach(url, Some(parse(size)?))?),
        ["watch", url] => {
            cri::watch(url, PATIENCE)?;
            Ok(0)
        }
        ["forward", url] => {
            cri::forward(url)?;
            Ok(0)
        }
        [method] => call(method, "{}"),
        [method, request] => call(method, request),
        _ => bail!(
            "usage: host-cri METHOD [JSON] | sh FILE SECONDS SCRIPT | stream URL [SIZE] | watch URL | forward URL"
        ),
    }
}

fn call(method: &str, request: &str) -> Result<i32> {
    println!("{}", cri::call(Path::new(SOCKET), method, request)?);
    Ok(0)
}

fn sh(file: &str, seconds: u32, script: &str) -> Result<i32> {
    let mut request: Value = serde_json::from_str(&fs::read_to_string(file).context("FILE")?)?;
    request["cmd"] = json!(["sh", "-c", script]);
    request["timeout"] = json!(seconds);
    let answer: Value =
        serde_json::from_str(&cri::call(Path::new(SOCKET), "ExecSync", &request.to_string())?)?;
    for (name, to) in [("stdout", &mut io::stdout() as &mut dyn Write), ("stderr", &mut io::stderr())] {
        let text = answer[name].as_str().context("no output")?;
        to.write_all(&BASE64.decode(text.as_bytes())?)?;
    }
    i32::try_from(answer["exit_code"].as_i64().context("no exit code")?).context("the exit code")
}

fn parse(size: &str) -> Result<Size> {
    let (width, height) = size.split_once('x').context("SIZE is WIDTHxHEIGHT")?;
    Ok(Size { width: width.parse().context("WIDTH")?, height: height.parse().context("HEIGHT")? })
}
