//! A process of a stream: from its request to its end.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    frame::{Data, Piece, message},
    session::{Heard, hear},
};
use crate::{
    sandbox::{Exec, Exit, Failure, Key},
    server::{
        app::App,
        process::{Next, Process, Side, buffers, tell},
    },
};

/// A process to be begun.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    cmd: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    cwd: Option<PathBuf>,
    user: Option<String>,
    #[serde(default)]
    tty: bool,
    #[serde(default = "rows")]
    rows: u16,
    #[serde(default = "columns")]
    cols: u16,
    #[serde(default)]
    rlimits: Vec<Ignored>,
}

/// Something of which it matters alone that it is there.
#[derive(Debug, Deserialize)]
struct Ignored {}

fn rows() -> u16 {
    24
}

fn columns() -> u16 {
    80
}

#[derive(Serialize)]
struct Started {
    pid: u32,
}

#[derive(Serialize)]
struct Exited {
    code: i32,
}

#[derive(Serialize)]
struct Failed {
    kind: &'static str,
    errno: Option<i32>,
    errno_name: Option<&'static str>,
    message: String,
    stage: Option<&'static str>,
}

/// Begins a process; what it does goes to `sender` as frames of `id`, and its end is what is returned.
pub(super) async fn run(
    app: &App,
    key: &Key,
    id: u32,
    request: Request,
    sender: &mpsc::Sender<Vec<u8>>,
    told: Heard,
) -> Vec<u8> {
    match follow(app, key, id, request, sender, told).await {
        Ok(exit) => message(id, "core.exec.exited", true, &Exited { code: exit.code() }),
        Err(failure) => message(id, "core.exec.failed", true, &failed(&failure)),
    }
}

fn failed(failure: &Failure) -> Failed {
    let (kind, errno, errno_name) = match failure {
        Failure::NoProgram { reason, .. } if reason.to_lowercase().contains("denied") => {
            ("permission_denied", Some(nix::libc::EACCES), Some("EACCES"))
        }
        Failure::NoProgram { .. } => ("not_found", Some(nix::libc::ENOENT), Some("ENOENT")),
        Failure::Bad(_) => ("bad_args", None, None),
        _ => ("other", None, None),
    };
    Failed { kind, errno, errno_name, message: failure.chain(), stage: None }
}

async fn follow(
    app: &App,
    key: &Key,
    id: u32,
    request: Request,
    sender: &mpsc::Sender<Vec<u8>>,
    told: Heard,
) -> Result<Exit, Failure> {
    if !request.rlimits.is_empty() {
        return Err(Failure::Bad("This server's processes have no rlimits of their own".into()));
    }
    let terminal = request.tty;
    let exec = Exec {
        args: [vec![request.cmd], request.args].concat(),
        env: request.env,
        workdir: request.cwd,
        user: request.user,
        terminal,
    };
    if exec.args.iter().chain(&exec.env).any(|text| text.contains('\0')) {
        return Err(Failure::Bad("A program and its arguments have no zero bytes".into()));
    }
    let mut process = Process::begin(&app.engine, key, exec, true).await?;
    if terminal {
        let (rows, columns) = (request.rows.max(1), request.cols.max(1));
        tell(&process.running(), move |running| running.resize(rows, columns)).await;
    }
    let started = Started { pid: process.running().pid() };
    let _ = sender.send(message(id, "core.exec.started", false, &started)).await;
    let mut heard = JoinSet::new();
    let stdin = process.stdin.take();
    let running = process.running();
    heard.spawn(hear(told, stdin, running));
    let mut buffers = buffers();
    let mut open = [true; 2];
    let mut exit = None;
    while exit.is_none() || open != [false; 2] {
        let next = process.next(&mut buffers, open);
        let next = match exit {
            None => next.await,
            Some(_) => match tokio::time::timeout(LAST_WORDS, next).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next.map_err(Failure::other)? {
            Next::Read(side, 0) => open[side as usize] = false,
            Next::Read(side, read) => {
                let kind = if side == Side::Out { "core.exec.stdout" } else { "core.exec.stderr" };
                let data = Data(buffers[side as usize][..read].to_vec());
                if sender.send(message(id, kind, false, &Piece { data })).await.is_err() {
                    break;
                }
            }
            Next::Ended(ended) if exit.is_none() => exit = Some(ended),
            Next::Ended(_) => break,
        }
    }
    Ok(match exit {
        Some(exit) => exit,
        None => process.wait().await,
    })
}

/// For what a process wrote before its end, where others have its streams.
const LAST_WORDS: Duration = Duration::from_millis(200);
