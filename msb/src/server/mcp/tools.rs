//! The calls as tools.

use serde_json::{Value, json};

use crate::server::{
    auth::Refused,
    rpc::{Call, Problem},
};

/// A tool, and which call it is.
struct Tool {
    name: &'static str,
    method: &'static str,
    description: &'static str,
    properties: fn() -> Value,
    required: &'static [&'static str],
}

const TOOLS: [Tool; 5] = [
    Tool {
        name: "sandbox_start",
        method: "sandbox.start",
        description: "Start a sandbox: a virtual machine of its own, from any image of a container.",
        properties: || {
            json!({
                "sandbox": text("What it is called."),
                "namespace": text("Whose it is."),
                "config": {
                    "type": "object",
                    "description": "What it is to be. Without it, the sandbox as it was made before.",
                    "properties": {
                        "image": text("An image's reference, such as microsandbox/python, microsandbox/node or alpine."),
                        "memory": { "type": "integer", "description": "MiB" },
                        "cpus": { "type": "integer", "description": "Processors." },
                        "volumes": texts("host:guest"),
                        "ports": texts("host:guest"),
                        "envs": texts("NAME=value"),
                    },
                },
            })
        },
        required: &["sandbox", "namespace"],
    },
    Tool {
        name: "sandbox_stop",
        method: "sandbox.stop",
        description: "Stop a sandbox. Its files are kept.",
        properties: || json!({ "sandbox": text("Which one."), "namespace": text("Whose it is.") }),
        required: &["sandbox", "namespace"],
    },
    Tool {
        name: "sandbox_run_code",
        method: "sandbox.repl.run",
        description: "Run code in a sandbox that runs. What it defines is there for the next run.",
        properties: || {
            json!({
                "sandbox": text("Which one."),
                "namespace": text("Whose it is."),
                "code": text("All of it: it is compiled as a whole, and its last expression is shown."),
                "language": { "type": "string", "enum": ["python", "nodejs"], "description": "What it is in." },
                "timeout": { "type": "number", "description": "Seconds." },
            })
        },
        required: &["sandbox", "namespace", "code", "language"],
    },
    Tool {
        name: "sandbox_run_command",
        method: "sandbox.command.run",
        description: "Run a program in a sandbox that runs. No shell is between.",
        properties: || {
            json!({
                "sandbox": text("Which one."),
                "namespace": text("Whose it is."),
                "command": text("The program."),
                "args": texts("Its arguments."),
                "timeout": { "type": "number", "description": "Seconds." },
            })
        },
        required: &["sandbox", "namespace", "command"],
    },
    Tool {
        name: "sandbox_get_metrics",
        method: "sandbox.metrics.get",
        description: "What sandboxes use: processor, memory, disk.",
        properties: || json!({ "sandbox": text("Which one; none: all."), "namespace": text("Whose they are; *: everybody's.") }),
        required: &["namespace"],
    },
];

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn texts(description: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": description })
}

/// All of them, as they are listed.
pub(super) fn all() -> Vec<Value> {
    TOOLS
        .iter()
        .map(|tool| {
            json!({
                "name": tool.name,
                "description": tool.description,
                "inputSchema": {
                    "type": "object",
                    "properties": (tool.properties)(),
                    "required": tool.required,
                },
            })
        })
        .collect()
}

/// Runs one. That the sandbox could not do it is an answer to the tool's user, and no error of the protocol.
pub(super) async fn run(call: &Call<'_>, params: &Value) -> Result<Value, Problem> {
    let name = params["name"].as_str().ok_or_else(|| Problem::Bad("A tool has a name".into()))?;
    let tool = TOOLS.iter().find(|tool| tool.name == name);
    let tool = tool.ok_or_else(|| Problem::Bad(format!("There is no tool {}", name.escape_debug())))?;
    let mut arguments = match &params["arguments"] {
        Value::Null => json!({}),
        given => given.clone(),
    };
    // An assistant that has no idea of an image gets the one that can do most; one that says nothing of what the sandbox is to
    // be means the one that there is.
    let silent = |config: &Value| config.is_null() || (config.is_object() && config["image"].is_null());
    if tool.method == "sandbox.start"
        && arguments.is_object()
        && silent(&arguments["config"])
        && (arguments["config"].is_object() || !call.has(&arguments).await?)
    {
        arguments["config"]["image"] = "microsandbox/python".into();
    }
    match call.run(tool.method, arguments).await {
        Ok(Value::String(text)) => Ok(content(&text, false)),
        Ok(result) => Ok(content(&format!("{result:#}"), false)),
        Err(refused @ Problem::Refused(Refused::Denied)) => Err(refused),
        Err(problem) => Ok(content(&format!("Error: {problem}"), true)),
    }
}

fn content(text: &str, error: bool) -> Value {
    let mut result = json!({ "content": [{ "type": "text", "text": text }] });
    if error {
        result["isError"] = true.into();
    }
    result
}
