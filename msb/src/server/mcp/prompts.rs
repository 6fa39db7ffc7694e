//! Prompts: how to begin with a language.

use serde_json::{Value, json};

use crate::server::rpc::Problem;

/// A prompt's name, what it is for, and the image and language that it begins with.
const PROMPTS: [(&str, &str, &str, &str); 2] = [
    ("create_python_sandbox", "Make a sandbox for Python", "microsandbox/python", "python"),
    ("create_node_sandbox", "Make a sandbox for JavaScript", "microsandbox/node", "nodejs"),
];

/// All of them, as they are listed.
pub(super) fn all() -> Vec<Value> {
    let argument = |name, description| json!({ "name": name, "description": description, "required": true });
    PROMPTS
        .iter()
        .map(|(name, description, ..)| {
            json!({
                "name": name,
                "description": description,
                "arguments": [
                    argument("sandbox_name", "What the sandbox is called."),
                    argument("namespace", "Whose it is."),
                ],
            })
        })
        .collect()
}

/// One of them, filled in.
pub(super) fn get(params: &Value) -> Result<Value, Problem> {
    let name = params["name"].as_str().unwrap_or_default();
    let prompt = PROMPTS.iter().find(|(known, ..)| *known == name);
    let Some((_, description, image, language)) = prompt else {
        return Err(Problem::Bad(format!("There is no prompt {}", name.escape_debug())));
    };
    let argument = |name: &str, otherwise: &str| {
        params["arguments"][name].as_str().unwrap_or(otherwise).chars().take(63).collect::<String>()
    };
    let (sandbox, namespace) = (argument("sandbox_name", language), argument("namespace", "default"));
    let text = format!(
        "Start the sandbox `{sandbox}` in the namespace `{namespace}` with the image `{image}` by the tool \
         `sandbox_start`. Then run code in it by `sandbox_run_code` with the language `{language}`, and stop it by \
         `sandbox_stop` when nothing more is to be done."
    );
    Ok(json!({
        "description": description,
        "messages": [{ "role": "user", "content": { "type": "text", "text": text } }],
    }))
}
