//! Connections for protocols that are not HTTP.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::ScalerError;

/// Both directions of a connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// A connection, encrypted or not.
pub(crate) type Wire = Box<dyn Duplex>;

/// Where a server listens, and whether it wants TLS.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// The setting it comes from, for errors.
    pub(crate) setting: &'static str,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Address {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or it is not who it should be.
    pub(crate) async fn connect(&self) -> io::Result<Wire> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?))
    }

    /// Says that the server at this address cannot be had.
    pub(crate) fn unavailable(&self, error: &dyn std::fmt::Display) -> ScalerError {
        ScalerError::Unavailable(format!("{} {}:{}: {error}", self.setting, self.host, self.port).into())
    }
}

/// Reads `HOST:PORT` or `[::1]:PORT`, or `HOST` if there is a usual port.
pub(crate) fn host_port(text: &str, usual: Option<u16>) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not HOST:PORT");
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let alone = !text.contains(':') || text.ends_with(']');
    let (host, port) = match (alone, usual) {
        (true, Some(port)) => (bare(text), Some(port)),
        (true, None) => return Err(wrong()),
        (false, _) => {
            let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
            (bare(host), port.trim().parse().ok())
        }
    };
    match port {
        Some(port) if port != 0 && !host.is_empty() && !host.contains(char::is_whitespace) => Ok((host, port)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        let ok = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(host_port("kafka:9092", None), ok("kafka", 9092));
        assert_eq!(host_port("[::1]:9092", None), ok("::1", 9092));
        assert_eq!(host_port("db", Some(3306)), ok("db", 3306));
        assert_eq!(host_port("[::1]", Some(3306)), ok("::1", 3306));
        for bad in ["", "db", ":1", "db:", "db:0", "db:70000", "a b:1"] {
            assert!(host_port(bad, None).is_err(), "{bad}");
        }
    }
}
