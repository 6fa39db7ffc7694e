//! Images from registries.
//!
//! In: a name, and how registries are spoken to. Out: an entry for the index, when all that it stands for is in the store. A
//! registry is not believed: all that it sends has the digest that was asked for, and none is read without a limit.

mod credentials;
mod error;
mod executor;
mod fetch;
mod login;
mod proxy;
mod registry;

use std::collections::HashSet;
use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_client::Reference;

pub use credentials::Credentials;
pub use error::PullError;
pub use proxy::Proxies;

use super::digest::Digest;
use super::error::ImageError;
use super::index::Entry;
use super::manifest::{self, Descriptor, Whole};
use super::progress::{Event, Progress, Stage};
use super::store::{self, Store};
use fetch::{Wanted, fetch};
use registry::Registry;

/// Layers that come at the same time.
const AT_ONCE: usize = 4;

/// Environment variable with registries that have plain HTTP: `HOST[:PORT]`, with commas between.
const INSECURE: &str = "MICROSANDBOX_INSECURE_REGISTRIES";

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// Those with plain HTTP, as `HOST[:PORT]`; the ones on this machine have it anyway.
    pub insecure: Vec<String>,
    /// In place of what `docker login` left.
    pub credentials: Option<Credentials>,
    /// Docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// On the way to them.
    pub proxies: Proxies,
}

impl Registries {
    /// Docker's configuration of this user, and the environment's proxies and settings.
    #[must_use]
    pub fn of_environment() -> Self {
        Self {
            insecure: listed(&std::env::var(INSECURE).unwrap_or_default()),
            credentials: None,
            docker_config: credentials::usual(),
            proxies: Proxies::of_environment(),
        }
    }

    fn credentials(&self, registry: &str) -> Result<Option<Credentials>, PullError> {
        match (&self.credentials, &self.docker_config) {
            (Some(given), _) => Ok(Some(given.clone())),
            (None, Some(config)) => credentials::find(config, registry),
            (None, None) => Ok(None),
        }
    }
}

fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// Brings an image into the store. An executor runs here and ends here, on a thread of its own: callers may have another.
pub(super) fn pull(
    store: &Store,
    reference: &Reference,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Entry, ImageError> {
    let run = || {
        let executor =
            executor::executor().map_err(super::error::store("start an executor for", "a pull"))?;
        executor.block_on(bring(store, reference, registries, progress))
    };
    std::thread::scope(|scope| {
        let begun = std::thread::Builder::new().name("pull".into()).spawn_scoped(scope, run);
        match begun.map_err(super::error::store("start a thread for", "a pull"))?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

async fn bring(
    store: &Store,
    reference: &Reference,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Entry, ImageError> {
    progress.event(Event::Resolving { reference: &reference.whole() });
    let registry = Registry::of(reference, registries)?;
    let which = reference.digest().or(reference.tag()).unwrap_or("latest");
    let (mut text, upstream) = registry.manifest(which).await?;
    let mut digest = upstream;
    if manifest::is_index(&text) {
        let index = manifest::index(&text, &digest)?;
        let Some(ours) = index.ours().into_iter().find(|entry| entry.platform.is_some()) else {
            return Err(manifest::other_platform(index.platforms()));
        };
        (text, digest) = registry.manifest(&ours.digest.to_string()).await?;
    }
    let document = manifest::manifest(&text, &digest)?;
    let config = document.config.clone();
    if config.size > store::CONFIG {
        return Err(ImageError::TooLong { what: "The image's configuration", limit: store::CONFIG });
    }
    fetch(store, &registry, Wanted { digest: &config.digest, size: config.size, tell: &|_| () }).await?;
    store.put(&text)?;
    let whole = Whole::of(
        digest,
        document,
        &store.document(&config.digest, "The image's configuration", store::CONFIG)?,
    )?;
    // Some have the same layer several times.
    let mut seen = HashSet::new();
    let layers = whole.manifest.layers.iter().filter(|layer| seen.insert(layer.digest));
    let fetches = layers.map(|layer| bring_layer(store, &registry, layer, progress)).collect::<Vec<_>>();
    stream::iter(fetches).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(Entry { manifest: digest, config: config.digest, upstream: Some(upstream), size: whole.size() })
}

async fn bring_layer(
    store: &Store,
    registry: &Registry,
    layer: &Descriptor,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let digest: &Digest = &layer.digest;
    let tell = |stage, done| progress.event(Event::Layer { digest, stage, done, total: layer.size });
    if store.has(digest) {
        tell(Stage::Here, layer.size);
        return Ok(());
    }
    if layer.size > store::LAYER {
        return Err(ImageError::TooLong { what: "A layer", limit: store::LAYER });
    }
    let downloading = |done| tell(Stage::Downloading, done);
    fetch(store, registry, Wanted { digest, size: layer.size, tell: &downloading }).await?;
    tell(Stage::Downloaded, layer.size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_a_setting() {
        assert_eq!(listed(" a.example:5000, 10.0.0.1,,"), ["a.example:5000", "10.0.0.1"]);
        assert!(listed("").is_empty());
    }
}
