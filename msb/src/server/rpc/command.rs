//! `sandbox.command.run`: a program and its arguments, no shell.

use std::{io, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Call, Problem,
    params::{Which, read, seconds, told},
};
use crate::{
    sandbox::{Exec, Exit},
    server::process::{Lines, Next, Process, buffers},
};

#[derive(Deserialize)]
struct Params {
    #[serde(flatten)]
    which: Which,
    command: Option<String>,
    args: Option<Vec<String>>,
    #[serde(default, deserialize_with = "seconds")]
    timeout: Option<Duration>,
}

/// What a process that left others behind has for their last words: they have its streams, and may never end.
const LAST_WORDS: Duration = Duration::from_millis(200);

pub(super) async fn run(call: &Call<'_>, params: Value) -> Result<Value, Problem> {
    let Params { which, command, args, timeout } = read(params)?;
    let key = which.key(call)?;
    let command = command.filter(|command| !command.is_empty());
    let command = command.ok_or_else(|| Problem::Bad("Missing required 'command' parameter".into()))?;
    let args = args.unwrap_or_default();
    if args.iter().chain([&command]).any(|arg| arg.contains('\0')) {
        return Err(Problem::Bad("A program and its arguments have no zero bytes".into()));
    }
    let limits = &call.app.config.limits;
    let limit = timeout.unwrap_or(limits.run).min(limits.run);
    let exec = Exec { args: [std::slice::from_ref(&command), &args].concat(), ..Exec::default() };
    let mut lines = Lines::at_most(limits.output);
    let until = Instant::now() + limit;
    let begun = tokio::time::timeout_at(until, Process::begin(&call.app.engine, &key, exec, false)).await;
    // One that is begun later is killed then: nobody waits for it.
    let mut process = begun.map_err(|_| late(limit, Lines::at_most(0)))??;
    let Ok(exit) = tokio::time::timeout_at(until, follow(&mut process, &mut lines)).await else {
        process.kill().await;
        return Err(late(limit, lines));
    };
    let exit =
        exit.map_err(|error| Problem::failed(format!("What the command wrote can't be read: {error}")))?;
    let (output, truncated) = lines.finish();
    let mut result = json!({
        "command": command,
        "args": args,
        "exit_code": exit.code(),
        "success": exit.code() == 0,
        "output": output,
    });
    if truncated {
        result["truncated"] = true.into();
    }
    Ok(result)
}

/// It took too long, and what it wrote until then.
fn late(limit: Duration, lines: Lines) -> Problem {
    let (output, truncated) = lines.finish();
    Problem::Failed {
        message: format!("Command timed out after {} seconds", told(limit)),
        data: Some(json!({ "output": output, "truncated": truncated })),
    }
}

/// Reads all that it writes, and waits for its end.
async fn follow(process: &mut Process, lines: &mut Lines) -> io::Result<Exit> {
    let mut open = [true; 2];
    let mut buffers = buffers();
    let exit = loop {
        match process.next(&mut buffers, open).await? {
            Next::Read(side, 0) => open[side as usize] = false,
            Next::Read(side, read) => lines.write(side, &buffers[side as usize][..read]),
            Next::Ended(exit) => break exit,
        }
    };
    let rest = async {
        while open != [false; 2] {
            match process.next(&mut buffers, open).await? {
                Next::Read(side, 0) => open[side as usize] = false,
                Next::Read(side, read) => lines.write(side, &buffers[side as usize][..read]),
                Next::Ended(_) => break,
            }
        }
        io::Result::Ok(())
    };
    // Those that it left behind may write for ever.
    if let Ok(read) = tokio::time::timeout(LAST_WORDS, rest).await {
        read?;
    }
    Ok(exit)
}
