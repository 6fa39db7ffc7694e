//! An image as a registry has it.

use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use msb::image::Digest;
use serde_json::{Value, json};

/// An image for two kinds of machines, of which the other one is not there.
pub struct Content {
    pub layers: Vec<Layer>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub index: Vec<u8>,
}

/// One layer, as it is stored.
pub struct Layer {
    pub blob: Vec<u8>,
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Layer {
    pub fn digest(&self) -> Digest {
        Digest::of(&self.blob)
    }

    pub fn path(&self, repository: &str) -> String {
        format!("/v2/{repository}/blobs/{}", self.digest())
    }
}

impl Content {
    pub fn new(name: &str, count: usize) -> Self {
        let plain: Vec<Vec<u8>> = (0..count).map(|number| tar(name, number)).collect();
        let layers: Vec<Layer> = plain.iter().map(|layer| Layer { blob: gzip(layer) }).collect();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let ids: Vec<String> = plain.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = bytes(&json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": [name]},
            "rootfs": {"type": "layers", "diff_ids": ids},
        }));
        let descriptor = |kind: &str, content: &[u8]| -> Value {
            json!({"mediaType": kind, "digest": Digest::of(content), "size": content.len()})
        };
        let gzipped = "application/vnd.oci.image.layer.v1.tar+gzip";
        let parts: Vec<Value> = layers.iter().map(|layer| descriptor(gzipped, &layer.blob)).collect();
        let manifest = bytes(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": parts,
        }));
        let mut ours = descriptor(MANIFEST, &manifest);
        ours["platform"] = json!({"architecture": architecture, "os": "linux"});
        let index = bytes(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [ours]}));
        Self { layers, config, manifest, index }
    }

    pub fn manifest_digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub fn index_digest(&self) -> Digest {
        Digest::of(&self.index)
    }

    /// What a registry answers, by path.
    pub fn answers(&self, repository: &str) -> HashMap<String, Vec<u8>> {
        let mut answers: HashMap<String, Vec<u8>> =
            self.layers.iter().map(|layer| (layer.path(repository), layer.blob.clone())).collect();
        let config = Digest::of(&self.config);
        answers.insert(format!("/v2/{repository}/blobs/{config}"), self.config.clone());
        answers
            .insert(format!("/v2/{repository}/manifests/{}", self.manifest_digest()), self.manifest.clone());
        answers.insert(format!("/v2/{repository}/manifests/latest"), self.index.clone());
        answers.insert("/v2/".into(), b"{}".to_vec());
        answers
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn tar(name: &str, number: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    // Incompressible, so that a third of it is a part of a file.
    let noise: Vec<u8> = (0..4000_u64).flat_map(|n| *Digest::of(&n.to_le_bytes()).bytes()).collect();
    for (path, data) in [("layer", format!("{name} {number}").as_bytes()), ("noise", &noise)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
