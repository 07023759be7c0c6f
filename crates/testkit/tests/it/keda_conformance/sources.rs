//! The small HTTP server that the scenarios' `metrics-api` triggers ask.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The server. Dropping it closes its port.
pub(super) struct Sources {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Sources {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        Ok(Self { address, server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers one request; the connection ends with it.
async fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 16 << 10 {
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path.split('?').next().unwrap_or_default() {
        "/json" => (
            "200 OK",
            r#"{"depth":17,"text":"17.5","quantity":"2k","word":"many","a.b":9,"queues":[{"name":"a","depth":3},{"name":"b","depth":12}]}"#,
        ),
        "/metrics" => ("200 OK", "# TYPE queue_depth gauge\nqueue_depth{name=\"a\"} 3\nqueue_depth{name=\"b\"} 12\n"),
        "/yaml" => ("200 OK", "depth: 17\n"),
        "/xml" => ("200 OK", "<root><depth>17</depth></root>"),
        _ => ("404 Not Found", "not here"),
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
