//! `port SANDBOX [PORT]`

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use clap::Args;
use msb::sandbox::{Port as Published, Protocol, keep};

use crate::{
    Scope,
    format::{self, Format},
};

/// Show at which ports of this machine a sandbox is reached.
#[derive(Debug, Args)]
pub struct Port {
    /// How; as JSON, as `inspect` has them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Which sandbox.
    sandbox: String,
    /// One of its ports, with /udp for UDP; otherwise all that are published.
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<Published>,
}

impl Port {
    /// Prints a line for each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let key = scope.key(&self.sandbox)?;
        let mut all = scope.sandboxes.info(&key)?.request.ports;
        if let Some(wanted) = &self.port {
            all.retain(|port| inner(port) == inner(wanted));
            if all.is_empty() {
                anyhow::bail!("Sandbox {key} has not published its port {}", inner(wanted));
            }
        }
        let usual = keep::usual_address()?;
        match self.format {
            Format::Json => {
                for port in &mut all {
                    port.address.get_or_insert(usual);
                }
                format::json(&all)?;
            }
            Format::Table => all.iter().for_each(|port| match self.port {
                None => println!("{} -> {}", inner(port), outer(port, usual)),
                Some(_) => println!("{}", outer(port, usual)),
            }),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn inner(port: &Published) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.guest)
}

fn outer(port: &Published, usual: IpAddr) -> String {
    SocketAddr::new(port.address.unwrap_or(usual), port.host).to_string()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn both_ends_as_docker_prints_them() {
        let both = |text: &str| {
            let port = text.parse().unwrap();
            (inner(&port), outer(&port, Ipv4Addr::LOCALHOST.into()))
        };
        assert_eq!(both("8080:80"), ("80/tcp".into(), "127.0.0.1:8080".into()));
        assert_eq!(both("[::1]:53:53/udp"), ("53/udp".into(), "[::1]:53".into()));
    }
}
