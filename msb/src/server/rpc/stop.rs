//! `sandbox.stop`

use serde_json::Value;

use super::{
    Call, Problem,
    params::{Which, read},
};

pub(super) async fn run(call: &Call<'_>, params: Value) -> Result<Value, Problem> {
    let key = read::<Which>(params)?.key(call)?;
    call.app.stop(&key).await?;
    Ok(format!("Sandbox {} stopped successfully", key.name).into())
}
