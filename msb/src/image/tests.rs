//! Archives of images as Docker, podman and buildx write them, loaded and used.

use std::fs;
use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;
use crate::home::Home;

/// A home of its own, on a file system that can have layers; none where none can be made.
fn images(test: &str) -> Option<(TempDir, Images)> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image-tests");
    fs::create_dir_all(&target).unwrap();
    let directory = TempDir::new_in(target).unwrap();
    if !rustix::process::geteuid().is_root() {
        let reason = "layers have owners and whiteouts: run it as root";
        integration::dev::test::skipped(test, reason);
        return None;
    }
    let images = Images::open(&Home::at(directory.path().join("home")).unwrap()).unwrap();
    Some((directory, images))
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "architecture": manifest::architecture(), "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"], "Entrypoint": null, "WorkingDir": "/srv"},
        "rootfs": {"type": "layers", "diff_ids": ids},
    });
    serde_json::to_vec(&config).unwrap()
}

/// As `docker save` was until version 24.
fn docker(name: &str) -> Vec<u8> {
    let layers = [archive(&[("f", b"1")]), archive(&[("d/g", b"2"), (".wh.f", b"")])];
    let config = config(&[&layers[0], &layers[1]]);
    let id = Digest::of(&config).hex();
    let list = json!([{"Config": format!("{id}.json"), "RepoTags": [name], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let list = serde_json::to_vec(&list).unwrap();
    archive(&[
        ("a/VERSION", b"1.0"),
        ("a/layer.tar", &layers[0]),
        ("b/layer.tar", &layers[1]),
        (&format!("{id}.json"), &config),
        ("manifest.json", &list),
    ])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI layout with an index for several machines, as buildx writes it; its files by name.
fn oci() -> Vec<(String, Vec<u8>)> {
    let layer = archive(&[("f", b"oci")]);
    let blob = gzip(&layer);
    let config = config(&[&layer]);
    let descriptor = |kind: &str, bytes: &[u8]| -> Value {
        json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
    };
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "config": descriptor(manifest::OCI_CONFIG, &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &blob)],
    }))
    .unwrap();
    let of = |architecture: &str, bytes: &[u8]| {
        let mut of = descriptor(manifest::OCI_MANIFEST, bytes);
        of["platform"] = json!({"architecture": architecture, "os": "linux"});
        of
    };
    let inner = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "manifests": [of("riscv64", b"not here"), of(manifest::architecture(), &manifest)],
    }))
    .unwrap();
    let mut outer = descriptor("application/vnd.oci.image.index.v1+json", &inner);
    outer["annotations"] = json!({"org.opencontainers.image.ref.name": "registry.example/team/app:1"});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [outer]})).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = [&blob, &config, &manifest, &inner]
        .into_iter()
        .map(|bytes| (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.clone()))
        .collect();
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    files.push(("index.json".into(), index));
    files
}

fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    archive(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

#[test]
fn an_archive_of_dockers_is_loaded_and_found() {
    let Some((_keep, images)) = images("an_archive_of_dockers_is_loaded_and_found") else { return };
    for bytes in [docker("app:1"), gzip(&docker("app:1"))] {
        assert_eq!(images.load_archive(&*bytes, &()).unwrap(), ["docker.io/library/app:1"]);
    }
    let image = images.local("app:1", &()).unwrap();
    assert_eq!(image.reference, "docker.io/library/app:1");
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_deref(), Some(&["/bin/sh".to_owned()][..]));
    assert_eq!(image.layers.len(), 2);
    assert_eq!(fs::read(image.layers[0].join("f")).unwrap(), b"1");
    assert_eq!(fs::read(image.layers[1].join("d/g")).unwrap(), b"2");
    // By its ID, and not by a name that it has not.
    for given in [image.id.to_string(), image.id.hex()[..12].to_owned()] {
        assert_eq!(images.local(&given, &()).unwrap().digest, image.digest);
    }
    let error = images.local("app", &()).unwrap_err();
    assert!(error.to_string().contains("docker.io/library/app:latest is not here"), "{error}");
    assert!(error.to_string().contains("docker.io/library/app:1"), "{error}");
}

#[test]
fn an_oci_layout_is_loaded_as_an_archive_and_as_a_directory() {
    let Some((keep, images)) = images("an_oci_layout_is_loaded_as_an_archive_and_as_a_directory") else {
        return;
    };
    let name = "registry.example/team/app:1";
    let directory = keep.path().join("layout");
    for (path, bytes) in oci() {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(images.load(&directory, &()).unwrap(), [name]);
    let first = images.local(name, &()).unwrap();
    let file = keep.path().join("app.tar");
    fs::write(&file, packed(&oci())).unwrap();
    assert_eq!(images.load(&file, &()).unwrap(), [name]);
    let image = images.local(name, &()).unwrap();
    assert_eq!((image.digest, &image.layers), (first.digest, &first.layers));
    assert_eq!(fs::read(image.layers[0].join("f")).unwrap(), b"oci");
    // Directories that tools left behind are made again.
    fs::remove_dir_all(&image.layers[0]).unwrap();
    assert!(images.local(name, &()).unwrap().layers[0].join("f").is_file());
}

#[test]
fn archives_that_are_none_are_refused_and_leave_nothing() {
    let Some((_keep, images)) = images("archives_that_are_none_are_refused_and_leave_nothing") else {
        return;
    };
    let whole = docker("app");
    let mut forged = oci();
    let (_, blob) = forged.iter_mut().find(|(name, _)| name.starts_with("blobs")).unwrap();
    *blob = gzip(b"something else");
    let list = |list: Value| archive(&[("manifest.json", &serde_json::to_vec(&list).unwrap())]);
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("text", b"hello".repeat(1000)),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("cut off and compressed", gzip(&whole)[..200].to_vec()),
        ("another blob", packed(&forged)),
        ("no list", archive(&[("f", b"")])),
        ("a list of nonsense", list(json!({"a": 1}))),
        (
            "files that are not there",
            list(json!([{"Config": "../../x", "RepoTags": ["x"], "Layers": ["/etc/passwd"]}])),
        ),
        ("a name that is none", docker("../../etc")),
        ("no layout", packed(&oci()[..4])),
    ] {
        assert!(images.load_archive(&*bytes, &()).is_err(), "{what}");
    }
    assert!(Index::read(&images.store).unwrap().images.is_empty());
    let left: Vec<_> =
        fs::read_dir(images.store.temporary()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().is_some_and(|end| end == "lock")), "{left:?}");
}

#[test]
fn an_interrupted_unpacking_is_begun_anew_and_two_at_once_are_one() {
    let Some((_keep, images)) = images("an_interrupted_unpacking_is_begun_anew_and_two_at_once_are_one")
    else {
        return;
    };
    images.load_archive(&*docker("app"), &()).unwrap();
    let image = images.local("app", &()).unwrap();
    for layer in &image.layers {
        let left = images.store.temporary().join(layer.file_name().unwrap());
        fs::rename(layer, &left).unwrap();
        fs::write(left.join("garbage"), "").unwrap();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| images.local("app", &()).unwrap())).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap().layers, image.layers);
        }
    });
    assert!(!image.layers[0].join("garbage").exists() && image.layers[0].join("f").is_file());
}

#[test]
fn a_hostile_layer_is_refused_when_it_is_loaded() {
    let Some((_keep, images)) = images("a_hostile_layer_is_refused_when_it_is_loaded") else { return };
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../../out");
    header.set_cksum();
    let mut layer = Builder::new(Vec::new());
    layer.append(&header, &b"x"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let list = json!([{"Config": "c.json", "RepoTags": ["bad:1"], "Layers": ["l.tar"]}]);
    let list = serde_json::to_vec(&list).unwrap();
    let config = config(&[&layer]);
    let bytes = archive(&[("l.tar", &layer), ("c.json", &config), ("manifest.json", &list)]);
    let error = images.load_archive(&*bytes, &()).unwrap_err();
    assert!(matches!(error, ImageError::Layer { .. }), "{error}");
    images.local("bad:1", &()).unwrap_err();
}

#[test]
fn what_is_saved_can_be_loaded_again() {
    let Some((_keep, images)) = images("what_is_saved_can_be_loaded_again") else { return };
    images.load_archive(&*docker("app:1"), &()).unwrap();
    images.load_archive(&*packed(&oci()), &()).unwrap();
    let names = ["app:1", "registry.example/team/app:1"];
    let mut archive = Vec::new();
    images.save(&names, &mut archive).unwrap();
    let (_other, others) = self::images("").unwrap();
    assert_eq!(others.load_archive(&*archive, &()).unwrap(), ["docker.io/library/app:1", names[1]]);
    for name in names {
        let (one, two) = (images.local(name, &()).unwrap(), others.local(name, &()).unwrap());
        assert_eq!((one.digest, one.id), (two.digest, two.id));
    }
    // And as older Docker does it, by manifest.json alone.
    let mut entries = tar::Archive::new(&*archive);
    let mut files = Vec::new();
    for entry in entries.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name != "index.json" {
            files.push((name, bytes));
        }
    }
    let (_third, third) = self::images("").unwrap();
    third.load_archive(&*packed(&files), &()).unwrap();
    assert_eq!(third.local("app:1", &()).unwrap().id, images.local("app:1", &()).unwrap().id);
    let error = images.save(&["nothing"], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, ImageError::NotHere { .. }), "{error}");
}

#[test]
fn names_go_at_once_and_content_when_nobody_has_it() {
    let Some((_keep, images)) = images("names_go_at_once_and_content_when_nobody_has_it") else { return };
    images.load_archive(&*docker("app:1"), &()).unwrap();
    images.load_archive(&*docker("app:2"), &()).unwrap();
    images.load_archive(&*packed(&oci()), &()).unwrap();
    let app = images.local("app:1", &()).unwrap();
    assert_eq!(images.list().unwrap().len(), 3);
    let details = images.inspect(&app.id.hex()).unwrap();
    assert_eq!(details.names, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    assert_eq!(details.summary.created.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(images.remove("app:1").unwrap(), ["docker.io/library/app:1"]);
    // The index of several machines' images has done its work.
    let freed = images.prune(&[]).unwrap();
    assert_eq!((freed.layers, freed.blobs), (0, 1));
    assert_eq!(images.prune(&[]).unwrap(), Freed::default());
    images.load_archive(&*docker("app:1"), &()).unwrap();
    assert_eq!(images.remove(&app.id.hex()).unwrap().len(), 2);
    images.remove("app:1").unwrap_err();
    // A sandbox has it.
    assert_eq!(images.prune(&[app.digest]).unwrap().layers, 0);
    assert!(app.layers.iter().all(|layer| layer.is_dir()));
    fs::write(images.store.temporary().join("interrupted"), "x").unwrap();
    let freed = images.prune(&[]).unwrap();
    assert_eq!((freed.layers, freed.blobs), (2, 4));
    assert!(freed.bytes > 0 && !app.layers[0].exists());
    assert_eq!(fs::read_dir(images.store.temporary()).unwrap().count(), 0);
    // The other one is whole.
    assert!(images.local("registry.example/team/app:1", &()).unwrap().layers[0].join("f").is_file());
}

#[test]
fn images_that_come_with_the_program_are_taken_over_once() {
    let Some((directory, images)) = images("images that come with the program") else { return };
    let shipped = Home::at(directory.path().join("shipped")).unwrap();
    let theirs = Images::open(&shipped).unwrap();
    let content = |content: &[u8]| archive(&[("f", content)]);
    let has = || fs::read(images.local("mine", &()).unwrap().layers[0].join("f")).unwrap();
    let ship = |content: Vec<u8>| {
        theirs.import(&content[..], "mine").unwrap();
        images.take_over(shipped.path()).unwrap();
    };
    ship(content(b"1"));
    assert_eq!(has(), b"1");
    // What came later by another way stays, and what was removed stays away.
    images.import(&content(b"own")[..], "mine").unwrap();
    ship(content(b"1"));
    assert_eq!(has(), b"own");
    images.remove("mine").unwrap();
    ship(content(b"1"));
    assert!(images.list().unwrap().is_empty());
    ship(content(b"2"));
    assert_eq!(has(), b"2");
    // Nothing is unpacked where nothing can be.
    assert_eq!(fs::read_dir(shipped.images().join("l")).unwrap().count(), 0);
}
