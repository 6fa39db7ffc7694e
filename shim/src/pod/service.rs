//! `containerd.runtime.sandbox.v1.Sandbox`: requests in containerd's form.
//!
//! containerd's order: create and start; status before each container; stop, and only then, once all containers are removed,
//! shutdown, after which the shim is not needed. One call waits for the end all the time.

use std::{env::consts::ARCH, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use containerd_shim_protos::{
    sandbox_api::{
        CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
        PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
        SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest,
        StartSandboxResponse, StopSandboxRequest, StopSandboxResponse, WaitSandboxRequest,
        WaitSandboxResponse,
    },
    sandbox_async::Sandbox,
    ttrpc::{self, asynchronous::TtrpcContext},
};

use super::{NewSandbox, made};
use crate::{events::timestamp, failure::Failure, service::Service, task::Phase};

/// A sandbox's states, in Kubernetes' words, which containerd passes on.
const READY: &str = "SANDBOX_READY";
const NOT_READY: &str = "SANDBOX_NOTREADY";

/// The service; it shares its tasks with the task service.
#[derive(Debug)]
pub struct PodService {
    /// The task service.
    pub tasks: Arc<Service>,
    /// The file with the host's settings, if the runtime's options name one.
    pub settings: Option<PathBuf>,
}

/// The machine's architecture, as Go calls it.
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[async_trait]
impl Sandbox for PodService {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        asked: CreateSandboxRequest,
    ) -> ttrpc::Result<CreateSandboxResponse> {
        let settings = self.settings.clone();
        self.tasks
            .apart(move |shim| {
                let CreateSandboxRequest { sandbox_id: id, bundle_path, options, netns_path, .. } = asked;
                let options = options.into_option().unwrap_or_default();
                let (bundle, network) = (bundle_path.into(), netns_path);
                shim.create_sandbox(NewSandbox { id, bundle, options, network, settings })
            })
            .await?;
        Ok(CreateSandboxResponse::default())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        asked: StartSandboxRequest,
    ) -> ttrpc::Result<StartSandboxResponse> {
        self.tasks
            .apart(move |shim| {
                let task = shim.sandbox(&asked.sandbox_id)?;
                let pid = shim.start(&task)?;
                let created_at = made(&task.bundle).map(timestamp).into();
                Ok(StartSandboxResponse { pid, created_at, ..StartSandboxResponse::default() })
            })
            .await
    }

    async fn platform(&self, _: &TtrpcContext, _: PlatformRequest) -> ttrpc::Result<PlatformResponse> {
        let mut answer = PlatformResponse::default();
        let platform = answer.platform.mut_or_insert_default();
        (platform.os, platform.architecture) = ("linux".into(), architecture().into());
        Ok(answer)
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        asked: StopSandboxRequest,
    ) -> ttrpc::Result<StopSandboxResponse> {
        let patience = (asked.timeout_secs > 0).then(|| Duration::from_secs(asked.timeout_secs.into()));
        self.tasks.apart(move |shim| shim.stop_sandbox(&asked.sandbox_id, patience)).await?;
        Ok(StopSandboxResponse::default())
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        asked: WaitSandboxRequest,
    ) -> ttrpc::Result<WaitSandboxResponse> {
        let exit = self.tasks.shim.sandbox(&asked.sandbox_id)?.init.wait().await;
        let exited_at = Some(timestamp(exit.at)).into();
        Ok(WaitSandboxResponse { exit_status: exit.code, exited_at, ..WaitSandboxResponse::default() })
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        asked: SandboxStatusRequest,
    ) -> ttrpc::Result<SandboxStatusResponse> {
        self.tasks
            .apart(move |shim| {
                let task = shim.sandbox(&asked.sandbox_id)?;
                let state = match task.phase(shim)? {
                    Phase::Running | Phase::Paused => READY,
                    Phase::Created | Phase::Stopped => NOT_READY,
                };
                Ok(SandboxStatusResponse {
                    sandbox_id: asked.sandbox_id,
                    pid: task.pid,
                    state: state.into(),
                    created_at: made(&task.bundle).map(timestamp).into(),
                    exited_at: task.init.exit().map(|exit| timestamp(exit.at)).into(),
                    ..SandboxStatusResponse::default()
                })
            })
            .await
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, asked: PingRequest) -> ttrpc::Result<PingResponse> {
        match self.tasks.shim.sandbox(&asked.sandbox_id)?.init.exit() {
            None => Ok(PingResponse::default()),
            Some(_) => Err(Failure::Finished.into()),
        }
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        asked: ShutdownSandboxRequest,
    ) -> ttrpc::Result<ShutdownSandboxResponse> {
        self.tasks.apart(move |shim| shim.remove_sandbox(&asked.sandbox_id)).await?;
        self.tasks.end_if_idle();
        Ok(ShutdownSandboxResponse::default())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        asked: SandboxMetricsRequest,
    ) -> ttrpc::Result<SandboxMetricsResponse> {
        self.tasks
            .apart(move |shim| {
                let data = shim.statistics(&*shim.sandbox(&asked.sandbox_id)?)?;
                let mut answer = SandboxMetricsResponse::default();
                let metrics = answer.metrics.mut_or_insert_default();
                metrics.timestamp = Some(timestamp(std::time::SystemTime::now())).into();
                (metrics.id, metrics.data) = (asked.sandbox_id, Some(data).into());
                Ok(answer)
            })
            .await
    }
}
