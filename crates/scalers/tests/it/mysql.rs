//! `mysql` against MariaDB, as the walkthrough uses it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use scaling::Target;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use testkit::eventually::{eventually, when};
use testkit::pki::Authority;
use tokio::sync::Mutex;

use crate::support::{Server, build, build_in, installed_in, prepare, program, read, read_all};

/// `None`: there is no MariaDB here, which has been said.
async fn start() -> Option<Server> {
    let program = installed_in("mariadbd", "mariadb-server", &["/usr/sbin"])?;
    let install = installed_in("mariadb-install-db", "mariadb-server", &["/usr/bin"])?;
    let server = Server::start(&program, |folder: &Path, port| {
        let data = folder.join("data");
        let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
        let mut command = Command::new(install);
        command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        command.arg(format!("--datadir={}", data.display())).arg(format!("--user={user}"));
        // A server that starts clears the temporary tables away that it finds, others' in a folder for all included.
        prepare(command.current_dir(folder).env("TMPDIR", folder));
        let setup = folder.join("setup.sql");
        let text = "CREATE DATABASE stats_db;\nCREATE USER 'keda'@'%' IDENTIFIED BY 'hunter2';\n\
                    GRANT ALL ON stats_db.* TO 'keda'@'%';\n";
        std::fs::write(&setup, text).unwrap();
        let authority = Authority::new("test", folder).unwrap();
        let (certificate, key) =
            authority.server("localhost", &["127.0.0.1"]).unwrap().write(folder, "server").unwrap();
        vec![
            "--no-defaults".into(),
            format!("--user={user}"),
            format!("--datadir={}", data.display()),
            format!("--tmpdir={}", folder.display()),
            format!("--port={port}"),
            "--bind-address=127.0.0.1".into(),
            format!("--socket={}", folder.join("s").display()),
            format!("--pid-file={}", folder.join("pid").display()),
            format!("--init-file={}", setup.display()),
            format!("--ssl-cert={}", certificate.display()),
            format!("--ssl-key={}", key.display()),
            "--innodb-flush-log-at-trx-commit=0".into(),
            "--innodb-buffer-pool-size=16M".into(),
        ]
    })
    .await
    .unwrap();
    Some(server)
}

async fn connection(server: &Server) -> MySqlConnection {
    let options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(server.port())
        .username("keda")
        .password("hunter2")
        .database("stats_db");
    options.connect().await.unwrap()
}

async fn run(server: &Server, statements: &[&str]) {
    let mut connection = connection(server).await;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn the_walkthroughs_eight_rows_are_two_replicas() {
    let Some(server) = start().await else { return };
    run(&server, &["CREATE TABLE test (id int)", "INSERT INTO test VALUES (1),(2),(3),(4),(5),(6),(7),(8)"]).await;
    let dsn = format!("keda:hunter2@tcp({})/stats_db", server.address());
    let scaler = build(
        "mysql",
        &[("queryValue", "4"), ("query", "SELECT COUNT(*) FROM test;")],
        &[("connectionString", dsn.as_str())],
    );
    assert_eq!(scaler.metrics()[0].name, "s0-mysql-stats_db");
    assert_eq!(scaler.metrics()[0].target, Target::AverageValue("4".parse().unwrap()));
    assert_eq!(read(&scaler).await, Ok((8_000, true)));
    run(&server, &["DELETE FROM test"]).await;
    assert_eq!(read(&scaler).await, Ok((0, false)));
}

#[tokio::test]
async fn a_query_gives_the_number_in_its_only_field() {
    let Some(server) = start().await else { return };
    run(&server, &["CREATE TABLE jobs (size decimal(8, 3), done bool)", "INSERT INTO jobs VALUES (1.25, false)"]).await;
    let port = server.port().to_string();
    let place = [("host", "127.0.0.1"), ("port", port.as_str()), ("username", "keda"), ("dbName", "stats_db")];
    let scaler = |query: &str, password: &str| {
        let metadata =
            [&place[..], &[("query", query), ("queryValue", "4"), ("activationQueryValue", "1.25")]].concat();
        build("mysql", &metadata, &[("password", password)])
    };
    let number = async |query: &str| read(&scaler(query, "hunter2")).await;
    assert_eq!(number("SELECT size FROM jobs").await, Ok((1_250, false)));
    assert_eq!(number("SELECT 2.5e0").await, Ok((2_500, true)));
    assert_eq!(number("SELECT '7'").await, Ok((7_000, true)));
    assert!(number("SELECT size FROM jobs WHERE done").await.unwrap_err().contains("no row"));
    assert!(number("SELECT max(size) FROM jobs WHERE done").await.unwrap_err().contains("NULL"));
    assert!(number("SELECT 'many'").await.unwrap_err().contains("no usable number"));
    assert!(number("SELECT 1, 2").await.unwrap_err().contains("2 columns"));
    assert!(number("SELECT nothing FROM jobs").await.unwrap_err().contains("refuses the question"));
    let refused = read(&scaler("SELECT 1", "wrong")).await.unwrap_err();
    assert!(refused.contains("refuses us"), "{refused}");
}

#[tokio::test]
async fn a_dsn_says_how_the_connection_is_encrypted() {
    let Some(server) = start().await else { return };
    let cipher =
        "SELECT variable_value <> '' FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'";
    let scaler = |parameters: &str| {
        let dsn = format!("keda:hunter2@tcp({})/stats_db?{parameters}", server.address());
        build("mysql", &[("queryValue", "1"), ("query", cipher)], &[("connectionString", dsn.as_str())])
    };
    assert_eq!(read(&scaler("tls=false")).await, Ok((0, false)));
    assert_eq!(read(&scaler("tls=skip-verify")).await, Ok((1_000, true)));
    assert_eq!(read(&scaler("tls=preferred&parseTime=true")).await, Ok((1_000, true)));
    let unknown = read(&scaler("tls=true")).await.unwrap_err();
    assert!(unknown.contains("not available") && !unknown.contains("hunter2"), "{unknown}");
    let dsn = format!("keda:hunter2@tcp({})/stats_db?sql_mode=ANSI_QUOTES", server.address());
    let ansi = build(
        "mysql",
        &[("queryValue", "1"), ("query", "SELECT 'x' LIKE 'x' AS \"one\"")],
        &[("connectionString", dsn.as_str())],
    );
    assert_eq!(read(&ansi).await, Ok((1_000, true)));
}

#[tokio::test]
async fn a_connection_that_the_server_ended_is_made_again_and_an_outage_is_a_failure() {
    let Some(server) = start().await else { return };
    let dsn = format!("keda:hunter2@tcp({})/stats_db", server.address());
    let metadata = [("queryValue", "1"), ("query", "SELECT CONNECTION_ID()")];
    let scaler = build("mysql", &metadata, &[("connectionString", dsn.as_str())]);
    let first = read(&scaler).await.unwrap();
    assert_eq!(read(&scaler).await.unwrap(), first, "one connection is kept");
    run(&server, &[&format!("KILL {}", first.0 / 1_000)]).await;
    assert_ne!(read(&scaler).await.unwrap(), first);
    drop(server);
    assert!(read(&scaler).await.unwrap_err().contains("not available"));
}

#[tokio::test]
async fn few_connections_are_kept_each_by_the_trigger_that_made_it() {
    let Some(server) = start().await else { return };
    let (http, dsn) = (program(), format!("keda:hunter2@tcp({})/stats_db", server.address()));
    let scaler = |query: &str| {
        build_in(&http, "mysql", &[("queryValue", "1"), ("query", query)], &[("connectionString", dsn.as_str())])
    };
    let [counter, other] = ["SELECT @mark := COALESCE(@mark, 0) + 1", "SELECT COALESCE(@mark, 0)"].map(scaler);
    assert_eq!(read(&counter).await, Ok((1_000, true)));
    assert_eq!(read(&counter).await, Ok((2_000, true)), "its own connection is kept as it is");
    assert_eq!(read(&other).await, Ok((0, false)));
    let scalers: Vec<_> = (0..50).map(|_| scaler("SELECT 1")).collect();
    for _ in 0..2 {
        assert!(read_all(&scalers).await.iter().all(Result::is_ok));
    }
    let admin = Mutex::new(connection(&server).await);
    let number = async |query: &'static str| -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut *admin.lock().await).await.unwrap()
    };
    let _ = eventually("four connections to be left", Duration::from_mins(1), || async {
        let connections = number("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'keda'").await;
        Ok(when(connections == 4 + 1, connections))
    })
    .await
    .unwrap();
    let aborted = "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status \
                   WHERE variable_name = 'Aborted_clients'";
    assert_eq!(number(aborted).await, 0, "the others said goodbye");
}
