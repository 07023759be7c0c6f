//! The six Redis types against real servers: one, a cluster of one node, and a sentinel with its master.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, cmd};
use testkit::eventually::{eventually, when};
use testkit::ports;

use crate::support::{Server, build, build_in, installed, program, read, read_all};

const PATIENCE: Duration = Duration::from_mins(2);

/// `None`: there is no Redis here, which has been said.
async fn start(arguments: &[&str]) -> Option<Server> {
    let program = installed("redis-server", "redis-server")?;
    let server = Server::start(&program, |folder: &Path, port| {
        let mut all = vec![format!("--port {port}"), format!("--dir {}", folder.display())];
        all.extend(["--save \"\"", "--bind 127.0.0.1"].map(str::to_owned));
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all.iter().flat_map(|pair| pair.splitn(2, ' ')).map(|word| word.trim_matches('"').to_owned()).collect()
    })
    .await
    .unwrap();
    Some(server)
}

async fn connection(server: &Server, password: &str) -> MultiplexedConnection {
    let url = format!("redis://:{password}@{}", server.address());
    let url = if password.is_empty() { format!("redis://{}", server.address()) } else { url };
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn command(text: &str) -> Cmd {
    let mut words = text.split(' ');
    let mut command = cmd(words.next().unwrap_or_default());
    command.arg(words.collect::<Vec<_>>());
    command
}

async fn run<T: FromRedisValue>(connection: &mut MultiplexedConnection, text: &str) -> T {
    command(text).query_async(connection).await.unwrap_or_else(|error| panic!("{text}: {error}"))
}

async fn all(connection: &mut MultiplexedConnection, commands: &[&str]) {
    for text in commands {
        run::<redis::Value>(connection, text).await;
    }
}

#[tokio::test]
async fn whatever_has_a_length_is_counted() {
    let Some(server) = start(&["--requirepass hunter2"]).await else { return };
    let mut admin = connection(&server, "hunter2").await;
    all(&mut admin, &["RPUSH list a b c", "SADD set a b", "ZADD zset 1 a", "HSET hash a 1 b 2", "SET text 5"]).await;
    all(&mut admin, &["SELECT 3", "RPUSH list a"]).await;
    let address = server.address();
    let scaler = |list: &str, more: &[(&str, &str)], password: &str| {
        let metadata = [("address", address.as_str()), ("listName", list)];
        build("redis", &[&metadata[..], more].concat(), &[("password", password)])
    };
    for (list, length) in [("list", 3), ("set", 2), ("zset", 1), ("hash", 2), ("none", 0)] {
        assert_eq!(read(&scaler(list, &[], "hunter2")).await, Ok((length * 1_000, length > 0)), "{list}");
    }
    assert_eq!(read(&scaler("list", &[("activationListLength", "3")], "hunter2")).await, Ok((3_000, false)));
    assert_eq!(read(&scaler("list", &[("databaseIndex", "3")], "hunter2")).await, Ok((1_000, true)));
    assert!(read(&scaler("text", &[], "hunter2")).await.unwrap_err().contains("is a string"));
    let refused = read(&scaler("list", &[], "wrong")).await.unwrap_err();
    assert!(refused.contains("refuses us") && !refused.contains("hunter2"), "{refused}");
}

#[tokio::test]
async fn a_connection_that_broke_is_made_again() {
    let Some(server) = start(&[]).await else { return };
    let mut admin = connection(&server, "").await;
    all(&mut admin, &["RPUSH list a"]).await;
    let scaler = build("redis", &[("address", &server.address()), ("listName", "list")], &[]);
    assert_eq!(read(&scaler).await, Ok((1_000, true)));
    all(&mut admin, &["CLIENT KILL TYPE normal SKIPME yes"]).await;
    let _ = eventually("the scaler to connect again", PATIENCE, || {
        let scaler = Arc::clone(&scaler);
        async move {
            let read = read(&scaler).await;
            Ok(when(read == Ok((1_000, true)), read))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_stream_has_a_length_pending_entries_and_a_lag() {
    let Some(server) = start(&[]).await else { return };
    let mut admin = connection(&server, "").await;
    let address = server.address();
    let scaler = |stream: &str, more: &[(&str, &str)]| {
        let metadata = [("address", address.as_str()), ("stream", stream)];
        build("redis-streams", &[&metadata[..], more].concat(), &[])
    };
    let lag = [("consumerGroup", "g"), ("lagCount", "2")];
    assert_eq!(read(&scaler("s", &lag)).await, Ok((0, false)), "a stream that is not there");
    all(&mut admin, &["XADD s * a 1", "XADD s * a 2", "XADD s * a 3"]).await;
    assert_eq!(read(&scaler("s", &[])).await, Ok((3_000, true)));
    assert_eq!(read(&scaler("s", &lag)).await, Ok((3_000, true)), "a group that is not there");
    assert!(read(&scaler("s", &lag[..1])).await.unwrap_err().contains("NOGROUP"));
    all(&mut admin, &["XGROUP CREATE s g 0", "XREADGROUP GROUP g c COUNT 2 STREAMS s >"]).await;
    assert_eq!(read(&scaler("s", &lag)).await, Ok((1_000, true)));
    assert_eq!(read(&scaler("s", &lag[..1])).await, Ok((2_000, true)));
    all(&mut admin, &["SET text 5"]).await;
    assert!(read(&scaler("text", &[])).await.unwrap_err().contains("WRONGTYPE"));
}

#[tokio::test]
async fn a_cluster_is_asked_where_the_key_lives() {
    // Redis' own choice, 10,000 above its port, is among those that kernels take for outgoing connections.
    let bus = format!("--cluster-port {}", ports::free().unwrap());
    let Some(server) = start(&["--cluster-enabled yes", &bus]).await else { return };
    let mut admin = connection(&server, "").await;
    all(&mut admin, &["CLUSTER ADDSLOTSRANGE 0 16383"]).await;
    eventually("the cluster to be whole", PATIENCE, || {
        let mut admin = admin.clone();
        async move {
            let info: String = run(&mut admin, "CLUSTER INFO").await;
            Ok(when(info.contains("cluster_state:ok"), info))
        }
    })
    .await
    .unwrap();
    all(&mut admin, &["RPUSH list a b", "XADD s * a 1"]).await;
    let address = server.address();
    let lists = build("redis-cluster", &[("addresses", &address), ("listName", "list")], &[]);
    assert_eq!(read(&lists).await, Ok((2_000, true)));
    let port = server.port().to_string();
    let metadata = [("hosts", "127.0.0.1"), ("ports", port.as_str()), ("stream", "s")];
    assert_eq!(read(&build("redis-cluster-streams", &metadata, &[])).await, Ok((1_000, true)));
}

#[tokio::test]
async fn a_sentinel_says_where_the_master_is() {
    let Some(master) = start(&["--requirepass hunter2"]).await else { return };
    let mut admin = connection(&master, "hunter2").await;
    all(&mut admin, &["RPUSH list a b", "XADD s * a 1"]).await;
    let Some(program) = installed("redis-server", "redis-server") else { return };
    let port = master.port();
    let sentinel = Server::start(&program, |folder: &Path, own| {
        let config = folder.join("sentinel.conf");
        let text = format!(
            "port {own}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {port} 1\nsentinel auth-pass mymaster hunter2\n"
        );
        std::fs::write(&config, text).unwrap();
        vec![config.display().to_string(), "--sentinel".into()]
    })
    .await
    .unwrap();
    let address = sentinel.address();
    let place = [("addresses", address.as_str()), ("sentinelMaster", "mymaster")];
    let auth = [("password", "hunter2")];
    let lists = build("redis-sentinel", &[&place[..], &[("listName", "list")]].concat(), &auth);
    let streams = build("redis-sentinel-streams", &[&place[..], &[("stream", "s")]].concat(), &auth);
    // The sentinel first has to look at the master itself.
    for (scaler, wanted) in [(lists, 2_000), (streams, 1_000)] {
        let _ = eventually("the sentinel to know the master", PATIENCE, || {
            let scaler = Arc::clone(&scaler);
            async move {
                let read = read(&scaler).await;
                Ok(when(read == Ok((wanted, true)), read))
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn fifty_triggers_share_one_connection_per_login_and_find_it_again_after_a_restart() {
    let Some(mut server) = start(&[]).await else { return };
    let (http, address) = (program(), server.address());
    let scalers: Vec<_> = (0..50)
        .map(|n| {
            let (list, database) = (format!("list{n}"), (n % 2).to_string());
            let metadata = [("address", address.as_str()), ("listName", &list), ("databaseIndex", &database)];
            build_in(&http, "redis", &metadata, &[])
        })
        .collect();
    for _ in 0..2 {
        let mut admin = connection(&server, "").await;
        all(&mut admin, &["SELECT 1", "RPUSH list1 a b", "SELECT 0", "RPUSH list2 a"]).await;
        let answers = read_all(&scalers).await;
        assert_eq!(answers[..4], [Ok((0, false)), Ok((2_000, true)), Ok((1_000, true)), Ok((0, false))]);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let _ = eventually("two connections and that of this test", PATIENCE, || {
            let mut admin = admin.clone();
            async move {
                let clients: String = run(&mut admin, "CLIENT LIST TYPE normal").await;
                Ok(when(clients.lines().count() == 3, clients))
            }
        })
        .await
        .unwrap();
        server.restart().await.unwrap();
    }
}
