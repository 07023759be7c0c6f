//! Where the server is, and who we are to it.

use std::fmt::Debug;
use std::hash::Hash;

use redis::cluster::ClusterClientBuilder;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, TlsCertificates, TlsMode,
};

use super::connection::Server;
use crate::auth::tls::{Certificates, LockedCertificates, Switch};
use crate::error::BuildError;
use crate::metadata::{Secret, TriggerMetadata};

/// Settings that say where the server is.
pub(crate) trait Place: TriggerMetadata + Debug + Hash + Send + Sync + 'static {
    /// A server that is not connected to yet.
    fn server(&self, login: &Login) -> Result<Server, BuildError>;
}

#[derive(Debug, Hash, TriggerMetadata)]
#[trigger(some_of("address", "host"), exclusive("address", "host"))]
pub(crate) struct One {
    /// The server, `host:port`.
    #[param(from(auth, metadata, env))]
    address: Option<String>,
    /// The server's host, with `port`.
    #[param(from(auth, metadata, env))]
    host: Option<String>,
    /// The server's port.
    #[param(from(auth, metadata, env))]
    port: Option<String>,
}

#[derive(Debug, Hash, TriggerMetadata)]
#[trigger(some_of("addresses", "hosts"), exclusive("addresses", "hosts"))]
pub(crate) struct Several {
    /// The servers, each `host:port`.
    #[param(from(auth, metadata, env))]
    addresses: Vec<String>,
    /// The servers' hosts, with as many `ports`.
    #[param(from(auth, metadata, env))]
    hosts: Vec<String>,
    /// The servers' ports.
    #[param(from(auth, metadata, env))]
    ports: Vec<String>,
}

#[derive(Debug, Hash, TriggerMetadata)]
pub(crate) struct Sentinels {
    #[param(nested)]
    nodes: Several,
    /// The name under which the sentinels know the master.
    #[param(from(auth, metadata, env), required)]
    sentinel_master: String,
    /// User name at the sentinels.
    #[param(from(auth, metadata, env))]
    sentinel_username: Option<String>,
    /// Password at the sentinels.
    #[param(from(auth, env))]
    sentinel_password: Option<Secret>,
}

#[derive(Debug, Hash, TriggerMetadata)]
#[trigger(exclusive("enableTLS", "tls"))]
pub(crate) struct Login {
    /// Number of the database. A cluster has only 0.
    #[param(default = "0", at_least = "0")]
    database_index: i64,
    /// User name.
    #[param(from(auth, metadata, env))]
    username: Option<String>,
    /// Password.
    #[param(from(auth, env))]
    password: Option<Secret>,
    /// Connect with TLS, trusting well-known authorities.
    #[param(name = "enableTLS", default = "false")]
    enable_tls: bool,
    /// Connect with TLS and the certificates below.
    #[param(from(auth))]
    tls: Option<Switch>,
    /// Do not verify the server's certificate.
    #[param(default = "false")]
    unsafe_ssl: bool,
    #[param(nested)]
    certificates: LockedCertificates,
}

impl Login {
    fn secure(&self) -> bool {
        self.enable_tls || self.tls == Some(Switch::Enable)
    }

    fn mode(&self) -> TlsMode {
        if self.unsafe_ssl { TlsMode::Insecure } else { TlsMode::Secure }
    }

    fn certificates(&self) -> Result<TlsCertificates, BuildError> {
        let bytes = |secret: &Secret| secret.reveal().as_bytes().to_vec();
        let Certificates { ca, cert, key } = &self.certificates.open()?;
        let pair = cert.as_ref().zip(key.as_ref());
        Ok(TlsCertificates {
            client_tls: pair.map(|(cert, key)| ClientTlsConfig { client_cert: bytes(cert), client_key: bytes(key) }),
            root_cert: ca.as_ref().map(bytes),
        })
    }

    fn settings(&self) -> RedisConnectionInfo {
        let mut settings = RedisConnectionInfo::default().set_db(self.database_index);
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.reveal());
        }
        settings
    }

    fn address(&self, (host, port): (String, u16)) -> ConnectionAddr {
        if self.secure() {
            ConnectionAddr::TcpTls { host, port, insecure: self.unsafe_ssl, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }
}

impl Place for One {
    fn server(&self, login: &Login) -> Result<Server, BuildError> {
        let node = match (&self.address, &self.host, &self.port) {
            (Some(address), _, _) => node("address", address)?,
            (None, Some(host), Some(port)) => node("port", &format!("{host}:{port}"))?,
            _ => return Err(BuildError::new("port", "is required with host")),
        };
        let info = login.address(node).into_connection_info().map_err(|error| wrong("address", &error))?;
        let info = info.set_redis_settings(login.settings());
        let client = if login.secure() {
            provider();
            redis::Client::build_with_tls(info, login.certificates()?)
        } else {
            redis::Client::open(info)
        };
        client.map(Server::one).map_err(|error| wrong("address", &error))
    }
}

impl Several {
    fn nodes(&self) -> Result<Vec<(String, u16)>, BuildError> {
        if !self.addresses.is_empty() {
            return self.addresses.iter().map(|address| node("addresses", address)).collect();
        }
        if self.hosts.len() != self.ports.len() {
            return Err(BuildError::new("ports", "must be as many as hosts"));
        }
        let pairs = self.hosts.iter().zip(&self.ports);
        pairs.map(|(host, port)| node("ports", &format!("{host}:{port}"))).collect()
    }
}

impl Place for Several {
    fn server(&self, login: &Login) -> Result<Server, BuildError> {
        if login.database_index != 0 {
            return Err(BuildError::new("databaseIndex", "must be 0: a cluster has no other database"));
        }
        let nodes = self.nodes()?.into_iter().map(|node| login.address(node));
        let mut builder = ClusterClientBuilder::new(nodes);
        if let Some(username) = &login.username {
            builder = builder.username(username);
        }
        if let Some(password) = &login.password {
            builder = builder.password(password.reveal());
        }
        if login.secure() {
            provider();
            builder = builder.tls(login.mode()).certs(login.certificates()?);
        }
        builder.build().map(Server::cluster).map_err(|error| wrong("addresses", &error))
    }
}

impl Place for Sentinels {
    fn server(&self, login: &Login) -> Result<Server, BuildError> {
        let nodes: Vec<_> = self.nodes.nodes()?.into_iter().map(|node| login.address(node)).collect();
        let certificates = login.certificates()?;
        let build = || -> Result<_, RedisError> {
            let mut builder = SentinelClientBuilder::new(nodes, &self.sentinel_master, SentinelServerType::Master)?
                .set_client_to_redis_db(login.database_index);
            if let Some(username) = &login.username {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = &login.password {
                builder = builder.set_client_to_redis_password(password.reveal());
            }
            if let Some(username) = &self.sentinel_username {
                builder = builder.set_client_to_sentinel_username(username);
            }
            if let Some(password) = &self.sentinel_password {
                builder = builder.set_client_to_sentinel_password(password.reveal());
            }
            if login.secure() {
                provider();
                builder = builder
                    .set_client_to_redis_tls_mode(login.mode())
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_tls_mode(login.mode())
                    .set_client_to_sentinel_certificates(certificates);
            }
            builder.build()
        };
        build().map(Server::sentinels).map_err(|error| wrong("addresses", &error))
    }
}

/// The client asks rustls for the process-wide provider. It may be there already, and is this one then.
fn provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// `host:port`, `[::1]:port`.
fn node(field: &str, text: &str) -> Result<(String, u16), BuildError> {
    let wrong = || BuildError::new(field, format!("{text:?} is not HOST:PORT"));
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match port.trim().parse() {
        Ok(port) if !host.is_empty() && port != 0 => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

fn wrong(field: &str, error: &RedisError) -> BuildError {
    BuildError::new(field, format!("cannot be used: {error}"))
}
