//! Why a registry did not give an image.

use std::io;
use std::path::PathBuf;

use oci_client::errors::OciDistributionError;

/// No image from a registry.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Nobody answers.
    #[error(
        "The registry {registry} can't be reached: check the network, and HTTPS_PROXY and NO_PROXY if there is a proxy"
    )]
    Unreachable {
        /// Its name.
        registry: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not for everybody.
    #[error(
        "The registry {registry} gives {repository} to nobody who has not logged in, or has it not: try `msb login {registry}`"
    )]
    Unauthorized {
        /// Its name.
        registry: String,
        /// What was asked for.
        repository: String,
    },
    /// It has no such image.
    #[error("The registry has no image {reference}: check its name and tag")]
    NotFound {
        /// The name.
        reference: String,
    },
    /// An answer that is an error.
    #[error("The registry {registry} says {status}: {message}")]
    Refused {
        /// Its name.
        registry: String,
        /// Of HTTP.
        status: u16,
        /// Its words, the beginning of them.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("The registry {registry} does not keep to the protocol: {what}")]
    Protocol {
        /// Its name.
        registry: String,
        /// What is wrong.
        what: String,
    },
    /// What comes is not what was asked for, or comes to no end.
    #[error("What the registry {registry} sends is broken, after several attempts")]
    Broken {
        /// Its name.
        registry: String,
        /// The last cause.
        #[source]
        source: io::Error,
    },
    /// Docker's configuration.
    #[error("{} can't be read: it should be as `docker login` writes it", path.display())]
    DockerConfig {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A name and a password that it does not take.
    #[error("The registry {registry} does not take this name and password")]
    Login {
        /// Its name.
        registry: String,
    },
    /// Passwords are somebody else's to keep.
    #[error("{} leaves passwords to a program of this system: use `docker login` and `docker logout`, which ask it", path.display())]
    Kept {
        /// Docker's configuration.
        path: PathBuf,
    },
    /// A full disk.
    #[error("{} can't be written", path.display())]
    Written {
        /// Docker's configuration.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Nobody's home.
    #[error("There is no place for passwords: set HOME or DOCKER_CONFIG")]
    NoConfig,
    /// A program that keeps passwords.
    #[error("The program {program}, which Docker's configuration names for passwords, failed: {message}")]
    Helper {
        /// Its name.
        program: String,
        /// Its words.
        message: String,
    },
    /// A proxy's address.
    #[error("{variable} holds no address of a proxy: give one such as http://proxy.example:3128")]
    Proxy {
        /// The environment's variable.
        variable: &'static str,
    },
    /// No client can be made.
    #[error(
        "No connection can be prepared: check that this machine has certificates (Debian's package ca-certificates)"
    )]
    Client(#[source] reqwest::Error),
}

impl PullError {
    /// Whether another attempt may do better.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// Of a request that got no answer.
    pub(super) fn request(registry: &str, source: reqwest::Error) -> Self {
        Self::Unreachable { registry: registry.into(), source: Box::new(source.without_url()) }
    }

    /// What the client's library says, about a part of `reference`.
    pub(super) fn library(registry: &str, repository: &str, error: OciDistributionError) -> Self {
        let registry = registry.to_owned();
        match error {
            OciDistributionError::RequestError(source) => Self::request(&registry, source),
            OciDistributionError::IoError(source) => Self::Broken { registry, source },
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => {
                Self::Unauthorized { registry, repository: repository.into() }
            }
            OciDistributionError::ServerError { code, message, .. } => {
                Self::Refused { registry, status: code, message: shortened(&message) }
            }
            other => Self::Protocol { registry, what: shortened(&other.to_string()) },
        }
    }
}

/// What others say, in one line that a terminal can be given.
pub(super) fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
