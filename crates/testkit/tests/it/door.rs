//! A server of numbers that asks who wants to know, and gives out secrets as HashiCorp Vault does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const VAULT_TOKEN: &str = "hvs.of-the-door";

/// Who may read a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Guest {
    /// Somebody who knows this user's password.
    User(&'static str, &'static str),
    /// A ServiceAccount with a token of its own: `NAMESPACE:NAME`.
    Account(&'static str),
}

#[derive(Clone, Debug)]
struct Room {
    guest: Guest,
    number: u32,
}

#[derive(Default)]
struct State {
    rooms: BTreeMap<String, Room>,
    /// Keys of Vault's secret `secret/data/door`, given to the ServiceAccount.
    vault: Option<(&'static str, Value)>,
}

/// The server. Dropping it closes its port.
pub(crate) struct Door {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Door {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state: Arc<Mutex<State>> = Arc::default();
        let served = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tokio::time::timeout(REQUEST_LIMIT, answer(stream, Arc::clone(&served))));
            }
        });
        Ok(Self { address, state, server })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on this number is behind `/NAME`, for this guest.
    pub(crate) fn set(&self, name: &str, guest: Guest, number: u32) {
        self.change(|state| {
            state.rooms.insert(name.to_owned(), Room { guest, number });
        });
    }

    /// From now on Vault gives these keys to a ServiceAccount.
    pub(crate) fn set_vault(&self, account: &'static str, keys: Value) {
        self.change(|state| state.vault = Some((account, keys)));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut request = Vec::new();
    // Head and body come in one or two pieces; a body is small and ends with its bracket.
    while !complete(&request) {
        let mut piece = [0_u8; 4_096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&piece[..n]),
        }
    }
    let (status, body) = respond(&String::from_utf8_lossy(&request), &state);
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    body.len() >= length
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
}

fn respond(request: &str, state: &Mutex<State>) -> (&'static str, String) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap_or_default();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let forbidden = ("403 Forbidden", json!({"errors": ["permission denied"]}).to_string());
    match path {
        "/v1/auth/kubernetes/login" => {
            let login: Value = serde_json::from_str(body).unwrap_or_default();
            let shown = login["jwt"].as_str().and_then(subject);
            let wanted = state.vault.as_ref().map(|(account, _)| format!("system:serviceaccount:{account}"));
            if shown.is_none() || shown != wanted || login["role"] != "keda" {
                return forbidden;
            }
            ("200 OK", json!({"auth": {"client_token": VAULT_TOKEN, "lease_duration": 3_600}}).to_string())
        }
        "/v1/secret/data/door" => match &state.vault {
            Some((_, keys)) if header(head, "x-vault-token") == Some(VAULT_TOKEN) => {
                ("200 OK", json!({"data": {"data": keys, "metadata": {"version": 1}}}).to_string())
            }
            _ => forbidden,
        },
        _ => match state.rooms.get(path.trim_start_matches('/')) {
            None => ("404 Not Found", String::new()),
            Some(room) if may_enter(&room.guest, header(head, "authorization").unwrap_or_default()) => {
                ("200 OK", json!({"number": room.number}).to_string())
            }
            Some(_) => ("401 Unauthorized", "who are you?".to_owned()),
        },
    }
}

fn may_enter(guest: &Guest, authorization: &str) -> bool {
    match guest {
        Guest::User(name, password) => {
            authorization == format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
        }
        Guest::Account(account) => {
            let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
            subject(token) == Some(format!("system:serviceaccount:{account}"))
        }
    }
}

/// Whom a token of Kubernetes is of. A Vault would let the API server judge it.
fn subject(token: &str) -> Option<String> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Some(claims["sub"].as_str()?.to_owned())
}
