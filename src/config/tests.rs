//! Whole configurations, as the callers write them, and what becomes of each.

use msb_agent::protocol::{Container, Mount, MountSource};

use super::{Config, DiskConfig, FileSystem, HostConfig, PlacedBind, RootDisks, Settings, Size};
use crate::bundle::Spec;

/// What came out, with each bind mount standing for a file that holds its own path.
#[derive(Debug)]
#[expect(dead_code, reason = "only shown")]
struct Outcome {
    size: Size,
    host: HostConfig,
    container: Container,
}

fn outcome(text: &str) -> Outcome {
    let spec = Spec::check(serde_json::from_str(text).unwrap(), "/root".into()).unwrap();
    let config = Config::new(&spec, &Settings::default(), false, |_| None).unwrap();
    let disk = |path: &str, read_only| DiskConfig::Raw { path: path.into(), read_only };
    let disks = RootDisks {
        layers: vec![(disk("root", true), FileSystem::Erofs)],
        scratch: disk("scratch", false),
        read_only: false,
    };
    let (mut container, binds, _) = config.plan.complete(Some(&disks), |_| None);
    for PlacedBind { index, bind } in binds {
        let content = bind.source.to_string_lossy().into_owned().into_bytes();
        let source = MountSource::File { content, mode: 0o644, uid: 0, gid: 0 };
        container
            .mounts
            .insert(index, Mount { destination: bind.destination, source, options: bind.options });
    }
    Outcome { size: config.size, host: config.host, container }
}

/// Bytes as the text they are, and of a filter that there is one, so that a snapshot can be read; its instructions are
/// other ones for each processor.
fn shown(outcome: &Outcome) -> String {
    let mut text = format!("{outcome:#?}");
    while let Some(start) = text.find("content: [\n") {
        let end = start + text[start..].find(']').unwrap();
        let bytes =
            text[start + 10..end].split(',').filter_map(|number| number.trim().parse().ok()).collect();
        text.replace_range(start..=end, &format!("content: {:?}", String::from_utf8(bytes).unwrap()));
    }
    if let Some(start) = text.find("program: [\n") {
        let end = start + text[start..].find(']').unwrap();
        assert!(text[start..end].contains("Instruction {"));
        text.replace_range(start..=end, "program: [instructions]");
    }
    text
}

#[test]
fn docker_26() {
    insta::assert_snapshot!(shown(&outcome(include_str!("fixtures/docker.json"))));
}

#[test]
fn podman_5_4() {
    insta::assert_snapshot!(shown(&outcome(include_str!("fixtures/podman.json"))));
}

#[test]
fn ctr_1_7() {
    insta::assert_snapshot!(shown(&outcome(include_str!("fixtures/ctr.json"))));
}

#[test]
fn runc_spec() {
    insta::assert_snapshot!(shown(&outcome(include_str!("fixtures/runc.json"))));
}

#[test]
fn the_same_configuration_gives_the_same_container() {
    let text = include_str!("fixtures/docker.json");
    assert_eq!(outcome(text).container, outcome(text).container);
}
