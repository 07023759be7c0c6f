//! `postgresql` against the real server.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use testkit::eventually::{Seen, eventually, when};
use testkit::pki::Authority;
use tokio::sync::Mutex;

use crate::support::{Server, build, build_in, installed_in, prepare, program, read, read_all};

/// `nobody`: the server refuses to run as root.
const NOBODY: u32 = 65_534;

struct Postgres {
    server: Server,
    authority: PathBuf,
}

/// `None`: there is no PostgreSQL here, which has been said.
async fn start() -> Option<Postgres> {
    let folders = ["15", "16", "17"].map(|version| format!("/usr/lib/postgresql/{version}/bin"));
    let program = installed_in("postgres", "postgresql", &folders.each_ref().map(String::as_str))?;
    let program = program.canonicalize().unwrap();
    let root = nix::unistd::Uid::effective().is_root();
    let (setpriv, mut authority) = (PathBuf::from("/usr/bin/setpriv"), PathBuf::new());
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let server = Server::start(if root { &setpriv } else { &program }, |folder: &Path, port| {
        let (data, password) = (folder.join("data"), folder.join("password"));
        std::fs::write(&password, "hunter2").unwrap();
        std::fs::create_dir(&data).unwrap();
        let issuer = Authority::new("test", folder).unwrap();
        let (certificate, key) =
            issuer.server("localhost", &["localhost", "127.0.0.1"]).unwrap().write(folder, "server").unwrap();
        authority.clone_from(&issuer.certificate);
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let initdb = program.with_file_name("initdb");
        let mut command = if root {
            for path in [&data, &password, &key] {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            let mut command = Command::new(&setpriv);
            command.args(as_nobody).arg(initdb);
            command
        } else {
            Command::new(initdb)
        };
        command.args(["--username=keda", "--auth=scram-sha-256", "--no-sync", "--locale=C", "--encoding=UTF8"]);
        command.arg(format!("--pwfile={}", password.display())).arg(format!("--pgdata={}", data.display()));
        prepare(command.current_dir(folder));
        let mut arguments: Vec<String> = Vec::new();
        if root {
            arguments.extend(as_nobody.map(str::to_owned));
            arguments.push(program.display().to_string());
        }
        arguments.extend(["-D".into(), data.display().to_string(), "-p".into(), port.to_string()]);
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("fsync", "off"),
            ("ssl", "on"),
            ("ssl_cert_file", &certificate.display().to_string()),
            ("ssl_key_file", &key.display().to_string()),
        ] {
            arguments.extend(["-c".into(), format!("{name}={value}")]);
        }
        arguments
    })
    .await
    .unwrap();
    has_started(&server).await;
    Some(Postgres { server, authority })
}

/// It takes connections before it has started, and says so on them.
async fn has_started(server: &Server) {
    eventually("PostgreSQL to have started", Duration::from_mins(2), || async {
        options(server).connect().await?.close().await?;
        Ok(Seen::Done(()))
    })
    .await
    .unwrap();
}

fn options(server: &Server) -> sqlx::postgres::PgConnectOptions {
    sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(server.port())
        .username("keda")
        .password("hunter2")
        .database("postgres")
}

async fn run(server: &Server, statements: &[&str]) {
    let mut connection = options(server).connect().await.unwrap();
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_query_gives_the_number_in_its_only_field() {
    let Some(Postgres { server, authority }) = start().await else { return };
    run(
        &server,
        &[
            "CREATE TABLE jobs (id int, size numeric, done bool)",
            "INSERT INTO jobs SELECT n, n + 0.5, false FROM generate_series(1, 8) n",
        ],
    )
    .await;
    let port = server.port().to_string();
    let place = [
        ("host", "127.0.0.1"),
        ("port", port.as_str()),
        ("userName", "keda"),
        ("dbName", "postgres"),
        ("sslmode", "disable"),
    ];
    let scaler = |query: &str, password: &str| {
        let metadata = [&place[..], &[("query", query), ("targetQueryValue", "4")]].concat();
        build("postgresql", &metadata, &[("password", password)])
    };
    let number = async |query: &str| read(&scaler(query, "hunter2")).await;
    assert_eq!(number("SELECT count(*) FROM jobs;").await, Ok((8_000, true)));
    assert_eq!(number("SELECT size FROM jobs ORDER BY id").await, Ok((1_500, true)));
    assert_eq!(number("SELECT 2.25::float8").await, Ok((2_250, true)));
    assert_eq!(number("SELECT '7'").await, Ok((7_000, true)));
    assert_eq!(number("SELECT 0").await, Ok((0, false)));
    assert!(number("SELECT id FROM jobs WHERE done").await.unwrap_err().contains("no row"));
    assert!(number("SELECT max(id) FROM jobs WHERE done").await.unwrap_err().contains("NULL"));
    assert!(number("SELECT 'NaN'::float8").await.unwrap_err().contains("no usable number"));
    assert!(number("SELECT 1, 2").await.unwrap_err().contains("2 columns"));
    assert!(number("SELECT nothing FROM jobs").await.unwrap_err().contains("refuses the question"));
    let refused = read(&scaler("SELECT 1", "wrong")).await.unwrap_err();
    assert!(refused.contains("refuses us") && !refused.contains("wrong"), "{refused}");

    let question = [("query", "SELECT count(*) FROM jobs"), ("targetQueryValue", "4")];
    let url = format!("postgresql://keda:hunter2@127.0.0.1:{port}/postgres?sslmode=require");
    let words = format!(
        "host=localhost port={port} user=keda password='hunter2' dbname=postgres sslmode=verify-full sslrootcert={}",
        authority.display()
    );
    for connection in [&url, &words] {
        let scaler = build("postgresql", &question, &[("connection", connection)]);
        assert_eq!(read(&scaler).await, Ok((8_000, true)), "{connection}");
    }
    let stranger = words.replace(&format!("sslrootcert={}", authority.display()), "");
    let unknown = read(&build("postgresql", &question, &[("connection", &stranger)])).await.unwrap_err();
    assert!(unknown.contains("not available") && !unknown.contains("hunter2"), "{unknown}");
}

#[tokio::test]
async fn a_connection_that_the_server_ended_is_made_again_and_an_outage_is_a_failure() {
    let Some(Postgres { server, .. }) = start().await else { return };
    let url = format!("postgresql://keda:hunter2@{}/postgres", server.address());
    let question = [
        ("query", "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"),
        ("targetQueryValue", "4"),
    ];
    let scaler = build("postgresql", &question, &[("connection", &url)]);
    eventually("the connections of others to have ended", Duration::from_mins(1), || async {
        let connections = read(&scaler).await;
        Ok(when(connections == Ok((1_000, true)), connections).found(Some(())))
    })
    .await
    .unwrap();
    for _ in 0..3 {
        assert_eq!(read(&scaler).await, Ok((1_000, true)), "one connection is kept");
    }
    run(
        &server,
        &["SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"],
    )
    .await;
    assert!(read(&scaler).await.is_ok());
    drop(server);
    assert!(read(&scaler).await.unwrap_err().contains("not available"));
}

#[tokio::test]
async fn fifty_triggers_share_few_connections_and_find_them_again_after_a_restart() {
    let Some(Postgres { mut server, .. }) = start().await else { return };
    let (http, url) = (program(), format!("postgresql://keda:hunter2@{}/postgres", server.address()));
    // How many connections there are once the lock can be had.
    let query = "SELECT (SELECT count(*) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND had IS NOT NULL) \
                 FROM (SELECT pg_advisory_xact_lock_shared(1)::text AS had OFFSET 0) AS lock";
    let metadata = [("query", query), ("targetQueryValue", "4")];
    let scalers: Vec<_> = (0..50).map(|_| build_in(&http, "postgresql", &metadata, &[("connection", &url)])).collect();
    let admin = Mutex::new(options(&server).connect().await.unwrap());
    let number = async |query: &'static str| -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut *admin.lock().await).await.unwrap()
    };
    number("SELECT count(pg_advisory_lock(1)::text)").await;
    let released = async {
        eventually("sixteen reads to wait for the lock", Duration::from_mins(2), || async {
            let waiting = number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await;
            Ok(when(waiting >= 16, waiting))
        })
        .await
        .unwrap();
        number("SELECT count(pg_advisory_unlock(1))").await;
    };
    let (answers, ()) = tokio::join!(read_all(&scalers), released);
    for answer in answers {
        let (thousandths, _) = answer.unwrap();
        assert!(thousandths <= 17_000, "{thousandths} thousandths of connections, that of this test among them");
    }
    let _ = eventually("four connections to be kept", Duration::from_mins(2), || async {
        let connections = number("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").await;
        Ok(when(connections == 4 + 1, connections))
    })
    .await
    .unwrap();
    server.restart().await.unwrap();
    has_started(&server).await;
    for scaler in &scalers[..8] {
        assert!(read(scaler).await.is_ok(), "four of them find a connection that has ended");
    }
}

#[tokio::test]
async fn what_one_triggers_query_does_to_its_session_is_not_seen_by_another() {
    let Some(Postgres { server, .. }) = start().await else { return };
    let (http, url) = (program(), format!("postgresql://keda:hunter2@{}/postgres", server.address()));
    let [process, set, setting, create, table, begin] = [
        "SELECT pg_backend_pid()",
        "SELECT set_config('app.mark', '7', false)",
        "SELECT coalesce(nullif(current_setting('app.mark', true), ''), '0')",
        "CREATE TEMP TABLE mark AS SELECT 5 AS n; SELECT n FROM mark",
        "SELECT count(*) FROM pg_class WHERE relname = 'mark'",
        "BEGIN; SELECT 3",
    ]
    .map(|query| {
        let metadata = [("query", query), ("targetQueryValue", "4")];
        build_in(&http, "postgresql", &metadata, &[("connection", &url)])
    });
    let number = async |scaler| read(scaler).await.map(|(thousandths, _)| thousandths / 1_000);
    let first = number(&process).await.unwrap();
    assert_eq!(number(&set).await, Ok(7));
    assert_eq!(number(&setting).await, Ok(0));
    assert_eq!(number(&create).await, Ok(5));
    assert_eq!(number(&table).await, Ok(0));
    assert_eq!(number(&process).await, Ok(first), "all on one connection");
    // One that is in a transaction cannot be cleaned.
    assert_eq!(number(&begin).await, Ok(3));
    assert_ne!(number(&process).await.unwrap(), first);
}
