//! Archives: layers with an entry of each kind, and images as Docker and the OCI's tools write them.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use msb::image::Digest;
use serde_json::{Value, json};

use crate::image::{BLOCK, header};

/// One entry with its content, up to the next block.
fn entry(name: &str, kind: u8, target: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, target, content.len()).to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 2 * BLOCK]].concat()
}

/// A line of a pax header: its own length is in it.
fn line(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let length = rest.len() + 2;
    let length = if length > 99 { length + 1 } else { length };
    format!("{length}{rest}")
}

fn pax(kind: u8, lines: &[(&str, &str)]) -> Vec<u8> {
    let text: String = lines.iter().map(|(key, value)| line(key, value)).collect();
    entry("PaxHeaders/x", kind, "", text.as_bytes())
}

fn file(name: &str) -> Vec<u8> {
    entry(name, b'0', "", b"hello")
}

/// Layers above the one that the target lays below: `d/f`, `a`, and links that lead `out` and `up`.
pub(crate) fn layers() -> Vec<Vec<u8>> {
    let long = "n".repeat(150);
    let name = format!("{long}/{}\0", "m".repeat(120));
    let bits = |number: u64| [&[0x80, 0, 0, 0][..], &number.to_be_bytes()].concat();
    let mut large = header("a", b'0', "", 0);
    large[124..136].copy_from_slice(&bits(5));
    let mut time = header("b", b'0', "", 0);
    time[136..148].copy_from_slice(&bits(u64::MAX / 3));
    let mut prefix = header("c", b'0', "", 0);
    prefix[345..348].copy_from_slice(b"d/e");
    let entries = [
        vec![file("x")],
        vec![entry("e", b'5', "", b""), file("e/x"), entry("e", b'5', "", b"")],
        vec![file("x"), entry("y", b'1', "x", b""), entry("z", b'1', "d/f", b"")],
        vec![entry("l", b'2', "/etc/passwd", b""), entry("l/x", b'0', "", b"1")],
        vec![entry("c", b'3', "", b""), entry("k", b'4', "", b""), entry("p", b'6', "", b"")],
        vec![entry("x", b'7', "", b"old"), entry("old", 0, "", b"1"), entry("v", b'V', "", b"label")],
        // What is not there any more, and what is hidden.
        vec![file(".wh.a"), file("d/.wh.f"), file(".wh.out")],
        vec![file("d/.wh..wh..opq"), file("d/new"), file(".wh..wh.plnk")],
        vec![file("d/new"), file(".wh.d"), file("d/x")],
        // Out of the root, by names and by links.
        vec![file("../x"), file("/abs"), file("./d/../y"), file("d//f")],
        vec![file("out/x"), file("up/x"), file("out"), entry("up", b'5', "", b"")],
        vec![entry("h", b'1', "out/kept", b""), entry("h", b'1', "../kept", b""), entry("h", b'1', "h", b"")],
        vec![entry("a", b'5', "", b""), file("a/b"), entry("d", b'2', "a", b""), file("d/x")],
        // Longer names, targets, sizes and times than a header has room for.
        vec![entry("././@LongLink", b'L', "", name.as_bytes()), file("short")],
        vec![entry("././@LongLink", b'K', "", name.as_bytes()), entry("s", b'2', "short", b"")],
        vec![pax(b'x', &[("path", &long), ("size", "5"), ("mtime", "1.5"), ("uid", "70000")]), file("short")],
        vec![pax(b'x', &[("linkpath", &long), ("gid", "-1")]), entry("s", b'2', "x", b"")],
        vec![
            pax(b'x', &[("SCHILY.xattr.user.a", "b"), ("SCHILY.xattr.trusted.overlay.opaque", "y")]),
            entry("e", b'5', "", b""),
        ],
        vec![pax(b'x', &[("LIBARCHIVE.xattr.user.a", "YQ"), ("SCHILY.acl.access", "user::rwx")]), file("x")],
        vec![pax(b'g', &[("comment", "x"), ("path", "everything")]), file("x"), file("y")],
        vec![pax(b'x', &[("path", "..")]), pax(b'x', &[("path", "")]), file("x")],
        vec![
            pax(b'x', &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "s")]),
            file("x"),
        ],
        vec![entry("s", b'S', "", b"x")],
        vec![
            large.to_vec(),
            [b"hello".to_vec(), vec![0; BLOCK - 5]].concat(),
            time.to_vec(),
            prefix.to_vec(),
        ],
    ];
    let mut all: Vec<Vec<u8>> = entries.iter().map(|entries| archive(entries)).collect();
    // Without an end, and cut in the middle of an entry.
    all.push(file("x"));
    all.push(entry("x", b'0', "", &[1; 700])[..900].to_vec());
    all.push(Vec::new());
    all
}

/// A layer, its image's configuration, and their digests.
struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        let layer = archive(&[file("x"), entry("l", b'2', "x", b"")]);
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {
                "Cmd": ["sh"], "Entrypoint": ["/x"], "Env": ["A=b"], "WorkingDir": "/w", "User": "1:2",
                "ExposedPorts": { "80/tcp": {} }, "Labels": { "a": "b" }, "Volumes": { "/v": {} }, "StopSignal": "SIGINT",
            },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer).to_string()] },
            "history": [{ "created_by": "x" }],
        });
        Self { layer, config: config.to_string().into_bytes() }
    }

    fn docker(&self, layer: &[u8], more: &[Vec<u8>]) -> Vec<u8> {
        let list =
            json!([{ "Config": "c.json", "RepoTags": ["x:1", "y/z:latest"], "Layers": ["l/layer.tar"] }]);
        let mut entries = vec![
            entry("l", b'5', "", b""),
            entry("l/layer.tar", b'0', "", layer),
            entry("c.json", b'0', "", &self.config),
            entry("manifest.json", b'0', "", list.to_string().as_bytes()),
        ];
        entries.extend_from_slice(more);
        archive(&entries)
    }

    /// As the image-layout has it, with layers of that kind.
    fn oci(&self, kind: &str, layer: &[u8], nested: bool) -> Vec<u8> {
        let of = |media: &str, bytes: &[u8]| json!({ "mediaType": media, "digest": Digest::of(bytes).to_string(), "size": bytes.len() });
        let prefix = "application/vnd.oci.image";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": format!("{prefix}.manifest.v1+json"),
            "config": of(&format!("{prefix}.config.v1+json"), &self.config),
            "layers": [of(kind, layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut described = of(&format!("{prefix}.manifest.v1+json"), &manifest);
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        described["platform"] = json!({ "architecture": architecture, "os": "linux" });
        described["annotations"] = json!({ "org.opencontainers.image.ref.name": "x:2" });
        let index = |manifest: &Value| json!({ "schemaVersion": 2, "mediaType": format!("{prefix}.index.v1+json"), "manifests": [manifest] });
        let inner = index(&described).to_string().into_bytes();
        let top =
            if nested { index(&of(&format!("{prefix}.index.v1+json"), &inner)) } else { index(&described) };
        let blob = |bytes: &[u8]| {
            let digest = Digest::of(bytes).to_string();
            entry(&format!("blobs/{}", digest.replace(':', "/")), b'0', "", bytes)
        };
        archive(&[
            entry("oci-layout", b'0', "", br#"{"imageLayoutVersion":"1.0.0"}"#),
            blob(&self.config),
            blob(layer),
            blob(&manifest),
            blob(&inner),
            entry("index.json", b'0', "", top.to_string().as_bytes()),
        ])
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all")
}

/// One frame of one block that is stored as it is (RFC 8878, 3.1.1).
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("small");
    let block = (length << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &length.to_le_bytes(), &block[..3], bytes].concat()
}

/// Whole images.
pub(crate) fn archives() -> Vec<Vec<u8>> {
    let image = Image::new();
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let whole = image.docker(&image.layer, &[]);
    let (packed, stored) = (gzip(&image.layer), zstd(&image.layer));
    vec![
        image.docker(&packed, &[]),
        image.docker(&stored, &[]),
        // Older ones have links to layers.
        archive(&[
            entry("l/layer.tar", b'2', "../m", b""),
            entry("m", b'0', "", &image.layer),
            whole.clone(),
        ]),
        image
            .docker(&image.layer, &[entry("repositories", b'0', "", b"{}"), entry("m", b'1', "c.json", b"")]),
        image.oci(tar, &image.layer, false),
        image.oci(&format!("{tar}+gzip"), &packed, false),
        image.oci(&format!("{tar}+zstd"), &stored, true),
        image.oci("application/vnd.docker.image.rootfs.diff.tar.gzip", &packed, true),
        image.oci("application/vnd.example", &image.layer, false),
        archive(&[entry("manifest.json", b'0', "", b"[]")]),
        archive(&[entry("index.json", b'0', "", br#"{"schemaVersion":2,"manifests":[]}"#)]),
        gzip(&whole),
        zstd(&whole),
        [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(&whole)].concat(),
        whole,
    ]
}
