//! One registry, for one image: OCI distribution-spec, "Pull".
//!
//! In: a name. Out: bytes, as much as was allowed. The library knows tokens and blobs; manifests are asked for here, because
//! it reads them to their end whatever their size.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use reqwest::header::ACCEPT;
use reqwest::{NoProxy, Proxy, StatusCode};

use super::Registries;
use super::error::{PullError, shortened};
use super::proxy::{Proxies, is_loopback};
use crate::image::digest::Digest;
use crate::image::store;

/// Manifests that are understood: OCI's and Docker's, of one image and of several.
const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(60);

/// Parts of a blob as they come.
pub(super) type Parts = BoxStream<'static, Result<bytes::Bytes, std::io::Error>>;

/// A registry, asked for one repository.
pub(super) struct Registry {
    client: Client,
    http: reqwest::Client,
    auth: RegistryAuth,
    reference: Reference,
    /// As users call it.
    name: String,
    scheme: &'static str,
}

impl Registry {
    /// The one of `reference`.
    pub(super) fn of(reference: &Reference, registries: &Registries) -> Result<Self, PullError> {
        // A second one in a process is refused, and is the same.
        let _there = rustls::crypto::ring::default_provider().install_default();
        let name = reference.registry().to_owned();
        let plain = is_loopback(&name) || registries.insecure.contains(&name);
        let (protocol, scheme) =
            if plain { (ClientProtocol::Http, "http") } else { (ClientProtocol::Https, "https") };
        let proxies = registries.proxies.towards(&name)?;
        let auth = match registries.credentials(&name)? {
            Some(known) => RegistryAuth::Basic(known.user, known.password),
            None => RegistryAuth::Anonymous,
        };
        let mut config = ClientConfig {
            protocol,
            read_timeout: Some(SILENCE),
            connect_timeout: Some(CONNECT),
            user_agent: concat!("msb/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .user_agent(config.user_agent)
            .no_proxy();
        for proxy in explicit(&proxies).map_err(PullError::Client)? {
            http = http.proxy(proxy);
        }
        if proxies == Proxies::default() {
            // The library would take the environment's. This one is never used: nothing is reached through it.
            config.http_proxy = Some("http://127.0.0.1:9".into());
            config.https_proxy.clone_from(&config.http_proxy);
            config.no_proxy = Some("*,0.0.0.0/0,::/0".into());
        } else {
            (config.https_proxy, config.http_proxy, config.no_proxy) =
                (proxies.https, proxies.http, proxies.none);
        }
        let http = http.build().map_err(PullError::Client)?;
        let library = |error| PullError::library(&name, reference.repository(), error);
        let client = Client::try_from(config).map_err(library)?;
        Ok(Self { client, http, auth, reference: reference.clone(), name, scheme })
    }

    /// Whether it takes who asks: OCI distribution-spec, "Determining Support".
    pub(super) async fn greet(&self) -> Result<(), PullError> {
        let refused = || PullError::Login { registry: self.name.clone() };
        let token = match self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await {
            Err(error) => match self.library(error) {
                PullError::Unauthorized { .. } | PullError::Refused { status: 401 | 403, .. } => {
                    return Err(refused());
                }
                other => return Err(other),
            },
            Ok(token) => token,
        };
        let request = self.http.get(format!("{}://{}/v2/", self.scheme, self.reference.resolve_registry()));
        let answer = self.shown_to(request, token.as_deref()).send().await;
        let answer = answer.map_err(|error| PullError::request(&self.name, error))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused()),
            other => Err(self.protocol(format!("asked who somebody is, it says {}", other.as_u16()))),
        }
    }

    /// With what shows who asks.
    fn shown_to(&self, request: reqwest::RequestBuilder, token: Option<&str>) -> reqwest::RequestBuilder {
        match (token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            (None, _) => request,
        }
    }

    /// The manifest, or index of manifests, that `which` (a tag or a digest) is, and its digest.
    pub(super) async fn manifest(&self, which: &str) -> Result<(Vec<u8>, Digest), PullError> {
        let token = self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await;
        let token = token.map_err(|error| self.library(error))?;
        let host = self.reference.resolve_registry();
        let url = format!("{}://{host}/v2/{}/manifests/{which}", self.scheme, self.reference.repository());
        let request = self.http.get(url).header(ACCEPT, ACCEPTED.join(", "));
        let answer = self
            .shown_to(request, token.as_deref())
            .send()
            .await
            .map_err(|error| PullError::request(&self.name, error))?;
        let status = answer.status();
        let mut parts = answer.bytes_stream();
        let mut body = Vec::new();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(|error| PullError::request(&self.name, error))?);
            if body.len() as u64 > store::MANIFEST {
                return Err(self.protocol(format!("its manifest has more than {} bytes", store::MANIFEST)));
            }
        }
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(PullError::NotFound { reference: self.shown(which) }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.unauthorized()),
            other => {
                let message = shortened(&String::from_utf8_lossy(&body));
                return Err(PullError::Refused {
                    registry: self.name.clone(),
                    status: other.as_u16(),
                    message,
                });
            }
        }
        let digest = Digest::of(&body);
        if which.contains(':') && which != digest.to_string() {
            return Err(self.protocol(format!("asked for {which}, it sends {digest}")));
        }
        Ok((body, digest))
    }

    /// A blob from `offset` on, and whether it is: some begin anew each time.
    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<(Parts, bool), PullError> {
        self.client.store_auth_if_needed(self.reference.resolve_registry(), &self.auth).await;
        let descriptor = OciDescriptor { digest: digest.to_string(), ..OciDescriptor::default() };
        if offset == 0 {
            let whole = self.client.pull_blob_stream(&self.reference, &descriptor).await;
            return Ok((whole.map_err(|error| self.library(error))?.stream, false));
        }
        let rest = self.client.pull_blob_stream_partial(&self.reference, &descriptor, offset, None).await;
        match rest.map_err(|error| self.library(error))? {
            BlobResponse::Full(whole) => Ok((whole.stream, false)),
            BlobResponse::Partial(rest) => Ok((rest.stream, true)),
        }
    }

    pub(super) fn broken(&self, source: std::io::Error) -> PullError {
        PullError::Broken { registry: self.name.clone(), source }
    }

    pub(super) fn protocol(&self, what: String) -> PullError {
        PullError::Protocol { registry: self.name.clone(), what }
    }

    fn unauthorized(&self) -> PullError {
        PullError::Unauthorized {
            registry: self.name.clone(),
            repository: self.reference.repository().into(),
        }
    }

    fn library(&self, error: oci_client::errors::OciDistributionError) -> PullError {
        PullError::library(&self.name, self.reference.repository(), error)
    }

    fn shown(&self, which: &str) -> String {
        let separator = if which.contains(':') { '@' } else { ':' };
        format!("{}/{}{separator}{which}", self.name, self.reference.repository())
    }
}

fn explicit(proxies: &Proxies) -> Result<Vec<Proxy>, reqwest::Error> {
    let none = || proxies.none.as_deref().and_then(NoProxy::from_string);
    let https = proxies.https.as_ref().map(Proxy::https);
    let http = proxies.http.as_ref().map(Proxy::http);
    https.into_iter().chain(http).map(|proxy| Ok(proxy?.no_proxy(none()))).collect()
}
