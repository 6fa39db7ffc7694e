//! The parts know only whom they may know, and there is one version of each rust-vmm crate.
//!
//! Read from the sources' `use` lines and paths, not from the compiler: what is forbidden compiles.

#![allow(clippy::tests_outside_test_module, reason = "every function of an integration test is one")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each part of `src/`, which other parts it may name, and which crates it must never name.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("bundle", &[], &["kvm_ioctls", "kvm_bindings", "vm_memory", "msb_agent", "rootfs_builder"]),
    // The agent's protocol is data: config fills it in instead of a second set of the same structs.
    // Of libc only the kernel's numbers can be used there: to call it is `unsafe`, which the lints deny.
    ("config", &["bundle"], &["kvm_ioctls", "vm_memory", "rootfs_builder", "nix"]),
    ("host", &["config"], &["oci_spec", "kvm_ioctls", "kvm_bindings", "vm_memory", "msb_agent"]),
    ("image", &["config"], &["oci_spec", "kvm_ioctls", "kvm_bindings", "vm_memory", "msb_agent"]),
    // Of rootfs_builder it knows the composition: see the test below.
    ("machine", &["config"], &["oci_spec", "msb_agent", "serde_json"]),
    ("process", &[], &["oci_spec", "kvm_ioctls", "kvm_bindings", "vm_memory", "rootfs_builder"]),
    (
        "sandbox",
        &["config", "host", "machine", "process", "state"],
        &["oci_spec", "rootfs_builder", "kvm_ioctls"],
    ),
    ("state", &[], &["oci_spec", "kvm_ioctls", "kvm_bindings", "vm_memory", "msb_agent", "rootfs_builder"]),
    // What can be done to a container: the one part that composes all others. How callers speak is not its business.
    (
        "verbs",
        &["bundle", "config", "host", "image", "machine", "process", "sandbox", "state"],
        &["kvm_ioctls", "kvm_bindings", "vm_memory", "rootfs_builder", "clap", "anyhow"],
    ),
];

/// Types of two versions of these do not fit together.
const CRATES_OF_RUST_VMM: [&str; 11] = [
    "kvm-bindings",
    "kvm-ioctls",
    "linux-loader",
    "seccompiler",
    "vhost",
    "virtio-bindings",
    "virtio-queue",
    "vm-fdt",
    "vm-memory",
    "vm-superio",
    "vmm-sys-util",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("integration lies in the workspace").to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The file's code: no comments, and nothing after the first test module.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a readable source");
    let until_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    until_tests.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every word that follows `prefix` (`crate::` also inside of braces).
fn named_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => drop(names.insert(word(rest))),
            Some(group) => {
                let mut depth = 0;
                let mut fresh = true;
                for (offset, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => fresh = true,
                        _ if fresh && !c.is_whitespace() => {
                            names.insert(word(&group[offset..]));
                            fresh = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

#[test]
fn every_part_knows_only_whom_it_may() {
    let src = workspace().join("src");
    let parts: BTreeSet<&str> = RULES.iter().map(|(part, ..)| *part).collect();
    let mut wrong = Vec::new();
    for (part, may, never) in RULES {
        for path in sources(&src.join(part)) {
            let code = code(&path);
            for other in named_after(&code, "crate::") {
                if other != *part && parts.contains(other.as_str()) && !may.contains(&other.as_str()) {
                    wrong.push(format!("{}: {part} must not know {other}", path.display()));
                }
            }
            for name in *never {
                if code.contains(&format!("{name}::")) {
                    wrong.push(format!("{}: {part} must not know {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_folder_of_src_has_its_rule() {
    let folders: BTreeSet<String> = fs::read_dir(workspace().join("src"))
        .expect("src")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.is_dir())
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .filter(|name| name != "bin")
        .collect();
    let ruled: BTreeSet<String> = RULES.iter().map(|(part, ..)| (*part).to_owned()).collect();
    assert_eq!(folders, ruled);
}

/// Nothing in `folder` names anything of the package `krate` but its module `module`.
fn only_module(folder: &str, krate: &str, module: &str) {
    let prefix = format!("{krate}::");
    let wrong: Vec<String> = sources(&workspace().join(folder))
        .iter()
        .flat_map(|path| named_after(&code(path), &prefix).into_iter().map(move |name| (path, name)))
        .filter(|(_, name)| name != module)
        .map(|(path, name)| format!("{}: {prefix}{name}", path.display()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn of_the_agent_the_host_knows_the_protocol_alone() {
    only_module("src", "msb_agent", "protocol");
}

/// The block device reads compositions. Where layers come from and how an image is made is not its business.
#[test]
fn of_the_root_builder_the_machine_knows_the_composition_alone() {
    only_module("src/machine", "rootfs_builder", "composed");
}

/// Images are made of what strangers send: who reads that knows nothing of sandboxes, and no machine.
#[test]
fn of_sandboxes_images_know_when_to_pull_alone() {
    let mut wrong = Vec::new();
    for path in sources(&workspace().join("msb/src/image")) {
        let code = code(&path);
        let pull_alone =
            code.matches("crate::sandbox::").count() == code.matches("crate::sandbox::Pull;").count();
        for other in named_after(&code, "crate::") {
            let may = match other.as_str() {
                "home" | "image" => true,
                "sandbox" => pull_alone,
                _ => false,
            };
            if !may {
                wrong.push(format!("{}: image must not know {other}", path.display()));
            }
        }
        for name in ["msb_runtime", "msb_agent", "clap", "anyhow"] {
            if code.contains(&format!("{name}::")) {
                wrong.push(format!("{}: image must not know {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of the product's parts, who may know whom: the server has sandboxes by way of its engine, and sandboxes know of no server.
#[test]
fn sandboxes_know_no_server_and_networks_no_sandbox() {
    let rules: [(&str, &[&str]); 3] = [
        ("sandbox", &["home", "image", "name", "network", "sandbox"]),
        ("network", &["network", "sandbox"]),
        ("server", &["image", "name", "sandbox", "server"]),
    ];
    let mut wrong = Vec::new();
    for (part, may) in rules {
        for path in sources(&workspace().join("msb/src").join(part)) {
            let code = code(&path);
            let named = named_after(&code, "crate::").into_iter();
            wrong.extend(
                named
                    .filter(|name| !may.contains(&name.as_str()))
                    .map(|name| format!("{}: {name}", path.display())),
            );
            if part == "network" && code.replace("crate::sandbox::Network;", "").contains("crate::sandbox::")
            {
                wrong.push(format!("{}: more of sandboxes than whom they reach", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn config_below_the_edge_is_pure() {
    let mut wrong = Vec::new();
    for path in sources(&workspace().join("src/config")) {
        let code = code(&path);
        for io in ["std::fs", "fs::", "File::", "env::var", "SystemTime", "std::process::"] {
            if code.contains(io) {
                wrong.push(format!("{}: {io}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_version_of_each_rust_vmm_crate() {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).expect("Cargo.lock");
    let mut versions = BTreeMap::<&str, Vec<&str>>::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(quoted) = line.strip_prefix("name = ") {
            name = quoted.trim_matches('"');
        } else if let Some(version) = line.strip_prefix("version = ") {
            versions.entry(name).or_default().push(version.trim_matches('"'));
        }
    }
    for krate in CRATES_OF_RUST_VMM {
        let found = versions.get(krate).map_or(&[][..], Vec::as_slice);
        assert_eq!(found.len(), 1, "{krate}: {found:?}");
    }
}

#[test]
fn no_source_is_past_six_hundred_lines_of_code() {
    let workspace = workspace();
    let folders = [
        "src",
        "guest/agent/src",
        "rootfs-builder/src",
        "integration/src",
        "integration/fuzz/src",
        "integration/skips/src",
        "integration/guests/src",
        "msb/src",
        "shim/src",
    ];
    let mut long = Vec::new();
    for path in folders.iter().flat_map(|folder| sources(&workspace.join(folder))) {
        let lines = code(&path).lines().filter(|line| !line.trim().is_empty()).count();
        if lines > 600 {
            long.push(format!("{}: {lines}", path.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// What the page says is shown by a test has that test.
#[test]
fn the_threat_model_names_tests_that_exist() {
    let page = fs::read_to_string(workspace().join("src/THREAT-MODEL.md")).expect("the page");
    let mut sources_of_all = Vec::new();
    for folder in ["src", "guest", "rootfs-builder", "msb", "integration", "shim"] {
        sources_of_all.extend(sources(&workspace().join(folder)));
    }
    let texts: Vec<String> =
        sources_of_all.iter().map(|path| fs::read_to_string(path).expect("a readable source")).collect();
    let is_name = |word: &str| {
        word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
    };
    let names: BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(|word| is_name(word)).collect();
    assert!(names.len() > 25, "{names:?}");
    let known = ["no_new_privs"];
    let missing: Vec<&&str> = names
        .iter()
        .filter(|name| !known.contains(name) && !texts.iter().any(|text| is_test(text, name)))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(is_test("#[test]\n#[ignore]\nfn one() {}", "one") && is_test("ours: [one, two]);", "two"));
    assert!(!is_test("fn one() {}\n#[test]\nfn two() {}", "one") && !is_test("ours: [one_more]);", "one"));
}

/// Whether `text` has a test of that name: a function with the attribute, or one of a list that `conformance!` runs.
fn is_test(text: &str, name: &str) -> bool {
    let declared = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let attributed = |at: usize| {
        let above = lines[..at].iter().rev();
        above
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| *line == "#[test]")
    };
    if (0..lines.len()).any(|at| lines[at].starts_with(&declared) && attributed(at)) {
        return true;
    }
    ["both: [", "ours: ["]
        .iter()
        .flat_map(|list| text.split(list).skip(1))
        .any(|rest| rest.split(']').next().unwrap_or_default().split(',').any(|listed| listed.trim() == name))
}
