//! `containerd.task.v2.Task`: requests in containerd's form, carried out on threads where they may take their time.
//!
//! What has begun is done to its end, also when the caller has hung up meanwhile.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
        CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
        PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
        ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
        StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
    },
    shim_async::Task as TaskService,
    ttrpc::{self, asynchronous::TtrpcContext},
};
use msb_agent::protocol::TerminalSize;
use tokio::sync::Notify;

use crate::{
    address,
    apart::apart,
    events::timestamp,
    failure::Failure,
    options,
    stdio::Paths,
    task::{Exit, NewTask, Phase, Process, Shim},
};

/// The service.
#[derive(Debug)]
pub struct Service {
    /// What there is.
    pub shim: Arc<Shim>,
    /// Told when the shim is not needed any more.
    pub over: Arc<Notify>,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Service {
    /// Does `work` on a thread of its own.
    pub async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Shim>) -> Result<T, Failure> + Send + 'static,
    ) -> ttrpc::Result<T> {
        let shim = Arc::clone(&self.shim);
        Ok(apart(move || work(&shim)).await?)
    }

    /// The shim is not needed any more, unless it has tasks.
    pub fn end_if_idle(&self) {
        if self.shim.is_idle() {
            // Before the answer: a task of the same id may come at once, whose shim must not be found to be this one.
            address::forget(&self.socket);
            self.over.notify_one();
        }
    }
}

fn size(width: u32, height: u32) -> TerminalSize {
    let most = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
    TerminalSize { rows: most(height), columns: most(width) }
}

fn state(process: &Process, phase: Phase) -> StateResponse {
    let status = match phase {
        Phase::Created => Status::CREATED,
        Phase::Running => Status::RUNNING,
        Phase::Paused => Status::PAUSED,
        Phase::Stopped => Status::STOPPED,
    };
    let exit = process.exit();
    StateResponse {
        status: status.into(),
        stdin: process.paths.stdin.clone(),
        stdout: process.paths.stdout.clone(),
        stderr: process.paths.stderr.clone(),
        terminal: process.paths.terminal,
        exit_status: exit.map_or(0, |exit| exit.code),
        exited_at: exit.map(|exit| timestamp(exit.at)).into(),
        ..StateResponse::default()
    }
}

fn deleted(exit: Exit, pid: u32) -> DeleteResponse {
    let exited_at = Some(timestamp(exit.at)).into();
    DeleteResponse { pid, exit_status: exit.code, exited_at, ..DeleteResponse::default() }
}

#[async_trait]
impl TaskService for Service {
    async fn create(&self, _: &TtrpcContext, asked: CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        self.apart(move |shim| {
            if !asked.checkpoint.is_empty() {
                return Err(NO_CHECKPOINT);
            }
            let settings = options::config_path(&asked.options)
                .map_err(|error| Failure::wrong("The runtime's options can't be understood", error))?;
            let CreateTaskRequest { id, bundle, rootfs, terminal, stdin, stdout, stderr, .. } = asked;
            let paths = Paths { stdin, stdout, stderr, terminal };
            let pid = shim.create(NewTask { id, bundle: bundle.into(), rootfs, paths, settings })?;
            Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
        })
        .await
    }

    async fn start(&self, _: &TtrpcContext, asked: StartRequest) -> ttrpc::Result<StartResponse> {
        self.apart(move |shim| {
            let task = shim.task(&asked.id)?;
            let pid = match asked.exec_id.as_str() {
                "" => shim.start(&task)?,
                exec => shim.start_exec(&task, &task.exec(exec)?)?,
            };
            Ok(StartResponse { pid, ..StartResponse::default() })
        })
        .await
    }

    async fn delete(&self, _: &TtrpcContext, asked: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        self.apart(move |shim| {
            let task = shim.task(&asked.id)?;
            match asked.exec_id.as_str() {
                "" => Ok(deleted(shim.delete(&task)?, task.pid)),
                exec => {
                    let exec = task.exec(exec)?;
                    Ok(deleted(shim.delete_exec(&task, &exec)?, exec.pid()))
                }
            }
        })
        .await
    }

    async fn state(&self, _: &TtrpcContext, asked: StateRequest) -> ttrpc::Result<StateResponse> {
        self.apart(move |shim| {
            let task = shim.task(&asked.id)?;
            let phase = task.phase(shim)?;
            let (told, pid) = match asked.exec_id.as_str() {
                "" => (state(&task.init, phase), task.pid),
                exec => {
                    let exec = task.exec(exec)?;
                    (state(&exec.process, exec.phase(phase)), exec.pid())
                }
            };
            let bundle = task.bundle.display().to_string();
            Ok(StateResponse { id: asked.id, exec_id: asked.exec_id, bundle, pid, ..told })
        })
        .await
    }

    async fn kill(&self, _: &TtrpcContext, asked: KillRequest) -> ttrpc::Result<Empty> {
        self.apart(move |shim| {
            let task = shim.task(&asked.id)?;
            match asked.exec_id.as_str() {
                "" => shim.kill(&task, asked.signal, asked.all)?,
                exec => shim.kill_exec(&task, &*task.exec(exec)?, asked.signal)?,
            }
            Ok(Empty::default())
        })
        .await
    }

    async fn exec(&self, _: &TtrpcContext, asked: ExecProcessRequest) -> ttrpc::Result<Empty> {
        self.apart(move |shim| {
            let ExecProcessRequest { id, exec_id, terminal, stdin, stdout, stderr, spec, .. } = asked;
            let task = shim.task(&id)?;
            shim.exec(&task, &exec_id, Paths { stdin, stdout, stderr, terminal }, &spec.value)?;
            Ok(Empty::default())
        })
        .await
    }

    async fn resize_pty(&self, _: &TtrpcContext, asked: ResizePtyRequest) -> ttrpc::Result<Empty> {
        self.apart(move |shim| {
            let task = shim.task(&asked.id)?;
            let size = size(asked.width, asked.height);
            match asked.exec_id.as_str() {
                "" => shim.resize(&task, size)?,
                exec => shim.resize_exec(&task, &*task.exec(exec)?, size)?,
            }
            Ok(Empty::default())
        })
        .await
    }

    async fn close_io(&self, _: &TtrpcContext, asked: CloseIORequest) -> ttrpc::Result<Empty> {
        let task = self.shim.task(&asked.id)?;
        if asked.stdin {
            match asked.exec_id.as_str() {
                "" => task.init.close_input(),
                exec => task.exec(exec)?.process.close_input(),
            }
        }
        Ok(Empty::default())
    }

    async fn wait(&self, _: &TtrpcContext, asked: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let task = self.shim.task(&asked.id)?;
        let exit = match asked.exec_id.as_str() {
            "" => task.init.wait().await,
            exec => task.exec(exec)?.process.wait().await,
        };
        let exited_at = Some(timestamp(exit.at)).into();
        Ok(WaitResponse { exit_status: exit.code, exited_at, ..WaitResponse::default() })
    }

    async fn pause(&self, _: &TtrpcContext, asked: PauseRequest) -> ttrpc::Result<Empty> {
        self.apart(move |shim| shim.pause(&*shim.task(&asked.id)?).map(|()| Empty::default())).await
    }

    async fn resume(&self, _: &TtrpcContext, asked: ResumeRequest) -> ttrpc::Result<Empty> {
        self.apart(move |shim| shim.resume(&*shim.task(&asked.id)?).map(|()| Empty::default())).await
    }

    async fn update(&self, _: &TtrpcContext, asked: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        self.apart(move |shim| {
            shim.update(&*shim.task(&asked.id)?, &asked.resources.value).map(|()| Empty::default())
        })
        .await
    }

    async fn stats(&self, _: &TtrpcContext, asked: StatsRequest) -> ttrpc::Result<StatsResponse> {
        self.apart(move |shim| {
            let stats = Some(shim.statistics(&*shim.task(&asked.id)?)?).into();
            Ok(StatsResponse { stats, ..StatsResponse::default() })
        })
        .await
    }

    async fn pids(&self, _: &TtrpcContext, asked: PidsRequest) -> ttrpc::Result<PidsResponse> {
        self.apart(move |shim| {
            let pids = shim.pids(&*shim.task(&asked.id)?)?;
            let process = |pid| ProcessInfo { pid, ..ProcessInfo::default() };
            Ok(PidsResponse { processes: pids.into_iter().map(process).collect(), ..PidsResponse::default() })
        })
        .await
    }

    async fn connect(&self, _: &TtrpcContext, asked: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            // A shim without its task is asked, too.
            task_pid: self.shim.task(&asked.id).map_or(0, |task| task.pid),
            ..ConnectResponse::default()
        })
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        Err(NO_CHECKPOINT.into())
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.end_if_idle();
        Ok(Empty::default())
    }
}

/// Asked for, and refused.
const NO_CHECKPOINT: Failure = Failure::Unimplemented(
    "checkpoint is not supported: what runs is a machine with a kernel of its own, which CRIU can't see into. Use pause \
     and resume, or stop the container",
);
