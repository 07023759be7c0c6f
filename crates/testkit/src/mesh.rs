//! A stand-in for a service mesh: an exporter of `istio_requests_total` whose rates a test sets.
//!
//! The counters grow with time at the set rate, so that `rate()` and `increase()` of the real Prometheus see what they
//! would see of proxies that count requests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A scrape that sends nothing for so long is dropped.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// One stream of requests through the mesh. The fields are Istio's labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traffic {
    pub reporter: String,
    pub source_workload: String,
    pub destination_workload: String,
    pub destination_app: String,
    pub destination_service: String,
    pub destination_namespace: String,
    pub response_code: u16,
}

impl Traffic {
    /// Requests from the ingress gateway to `workload`, as the workload's own proxy counts them.
    pub fn to(namespace: &str, workload: &str) -> Self {
        Self {
            reporter: "destination".into(),
            source_workload: "istio-ingressgateway".into(),
            destination_workload: workload.into(),
            destination_app: workload.into(),
            destination_service: format!("{workload}.{namespace}.svc.cluster.local"),
            destination_namespace: namespace.into(),
            response_code: 200,
        }
    }

    #[must_use]
    pub fn with_code(mut self, code: u16) -> Self {
        self.response_code = code;
        self
    }

    fn labels(&self) -> String {
        let Self { reporter, source_workload, destination_workload, destination_app, .. } = self;
        let Self { destination_service, destination_namespace, response_code, .. } = self;
        format!(
            "reporter=\"{reporter}\",source_workload=\"{source_workload}\",\
             destination_workload=\"{destination_workload}\",destination_app=\"{destination_app}\",\
             destination_service=\"{destination_service}\",\
             destination_workload_namespace=\"{destination_namespace}\",\
             request_protocol=\"http\",response_code=\"{response_code}\""
        )
    }
}

#[derive(Debug)]
struct Counter {
    total: f64,
    per_second: f64,
    since: Instant,
}

impl Counter {
    fn advance(&mut self, now: Instant) {
        self.total += self.per_second * now.duration_since(self.since).as_secs_f64();
        self.since = now;
    }
}

type Counters = Arc<Mutex<BTreeMap<Traffic, Counter>>>;

/// The exporter. Dropping it closes its port.
#[derive(Debug)]
pub struct Mesh {
    address: SocketAddr,
    counters: Counters,
    server: JoinHandle<()>,
}

impl Mesh {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", crate::ports::free()?)).await?;
        let address = listener.local_addr()?;
        let counters = Counters::default();
        let served = Arc::clone(&counters);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counters = Arc::clone(&served);
                tokio::spawn(tokio::time::timeout(REQUEST_LIMIT, answer(stream, counters)));
            }
        });
        Ok(Self { address, counters, server })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on so many requests per second; the counter keeps what it has.
    pub fn set_rate(&self, traffic: &Traffic, per_second: f64) {
        let now = Instant::now();
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = counters.entry(traffic.clone()).or_insert(Counter { total: 0.0, per_second: 0.0, since: now });
        counter.advance(now);
        counter.per_second = per_second;
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut stream: TcpStream, counters: Counters) {
    let mut request = [0_u8; 4096];
    if stream.read(&mut request).await.is_err() {
        return;
    }
    let body = exposition(&counters);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn exposition(counters: &Counters) -> String {
    let now = Instant::now();
    let mut text = String::from("# TYPE istio_requests_total counter\n");
    let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
    for (traffic, counter) in counters.iter_mut() {
        counter.advance(now);
        let _ = writeln!(text, "istio_requests_total{{{}}} {}", traffic.labels(), counter.total.floor());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_counter_grows_at_its_rate_and_never_shrinks() {
        let mesh = Mesh::start().await.unwrap();
        let traffic = Traffic::to("default", "nginx");
        mesh.set_rate(&traffic, 1000.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
        mesh.set_rate(&traffic, 0.0);
        let read = || async {
            let text = reqwest::get(format!("http://{}/metrics", mesh.address())).await.unwrap().text().await.unwrap();
            text.lines().last().unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let first = read().await;
        assert!(first >= 50, "{first}");
        assert_eq!(first, read().await);
    }
}
