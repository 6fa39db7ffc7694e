//! `sandbox.start`

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Call, Problem,
    params::{Which, read},
};
use crate::{
    image::ordinary,
    sandbox::{Failure, Port, Request, Volume},
};

#[derive(Deserialize)]
struct Params {
    #[serde(flatten)]
    which: Which,
    config: Option<Config>,
}

/// What a sandbox is to be. Lists may be null.
#[derive(Deserialize, Default)]
struct Config {
    image: Option<String>,
    /// MiB
    memory: Option<u32>,
    cpus: Option<u8>,
    volumes: Option<Vec<String>>,
    ports: Option<Vec<String>>,
    envs: Option<Vec<String>>,
    workdir: Option<String>,
    shell: Option<String>,
    scripts: Option<BTreeMap<String, String>>,
}

/// For one that is there already.
const WITHOUT_IMAGE: Duration = Duration::from_secs(60);

pub(super) async fn run(call: &Call<'_>, params: Value) -> Result<Value, Problem> {
    let Params { which, config } = read(params)?;
    let key = which.key(call)?;
    let name = key.name.clone();
    let given = config.is_some();
    let request = match config {
        Some(Config { image: Some(image), .. }) if image.is_empty() => {
            return Err(Problem::Bad("The image's name is empty".into()));
        }
        Some(config @ Config { image: Some(_), .. }) => Some(request(call, config)?),
        _ => None,
    };
    let limit = call.app.config.limits.start;
    let limit = if request.is_some() { limit } else { limit.min(WITHOUT_IMAGE) };
    match tokio::time::timeout(limit, call.app.start(&key, request)).await {
        Ok(Ok(())) => Ok(format!("Sandbox {name} started successfully").into()),
        Ok(Err(Failure::NoSandbox(_) | Failure::NoNamespace(_))) => Err(Problem::Bad(if given {
            format!("Sandbox '{name}' not found in existing configuration")
        } else {
            format!("No configuration provided and no existing configuration found for sandbox '{name}'")
        })),
        Ok(Err(failure)) => Err(failure.into()),
        Err(_) => Ok(format!(
            "Sandbox {name} was started, but timed out waiting for it to be fully running. It may still be \
             initializing."
        )
        .into()),
    }
}

/// What is asked for, in our own terms.
fn request(call: &Call, config: Config) -> Result<Request, Problem> {
    let mut request = Request::of(&ordinary(&config.image.unwrap_or_default()));
    request.memory = config.memory.filter(|&mib| mib > 0).map(|mib| u64::from(mib) << 20);
    request.cpus = config.cpus.filter(|&cpus| cpus > 0).map(f64::from);
    for volume in config.volumes.unwrap_or_default() {
        request.volumes.push(Volume::parse(&volume, Path::new("/"))?);
    }
    call.caller.mounts(&request.volumes).map_err(|refused| Problem::Bad(refused.to_string()))?;
    for port in config.ports.unwrap_or_default() {
        request.ports.push(port.parse::<Port>()?);
    }
    call.caller
        .reaches(request.network, &request.ports)
        .map_err(|refused| Problem::Bad(refused.to_string()))?;
    for env in config.envs.unwrap_or_default() {
        request.env.extend(crate::sandbox::request::env(&env, |_| None)?);
    }
    request.workdir = config.workdir.map(absolute).transpose()?;
    // Its own process reads what nobody writes, so an interpreter or a shell stays, and a service runs as always.
    request.stdin = true;
    let mut scripts = config.scripts.unwrap_or_default();
    let start = scripts.remove("start");
    if let Some(other) = scripts.keys().next() {
        let text = format!("A sandbox has the script `start` and no other: {}", other.escape_debug());
        return Err(Problem::Bad(text));
    }
    if let Some(script) = start {
        request.entrypoint = Some(Vec::new());
        let shell = config.shell.unwrap_or_else(|| "/bin/sh".into());
        request.command = Some(vec![shell, "-c".into(), script]);
    }
    Ok(request)
}

fn absolute(path: String) -> Result<std::path::PathBuf, Problem> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(path.into())
    } else {
        Err(Problem::Bad(format!("{path:?} is no absolute path")))
    }
}
