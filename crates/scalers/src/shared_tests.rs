//! Who shares, and who must not.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;
use crate::http::{HTTP_TIMEOUT, Http};
use crate::kafka::Kafka;
use crate::metadata::{Origin, TriggerMetadata as _};
use crate::mysql::MySql;
use crate::postgresql::PostgreSql;
use crate::rabbitmq::RabbitMq;
use crate::redis::place::{One, Sentinels, Several};
use crate::redis::{List, Redis};
use crate::source::Source;
use crate::sql::Query;
use crate::testing::{Texts, Trigger};

fn get(shared: &Shared, login: &impl Hash) -> Arc<u8> {
    let Ok(value) = shared.get(login, || Ok::<_, Infallible>(1));
    value
}

#[test]
fn one_value_is_for_one_login_and_one_kind() {
    let shared = Shared::default();
    let one = get(&shared, &("user", "password"));
    assert!(Arc::ptr_eq(&one, &get(&shared, &("user", "password"))));
    for other in [("user", "Password"), ("userp", "assword"), ("", "userpassword")] {
        assert!(!Arc::ptr_eq(&one, &get(&shared, &other)), "{other:?}");
    }
    let Ok(another) = shared.get(&("user", "password"), || Ok::<_, Infallible>(2_u16));
    assert_eq!((*one, *another), (1, 2));
    assert_eq!(shared.get::<u32, _>(&"x", || Err("not made")), Err("not made"));
    assert_eq!(shared.count().0, 2);
}

#[test]
fn what_nobody_has_any_more_is_gone_and_its_place_is_used_again() {
    let shared = Shared::default();
    let kept: Vec<Arc<u8>> = (0..100).map(|login| get(&shared, &login)).collect();
    for login in 1_000..10_000 {
        get(&shared, &login);
    }
    let (there, places) = shared.count();
    assert_eq!(there, kept.len());
    assert!(places < 4 * kept.len(), "{places} places");
}

/// A trigger shares with another one of the same settings and of another `question`, and with none that differs in one of
/// `login`. Together, these are all its settings.
fn check<S: Source>(base: Texts<'_>, question: Texts<'_>, login: Texts<'_>) -> Vec<&'static str> {
    let parameters = S::Settings::SHAPE.parameters();
    let http = Arc::new(Http::new(HTTP_TIMEOUT));
    let build = |changed: Texts<'_>| {
        let all: BTreeMap<&str, &str> = base.iter().chain(changed).copied().collect();
        let secret = |name: &str| {
            let parameter = parameters.iter().find(|parameter| parameter.name == name);
            parameter.expect(name).may_come_from(Origin::Authentication)
        };
        let (auth, metadata): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| secret(name));
        Trigger::new(&metadata).auth(&auth).sharing(&http).build::<S>().unwrap_or_else(|error| panic!("{error}"))
    };
    let mut built = vec![build(&[])];
    for changed in question {
        built.push(build(&[*changed]));
        assert_eq!(http.shared.count().0, 1, "{changed:?}");
    }
    for (index, changed) in login.iter().enumerate() {
        built.push(build(&[*changed]));
        assert_eq!(http.shared.count().0, index + 2, "{changed:?}");
    }
    drop(built);
    assert_eq!(http.shared.count().0, 0);
    let told = |name: &str| question.iter().chain(login).any(|(told, _)| *told == name);
    parameters.iter().map(|parameter| parameter.name).filter(|name| !told(name)).collect()
}

const NOTHING: [&str; 0] = [];
/// `keyPassword` opens `key`, which counts, and nothing else.
const KEY_PASSWORD: [&str; 1] = ["keyPassword"];
const CERTIFICATES: [(&str, &str); 2] = [("cert", "c"), ("key", "k")];

#[test]
fn every_setting_of_postgresql_but_the_question_is_of_the_login() {
    let question = [("query", "SELECT 2"), ("targetQueryValue", "2"), ("activationTargetQueryValue", "2")];
    let base = [
        ("host", "db"),
        ("port", "5432"),
        ("userName", "keda"),
        ("password", "hunter2"),
        ("dbName", "stats"),
        ("sslmode", "disable"),
        ("query", "SELECT 1"),
        ("targetQueryValue", "1"),
    ];
    let login = [
        ("connection", "host=db"),
        ("host", "other"),
        ("port", "5433"),
        ("userName", "other"),
        ("password", "hunter3"),
        ("dbName", "other"),
        ("sslmode", "require"),
    ];
    assert_eq!(check::<Query<PostgreSql>>(&base, &question, &login), NOTHING);
}

#[test]
fn every_setting_of_mysql_but_the_question_is_of_the_login() {
    let question = [("query", "SELECT 2"), ("queryValue", "2"), ("activationQueryValue", "2")];
    let base = [
        ("host", "db"),
        ("port", "3306"),
        ("username", "keda"),
        ("password", "hunter2"),
        ("dbName", "stats"),
        ("query", "SELECT 1"),
        ("queryValue", "1"),
    ];
    let login = [
        ("connectionString", "u:p@tcp(db)/stats"),
        ("host", "other"),
        ("port", "3307"),
        ("username", "other"),
        ("password", "hunter3"),
        ("dbName", "other"),
    ];
    assert_eq!(check::<Query<MySql>>(&base, &question, &login), NOTHING);
}

/// The settings that all types of Redis have.
const REDIS: [(&str, &str); 9] = [
    ("username", "other"),
    ("password", "hunter3"),
    ("enableTLS", "true"),
    ("tls", "enable"),
    ("unsafeSsl", "true"),
    ("ca", "a"),
    CERTIFICATES[0],
    CERTIFICATES[1],
    ("sentinelMaster", "other"),
];
const LIST: [(&str, &str); 3] = [("listName", "other"), ("listLength", "2"), ("activationListLength", "2")];

#[test]
fn every_setting_of_redis_but_the_question_is_of_the_login() {
    let of_all = &REDIS[..8];
    let base = [("listName", "jobs"), ("address", "r:6379")];
    let login = [of_all, &[("address", "other:6379"), ("databaseIndex", "1")]].concat();
    let untold = check::<Redis<One, List>>(&base, &LIST, &login);
    assert_eq!(untold, [&["host", "port"][..], &KEY_PASSWORD].concat());
    let base = [("listName", "jobs"), ("host", "r"), ("port", "6379")];
    let untold = check::<Redis<One, List>>(&base, &[], &[("host", "other"), ("port", "6380")]);
    assert!(!untold.contains(&"host") && !untold.contains(&"port"));

    let base = [("listName", "jobs"), ("addresses", "r:1"), ("sentinelMaster", "m"), ("password", "hunter2")];
    let own = [("addresses", "r:1,r:2"), ("databaseIndex", "1")];
    let sentinels = [("sentinelUsername", "other"), ("sentinelPassword", "hunter3")];
    let untold = check::<Redis<Sentinels, List>>(&base, &LIST, &[&REDIS[..], &own, &sentinels].concat());
    assert_eq!(untold, [&["hosts", "ports"][..], &KEY_PASSWORD].concat());
    let base = [("listName", "jobs"), ("hosts", "r"), ("ports", "1")];
    let untold = check::<Redis<Several, List>>(&base, &LIST, &[of_all, &[("hosts", "other"), ("ports", "2")]].concat());
    assert_eq!(untold, [&["addresses", "databaseIndex"][..], &KEY_PASSWORD].concat());
}

#[test]
fn a_server_and_a_cluster_of_the_same_address_are_two() {
    let http = Arc::new(Http::new(HTTP_TIMEOUT));
    let trigger = |place| Trigger::new(&[("listName", "jobs"), place]).sharing(&http);
    let one = trigger(("address", "r:6379")).build::<Redis<One, List>>();
    let several = trigger(("addresses", "r:6379")).build::<Redis<Several, List>>();
    assert!(one.is_ok() && several.is_ok());
    assert_eq!(http.shared.count().0, 2);
}

#[test]
fn every_setting_of_rabbitmq_but_the_question_is_of_the_login() {
    let base = [("host", "amqp://rabbit/shop"), ("queueName", "jobs"), ("username", "keda"), ("password", "hunter2")];
    let question = [("protocol", "amqp"), ("queueName", "other"), ("queueLength", "2"), ("activationValue", "2")];
    let login = [
        ("host", "amqp://rabbit/other"),
        ("vhostName", "other"),
        ("username", "other"),
        ("password", "hunter3"),
        ("tls", "enable"),
        ("unsafeSsl", "true"),
        ("ca", "a"),
        CERTIFICATES[0],
        CERTIFICATES[1],
        ("workloadIdentityResource", "other"),
    ];
    let untold = check::<RabbitMq>(&base, &question, &login);
    // The first two are the same as `queueLength`; those after them are for the management API, but for the password of the key.
    let http = ["mode", "value", "useRegex", "pageSize", "operation", "excludeUnacknowledged", "timeout"];
    let oauth = ["oauthTokenURI", "clientID", "clientSecret", "scopes", "endpointParams"];
    assert_eq!(untold, [&http[..], &KEY_PASSWORD, &oauth].concat());
}

#[test]
fn every_setting_of_kafka_but_the_question_is_of_the_login() {
    let base = [
        ("bootstrapServers", "a:9092"),
        ("consumerGroup", "g"),
        ("topic", "orders"),
        ("sasl", "plaintext"),
        ("username", "keda"),
        ("password", "hunter2"),
    ];
    let question = [
        ("consumerGroup", "other"),
        ("topic", "other"),
        ("partitionLimitation", "2"),
        ("lagThreshold", "2"),
        ("activationLagThreshold", "2"),
        ("offsetResetPolicy", "earliest"),
        ("allowIdleConsumers", "true"),
        ("scaleToZeroOnInvalidOffset", "true"),
        ("excludePersistentLag", "true"),
        ("limitToPartitionsWithLag", "true"),
        ("ensureEvenDistributionOfPartitions", "true"),
        ("kerberosDisableFAST", "true"),
    ];
    let login = [
        ("bootstrapServers", "b:9092"),
        ("sasl", "scram_sha256"),
        ("username", "other"),
        ("password", "hunter3"),
        ("saslTokenProvider", "aws_msk_iam"),
        ("awsRegion", "eu-west-1"),
        ("awsAccessKeyID", "a"),
        ("awsSecretAccessKey", "b"),
        ("awsSessionToken", "c"),
        ("awsRoleArn", "d"),
        ("identityOwner", "operator"),
        ("oauthTokenEndpointUri", "http://tokens/"),
        ("scopes", "a"),
        ("oauthExtensions", "a=b"),
        ("keytab", "BQI="),
        ("realm", "R"),
        ("kerberosConfig", "[realms]"),
        ("kerberosServiceName", "other"),
        ("tls", "enable"),
        ("unsafeSsl", "true"),
        ("ca", "a"),
        CERTIFICATES[0],
        CERTIFICATES[1],
    ];
    assert_eq!(check::<Kafka>(&base, &question, &login), KEY_PASSWORD);
}
