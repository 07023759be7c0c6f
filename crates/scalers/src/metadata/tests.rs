//! What the derive makes of a struct.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::catalog::BUILT;
use crate::context::{Authentication, Identity, TriggerContext};
use crate::error::BuildError;
use crate::http::{HTTP_TIMEOUT, Http};

#[derive(Debug, PartialEq, Choice)]
enum Mode {
    #[value("queueLength")]
    Length,
    Rate,
}

/// Counts things.
#[derive(Debug, TriggerMetadata)]
#[trigger(exclusive("server", "servers"), some_of("server", "servers"), check = no_rate_without_password)]
#[trigger(together("user", "group"), removed("tenant", "write server"), ignored("colour", "nobody sees it"))]
struct Settings {
    /// One server.
    #[param(from(metadata, env, auth))]
    server: Option<String>,
    /// Several.
    #[param(separator = ";")]
    servers: Vec<String>,
    /// How.
    #[param(default = "queueLength")]
    mode: Mode,
    /// How many.
    #[param(above = "0", at_most = "100", alias("length"), deprecated("queueLen", "say queueLength"))]
    queue_length: i64,
    /// Which parts.
    #[param(ranges)]
    parts: Vec<i64>,
    /// Whose.
    user: Option<String>,
    /// Whose, too.
    group: Option<String>,
    /// What to look for.
    #[param(unescaped)]
    pattern: Option<String>,
    #[param(nested)]
    login: Login,
}

#[derive(Debug, TriggerMetadata)]
struct Login {
    /// Password.
    #[param(from(auth, env))]
    password: Option<Secret>,
}

fn no_rate_without_password(settings: &Settings) -> Vec<BuildError> {
    let wrong = settings.mode == Mode::Rate && settings.login.password.is_none();
    wrong.then(|| BuildError::new("mode", "Rate needs a password")).into_iter().collect()
}

type Texts<'a> = &'a [(&'a str, &'a str)];

fn map(texts: Texts<'_>) -> BTreeMap<String, String> {
    texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn read(metadata: Texts<'_>, env: Texts<'_>, auth: Texts<'_>) -> Result<(Settings, Vec<String>), String> {
    let (metadata, environment, parameters) = (map(metadata), map(env), map(auth));
    let http = Arc::new(Http::new(HTTP_TIMEOUT));
    let context = TriggerContext {
        environment: Some(&environment),
        authentication: Authentication::Resolved { parameters: &parameters, identity: &Identity::None },
        ..TriggerContext::new(0, &metadata, &http)
    };
    let (settings, notices) = parse::<Settings>(&context).map_err(|error| error.to_string())?;
    Ok((settings, notices.into_iter().map(|notice| format!("{}: {}", notice.field, notice.message)).collect()))
}

fn error(metadata: Texts<'_>) -> String {
    read(metadata, &[], &[]).expect_err("wrong")
}

const GOOD: [(&str, &str); 2] = [("server", " a "), ("queueLength", "5")];

fn with(more: Texts<'_>) -> Vec<(&str, &str)> {
    GOOD.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn defaults_fill_what_is_not_written() {
    let (settings, notices) = read(&GOOD, &[], &[]).unwrap();
    assert_eq!(settings.server.as_deref(), Some("a"), "trimmed");
    assert_eq!((settings.mode, settings.queue_length), (Mode::Length, 5));
    assert_eq!((settings.servers.len(), settings.parts.len(), settings.pattern), (0, 0, None));
    assert!(settings.login.password.is_none());
    assert_eq!(notices, [""; 0]);
}

#[test]
fn the_first_place_that_has_a_value_wins() {
    let both = [("serverFromEnv", "SERVER"), ("queueLength", "1"), ("passwordFromEnv", "PW")];
    let env = [("SERVER", "from-env"), ("PW", "env-pw")];
    let auth = [("server", "from-auth"), ("password", "auth-pw")];
    let (settings, _) = read(&both, &env, &auth).unwrap();
    assert_eq!(settings.server.as_deref(), Some("from-env"));
    assert_eq!(settings.login.password.as_ref().map(Secret::reveal), Some("auth-pw"));
    let (settings, _) = read(&with(&both[..1]), &env, &auth).unwrap();
    assert_eq!(settings.server.as_deref(), Some("a"));
    let (settings, _) = read(&[("server", "  "), ("queueLength", "1")], &[], &auth).unwrap();
    assert_eq!(settings.server.as_deref(), Some("from-auth"), "blank is as good as absent");
}

#[test]
fn every_fault_is_named_at_once() {
    let text = error(&[("queueLength", "101"), ("mode", "Rat"), ("tenant", "x"), ("parts", "7-3")]);
    assert_eq!(
        text,
        "mode: \"Rat\" is not one of queueLength, Rate; did you mean \"Rate\"?; queueLength: must be at most 100; \
         parts: \"7-3\" is a range that ends before it begins; server: is required: one of server, servers; \
         tenant: write server"
    );
}

#[test]
fn rules_about_several_parameters_hold() {
    assert_eq!(error(&with(&[("servers", "b")])), "servers: excludes server; give one of them");
    assert_eq!(error(&with(&[("mode", "Rate")])), "mode: Rate needs a password");
    assert_eq!(error(&with(&[("user", "u")])), "group: is required with user");
    assert_eq!(error(&with(&[("group", "g")])), "user: is required with group");
    let both = read(&with(&[("user", "u"), ("group", "g")]), &[], &[]).unwrap().0;
    assert_eq!((both.user.as_deref(), both.group.as_deref()), (Some("u"), Some("g")));
    assert_eq!(error(&[("server", "a")]), "queueLength: is required");
    assert_eq!(error(&[("server", "a"), ("queueLength", "0")]), "queueLength: must be above 0");
}

#[test]
fn lists_ranges_and_escapes_are_read() {
    let (settings, _) =
        read(&[("servers", "b; c;"), ("queueLength", "5"), ("parts", "1, 4-6,-2"), ("pattern", "%5Ea+b")], &[], &[])
            .unwrap();
    assert_eq!(settings.servers, ["b", "c"]);
    assert_eq!(settings.parts, [1, 4, 5, 6, -2]);
    assert_eq!(settings.pattern.as_deref(), Some("^a b"));
}

#[test]
fn what_has_no_effect_earns_a_notice() {
    let notices = |more: Texts<'_>| read(&with(more), &[], &[]).unwrap().1;
    assert_eq!(
        notices(&[("queueLenght", "9")]),
        ["queueLenght: is not a setting of this trigger type; it has no effect; did you mean \"queueLength\"?"]
    );
    assert_eq!(notices(&[("colour", "red")]), ["colour: nobody sees it"]);
    assert_eq!(
        notices(&[("password", "x")]),
        ["password: has no effect here; it is read from a TriggerAuthentication or an environment variable \
          (passwordFromEnv)"]
    );
    assert_eq!(notices(&[("modeFromEnv", "M")]), ["modeFromEnv: has no effect; mode is read from metadata only"]);
    assert!(notices(&[("metricName", "old")])[0].contains("since KEDA 2.10"));
    let missing = notices(&[("passwordFromEnv", "PW")]);
    assert!(missing[0].starts_with("passwordFromEnv: the scale target's container has no environment variable PW"));
    let old = read(&[("server", "a"), ("queueLen", "5")], &[], &[]).unwrap();
    assert_eq!((old.0.queue_length, old.1), (5, vec!["queueLen: say queueLength".to_owned()]));
}

#[test]
fn a_secret_is_not_shown() {
    let (settings, _) = read(&GOOD, &[], &[("password", "hunter2")]).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn an_environment_that_is_not_known_is_said() {
    let metadata = map(&[("serverFromEnv", "SERVER"), ("queueLength", "1")]);
    let http = Arc::new(Http::new(HTTP_TIMEOUT));
    let error = parse::<Settings>(&TriggerContext::new(0, &metadata, &http)).expect_err("unknown");
    assert_eq!(error.each().next().unwrap().0, "serverFromEnv");
}

#[test]
fn page_and_schema_say_what_the_struct_says() {
    let page = page::page("things", Settings::SHAPE);
    for line in [
        "Counts things.",
        "| `queueLength` | whole number, above 0, at most 100 | **required** | metadata |",
        "| `mode` | `queueLength`, `Rate` | `queueLength` | metadata |",
        "| `password` | text, secret | – | a TriggerAuthentication or an environment variable (passwordFromEnv) |",
        "**`queueLength`**: How many. Also written `length`. Old name: `queueLen` (say queueLength).",
        "- At most one of `server`, `servers`.",
        "- `tenant` is refused: write server.",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let schema = schema::schema("things", Settings::SHAPE);
    assert_eq!(schema["properties"]["mode"]["enum"], serde_json::json!(["queueLength", "Rate"]));
    assert_eq!(schema["properties"]["mode"]["default"], "queueLength");
    assert_eq!(schema["properties"]["queueLen"]["deprecated"], true);
    assert!(schema["properties"]["serverFromEnv"].is_object());
    assert!(schema["properties"]["password"].is_null());
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["allOf"][0]["anyOf"].as_array().map(Vec::len), Some(3), "{schema}");
}

#[test]
fn limits_and_defaults_of_every_type_are_values_themselves() {
    for built in BUILT {
        for parameter in built.shape.parameters() {
            let place = format!("{} {}", built.name, parameter.name);
            for limit in [parameter.above, parameter.at_least, parameter.at_most].into_iter().flatten() {
                assert!(limit.parse::<Number>().is_ok(), "{place}: {limit}");
            }
            if let (Kind::OneOf(words), Some(default)) = (parameter.kind, parameter.default) {
                assert!(words.contains(&default), "{place}: {default}");
            }
            assert!(parameter.doc.ends_with('.'), "{place}: a sentence ends with a full stop");
        }
        let mut names: Vec<&str> = built.shape.parameters().iter().flat_map(|p| p.names()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{}: a name stands for one parameter", built.name);
    }
}
