//! What is in what we ship: a bill of materials in CycloneDX's format (version 1.5, JSON).
//!
//! In: cargo's own answer about the workspace (`cargo metadata`), the lock file with every package's checksum, and the version
//! of the kernel's source. Out: one document, the same bytes for the same inputs: it has no time and no random number.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Project;
use super::test::cargo;
use crate::kernel;

/// What is shipped that cargo builds.
const SHIPPED: [&str; 4] = ["containerd-shim-msb-v2", "msb", "msb-agent", "msb-runtime"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kinds>,
}

#[derive(Deserialize)]
struct Kinds {
    /// None: it is linked. Else it is for building or for tests.
    kind: Option<String>,
}

/// The document.
pub fn document(project: &Project) -> Result<String> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let line = ["metadata", "--format-version", "1", "--locked", "--filter-platform", &triple];
    let output = cargo(project, &line).stderr(Stdio::inherit()).output().context("Cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata says something else")?;
    let lock = std::fs::read_to_string(project.root.join("Cargo.lock")).context("Cannot read Cargo.lock")?;
    let source = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Version}", kernel::SOURCE_PACKAGE])
        .output()
        .context("Cannot run dpkg-query")?;
    ensure!(source.status.success(), "The kernel's source ({}) is not installed", kernel::SOURCE_PACKAGE);
    let source = String::from_utf8_lossy(&source.stdout);
    let document = made_of(&metadata, &checksums(&lock), &source);
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn made_of(metadata: &Metadata, checksums: &BTreeMap<(&str, &str), &str>, kernel: &str) -> Value {
    let packages: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let linked: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| {
            let linked =
                node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kinds| kinds.kind.is_none()));
            (node.id.as_str(), linked.map(|dep| dep.pkg.as_str()).collect())
        })
        .collect();
    let ours = |package: &&Package| package.source.is_none() && SHIPPED.contains(&package.name.as_str());
    let mut pending: Vec<&str> =
        metadata.packages.iter().filter(ours).map(|package| package.id.as_str()).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if found.insert(id) {
            pending.extend(linked.get(id).into_iter().flatten());
        }
    }
    let mut components: Vec<(String, Value, Value)> = found
        .iter()
        .filter_map(|id| packages.get(id))
        .map(|package| {
            let url = url(package);
            let below = linked.get(package.id.as_str()).into_iter().flatten();
            let mut below: Vec<String> =
                below.filter_map(|id| packages.get(id)).map(|one| self::url(one)).collect();
            below.sort();
            let edges = json!({ "ref": url, "dependsOn": below });
            (url, component(package, checksums), edges)
        })
        .collect();
    components.sort_by(|one, other| one.0.cmp(&other.0));
    let linux = format!("pkg:deb/debian/{}@{kernel}", kernel::SOURCE_PACKAGE);
    components.push((
        linux.clone(),
        json!({
            "type": "operating-system", "bom-ref": linux, "name": kernel::SOURCE_PACKAGE, "version": kernel,
            "licenses": [{ "license": { "id": "GPL-2.0-only" } }], "purl": linux,
            "description": "The guest's kernel",
        }),
        json!({ "ref": linux, "dependsOn": [] }),
    ));
    let (all, edges): (Vec<Value>, Vec<Value>) =
        components.into_iter().map(|(_, component, edges)| (component, edges)).unzip();
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": { "component": {
            "type": "application", "name": "MicroSandbox", "version": env!("CARGO_PKG_VERSION"),
        } },
        "components": all, "dependencies": edges,
    })
}

fn component(package: &Package, checksums: &BTreeMap<(&str, &str), &str>) -> Value {
    let url = url(package);
    let kind = if package.source.is_none() { "application" } else { "library" };
    let mut component = json!({
        "type": kind, "bom-ref": url, "name": package.name, "version": package.version, "purl": url,
    });
    if let Some(license) = &package.license {
        // Cargo's older way to write a choice.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(description) = &package.description {
        component["description"] = json!(description.trim());
    }
    if let Some(checksum) = checksums.get(&(package.name.as_str(), package.version.as_str())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// As https://github.com/package-url has it.
fn url(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}

/// Of each package by name and version.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let mut all = BTreeMap::new();
    let (mut name, mut version) = ("", "");
    for line in lock.lines() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let value = value.trim_matches('"');
        match key {
            "name" => name = value,
            "version" => version = value,
            "checksum" => drop(all.insert((name, version), value)),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_with_its_licence_and_checksum() {
        let package = |id: &str, name: &str, source: Value| {
            json!({ "id": id, "name": name, "version": "1.0.0+x", "license": "MIT/Apache-2.0", "description": null,
                    "source": source })
        };
        let dep = |pkg: &str, kind: Value| json!({ "pkg": pkg, "dep_kinds": [{ "kind": kind }] });
        let metadata: Metadata = serde_json::from_value(json!({
            "packages": [
                package("a", "msb", Value::Null), package("b", "linked", json!("registry")),
                package("c", "for-tests", json!("registry")), package("d", "integration", Value::Null),
            ],
            "resolve": { "nodes": [
                { "id": "a", "deps": [dep("b", Value::Null), dep("c", json!("dev"))] },
                { "id": "b", "deps": [] }, { "id": "c", "deps": [] },
                { "id": "d", "deps": [dep("c", Value::Null)] },
            ] },
        }))
        .expect("as cargo says it");
        let lock = "[[package]]\nname = \"linked\"\nversion = \"1.0.0+x\"\nchecksum = \"abc\"\n";
        let document = made_of(&metadata, &checksums(lock), "6.12-1");
        let names: Vec<&str> = document["components"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|one| one["name"].as_str())
            .collect();
        assert_eq!(names, ["linked", "msb", kernel::SOURCE_PACKAGE]);
        let linked = &document["components"][0];
        assert_eq!(linked["purl"], "pkg:cargo/linked@1.0.0%2Bx");
        assert_eq!(linked["hashes"][0]["content"], "abc");
        assert_eq!(linked["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["dependencies"][1]["dependsOn"][0], "pkg:cargo/linked@1.0.0%2Bx");
    }

    #[test]
    fn of_this_workspace_all_that_is_shipped_is_listed() {
        // Where the kernel's source is not installed there is nothing to ship.
        let Ok(text) = document(&Project::here()) else { return };
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let all = document["components"].as_array().expect("a list");
        for name in SHIPPED.into_iter().chain(["rootfs-builder", "kvm-ioctls", "virtio-queue", "tokio"]) {
            assert!(all.iter().any(|one| one["name"] == name), "{name}");
        }
        for name in ["integration", "proptest", "libfuzzer-sys"] {
            assert!(all.iter().all(|one| one["name"] != name), "{name}");
        }
        assert!(
            all.iter()
                .filter(|one| one["type"] == "library")
                .all(|one| one["hashes"][0]["content"].is_string())
        );
    }
}
