//! What is in what we ship: a bill of materials in CycloneDX's format (version 1.5, JSON).
//!
//! In: cargo's own answer about the workspace (`cargo metadata`), the lock file with every package's checksum, the kernel as it
//! is shipped and the version of its source, and what of the compiler and of Debian is linked into programs. Out: one document, the same bytes for the same inputs: it has no time and no random number.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Project;
use super::test::cargo;
use crate::kernel::{self, known};

/// What is shipped that cargo builds.
const SHIPPED: [&str; 4] = ["containerd-shim-msb-v2", "msb", "msb-agent", "msb-runtime"];
/// Of these, what uses the C library of the system that it runs on. The others have it in them.
const DYNAMIC: &str = "msb";
/// The C library and the compiler's own, as the linker finds them: the one whose package is told, and the licence.
const STATIC: [(&str, &str, &str); 2] = [
    ("libc.a", "LGPL-2.1-or-later", "The C library, which static programs have in them"),
    (
        "libgcc_eh.a",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        "The C compiler's own library, which static programs have in them",
    ),
];

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

/// A part that is no package of cargo's.
struct Part {
    /// Its name by https://github.com/package-url.
    url: String,
    kind: &'static str,
    name: String,
    version: String,
    license: &'static str,
    description: &'static str,
    /// The SHA-256 of what is linked or shipped.
    hash: String,
}

impl Part {
    fn component(&self) -> Value {
        json!({
            "type": self.kind, "bom-ref": self.url, "name": self.name, "version": self.version, "purl": self.url,
            "licenses": [{ "expression": self.license }], "description": self.description,
            "hashes": [{ "alg": "SHA-256", "content": self.hash }],
        })
    }
}

/// The document of a release that has `guest_kernel` in it.
pub fn document(project: &Project, guest_kernel: &Path) -> Result<String> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let line = ["metadata", "--format-version", "1", "--locked", "--filter-platform", &triple];
    let output = cargo(project, &line).stderr(Stdio::inherit()).output().context("Cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata says something else")?;
    let lock = std::fs::read_to_string(project.root.join("Cargo.lock")).context("Cannot read Cargo.lock")?;
    let source = kernel_source()?;
    let source = source
        .with_context(|| format!("The kernel's source ({}) is not installed", kernel::SOURCE_PACKAGE))?;
    let kernel = Part {
        url: format!("pkg:deb/debian/{}@{source}", kernel::SOURCE_PACKAGE),
        kind: "operating-system",
        name: kernel::SOURCE_PACKAGE.to_owned(),
        version: source,
        license: "GPL-2.0-only",
        description: "The guest's kernel; the hash is that of vmlinux",
        hash: known::hash(guest_kernel)?,
    };
    let standard = standard_library()?;
    let linked = STATIC.map(|(file, license, description)| of_the_linker(file, license, description));
    let linked = linked.into_iter().collect::<Result<Vec<_>>>()?;
    let document = made_of(&metadata, &checksums(&lock), &kernel, &standard, &linked);
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Which source of the kernel is installed, if one is.
fn kernel_source() -> Result<Option<String>> {
    let answer = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Version}", kernel::SOURCE_PACKAGE])
        .output()
        .context("Cannot run dpkg-query")?;
    let version = String::from_utf8_lossy(&answer.stdout).into_owned();
    Ok((answer.status.success() && !version.is_empty()).then_some(version))
}

/// What a program prints.
fn answer(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    let output = output.with_context(|| format!("Cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {} failed: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// An archive of Debian's that the linker takes code from.
fn of_the_linker(file: &str, license: &'static str, description: &'static str) -> Result<Part> {
    let path = answer("gcc", &[&format!("-print-file-name={file}")])?;
    let path = std::fs::canonicalize(&path).with_context(|| format!("The linker has no {file}"))?;
    let owner = answer("dpkg-query", &["--search", &path.to_string_lossy()])?;
    let package = owner.split(':').next().unwrap_or_default();
    let version = answer("dpkg-query", &["--show", "--showformat=${Version} ", package])?;
    let version = version.split(' ').next().unwrap_or_default();
    Ok(Part {
        url: format!("pkg:deb/debian/{package}@{version}"),
        kind: "library",
        name: package.to_owned(),
        version: version.to_owned(),
        license,
        description,
        hash: known::hash(&path)?,
    })
}

/// Rust's own, with the crates that are built into it.
fn standard_library() -> Result<Part> {
    let about = answer("rustc", &["-vV"])?;
    let line = |name: &str| {
        let value = about.lines().find_map(|line| line.strip_prefix(name));
        value.with_context(|| format!("rustc does not say its {name}")).map(str::to_owned)
    };
    let (version, commit) = (line("release: ")?, line("commit-hash: ")?);
    let folder = PathBuf::from(answer("rustc", &["--print", "target-libdir"])?);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("Cannot read {}", folder.display()))?;
    let mut library = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    });
    let library = library.next().with_context(|| format!("There is no libstd in {}", folder.display()))?;
    Ok(Part {
        url: format!("pkg:github/rust-lang/rust@{commit}"),
        kind: "library",
        name: "std".to_owned(),
        version,
        license: "MIT OR Apache-2.0",
        description: "Rust's standard library, with the crates that are built into it",
        hash: known::hash(&library)?,
    })
}

fn made_of(
    metadata: &Metadata,
    checksums: &BTreeMap<(&str, &str), &str>,
    kernel: &Part,
    standard: &Part,
    linked_statically: &[Part],
) -> Value {
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
            if package.source.is_none() && SHIPPED.contains(&package.name.as_str()) {
                below.push(standard.url.clone());
                let also = linked_statically.iter().filter(|_| package.name != DYNAMIC);
                below.extend(also.map(|part| part.url.clone()));
            }
            below.sort();
            let edges = json!({ "ref": url, "dependsOn": below });
            (url, component(package, checksums), edges)
        })
        .collect();
    components.sort_by(|one, other| one.0.cmp(&other.0));
    for part in linked_statically.iter().chain([standard, kernel]) {
        components.push((part.url.clone(), part.component(), json!({ "ref": part.url, "dependsOn": [] })));
    }
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
                package("a", "msb-agent", Value::Null), package("e", "msb", Value::Null), package("b", "linked", json!("registry")),
                package("c", "for-tests", json!("registry")), package("d", "integration", Value::Null),
            ],
            "resolve": { "nodes": [
                { "id": "a", "deps": [dep("b", Value::Null), dep("c", json!("dev"))] },
                { "id": "e", "deps": [] }, { "id": "b", "deps": [] }, { "id": "c", "deps": [] },
                { "id": "d", "deps": [dep("c", Value::Null)] },
            ] },
        }))
        .expect("as cargo says it");
        let lock = "[[package]]\nname = \"linked\"\nversion = \"1.0.0+x\"\nchecksum = \"abc\"\n";
        let part = |url: &str| Part {
            url: url.to_owned(),
            kind: "library",
            name: url.to_owned(),
            version: "1".into(),
            license: "MIT",
            description: "",
            hash: "def".into(),
        };
        let parts = ["linux", "std", "libc"].map(part);
        let [linux, standard, libc] = parts;
        let document = made_of(&metadata, &checksums(lock), &linux, &standard, &[libc]);
        let names: Vec<&str> = document["components"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|one| one["name"].as_str())
            .collect();
        assert_eq!(names, ["linked", "msb-agent", "msb", "libc", "std", "linux"]);
        let linked = &document["components"][0];
        assert_eq!(linked["purl"], "pkg:cargo/linked@1.0.0%2Bx");
        assert_eq!(linked["hashes"][0]["content"], "abc");
        assert_eq!(linked["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let depends = |at: usize| document["dependencies"][at]["dependsOn"].clone();
        assert_eq!(depends(1), json!(["libc", "pkg:cargo/linked@1.0.0%2Bx", "std"]));
        assert_eq!(depends(2), json!(["std"]));
        assert_eq!(document["components"][5]["hashes"][0]["content"], "def");
    }

    #[test]
    fn of_this_workspace_all_that_is_shipped_is_listed() {
        if kernel_source().unwrap().is_none() {
            return test_skips::skip(format!("{} is not installed", kernel::SOURCE_PACKAGE));
        }
        // Any file: what is shipped takes minutes to build.
        let project = Project::here();
        let text = document(&project, &project.root.join("Cargo.lock")).unwrap();
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let all = document["components"].as_array().expect("a list");
        for name in SHIPPED.into_iter().chain(["rootfs-builder", "kvm-ioctls", "virtio-queue", "tokio"]) {
            assert!(all.iter().any(|one| one["name"] == name), "{name}");
        }
        for name in ["integration", "proptest", "libfuzzer-sys"] {
            assert!(all.iter().all(|one| one["name"] != name), "{name}");
        }
        for name in ["libc6-dev", "std", kernel::SOURCE_PACKAGE] {
            assert!(all.iter().any(|one| one["name"] == name), "{name}");
        }
        let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
        assert!(all.iter().any(|one| name(one).starts_with("libgcc-")));
        for one in all.iter().filter(|one| one["type"] != "application") {
            assert_eq!(one["hashes"][0]["content"].as_str().map(str::len), Some(64), "{one}");
        }
    }
}
