//! What a refusal of a KDC means for a person (RFC 4120, 7.5.9).

use std::time::Duration;

use super::messages::KrbError;
use crate::error::ScalerError;

/// The KDC does not know the client.
const CLIENT_UNKNOWN: i32 = 6;
const SERVICE_UNKNOWN: i32 = 7;
/// It wants to see first that we know the key.
pub(super) const PREAUTH_REQUIRED: i32 = 25;
/// It cannot answer now; another one may.
pub(super) const SERVICE_UNAVAILABLE: i32 = 29;

/// Who was refused what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parties<'a> {
    pub(super) client: &'a str,
    pub(super) service: &'a str,
    /// `password` or the like.
    pub(super) credential: &'a str,
}

/// The error of a KDC in our words. `now` is our clock's time since 1970.
pub(super) fn refused(error: &KrbError, parties: &Parties<'_>, now: Duration) -> ScalerError {
    let Parties { client, service, credential } = parties;
    let unauthorized = |what: String| ScalerError::Unauthorized { what: format!("kerberos: {what}") };
    let misconfigured = |what: String| ScalerError::Misconfigured { what: format!("kerberos: {what}") };
    let unavailable = |what: String| ScalerError::Unavailable(format!("kerberos: {what}").into());
    match error.code {
        CLIENT_UNKNOWN => unauthorized(format!("the KDC knows no {client}")),
        SERVICE_UNKNOWN => misconfigured(format!("the KDC knows no {service}, the broker's name in Kerberos")),
        1 => unauthorized(format!("{client} is no longer valid")),
        12 => unauthorized(format!("the KDC's policy does not let {client} have a ticket for {service}")),
        18 => unauthorized(format!("{client} is locked or revoked")),
        23 => unauthorized(format!("the {credential} of {client} has expired")),
        24 => unauthorized(format!("the {credential} of {client} is not the one that the KDC has")),
        31 => unauthorized(format!("the KDC cannot decrypt what {client} sends; its keys or ours were changed")),
        32 => unauthorized(format!("the ticket of {client} has ended")),
        14 => misconfigured(format!("the KDC has no key of AES for {client} or {service}")),
        16 | PREAUTH_REQUIRED => pre_authentication(),
        68 => misconfigured(format!("{client} is in another realm")),
        37 => unavailable(skew(error.time.to_unix_duration(), now)),
        SERVICE_UNAVAILABLE => unavailable("the KDC is not available".into()),
        code => {
            let text = error.text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            unavailable(format!("error {code} of the KDC{}", crate::http::shorten(&text)))
        }
    }
}

/// The KDC wants to see more than that we know a key.
pub(super) fn pre_authentication() -> ScalerError {
    let what = "kerberos: the KDC wants pre-authentication other than an encrypted timestamp, such as FAST";
    ScalerError::Misconfigured { what: what.into() }
}

/// The answer is not one of a KDC.
pub(super) fn odd() -> ScalerError {
    ScalerError::Unavailable("kerberos: the KDC's answer cannot be read".into())
}

fn skew(theirs: Duration, ours: Duration) -> String {
    let which = if theirs < ours { "behind" } else { "ahead of" };
    format!("the clocks differ too much: the KDC's is {} seconds {which} ours", theirs.abs_diff(ours).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    /// An error of a KDC whose clock is there.
    fn error(code: i32, at: Duration) -> KrbError {
        KrbError { text: Some("a text".into()), ..KrbError::of(code, at) }
    }

    fn text(code: i32, at: Duration) -> String {
        let parties = Parties { client: "keda@R", service: "kafka/b@R", credential: "password" };
        refused(&error(code, at), &parties, NOW).text()
    }

    #[test]
    fn a_refusal_says_what_is_to_be_done() {
        for (code, wanted) in [
            (6, "the source refuses us: kerberos: the KDC knows no keda@R"),
            (7, "the source refuses the question: kerberos: the KDC knows no kafka/b@R, the broker's name in Kerberos"),
            (24, "the source refuses us: kerberos: the password of keda@R is not the one that the KDC has"),
            (23, "the source refuses us: kerberos: the password of keda@R has expired"),
            (29, "the source is not available: kerberos: the KDC is not available"),
            (60, "the source is not available: kerberos: error 60 of the KDC: a text"),
        ] {
            assert_eq!(text(code, NOW), wanted);
        }
    }

    #[test]
    fn clocks_that_differ_are_told_by_how_much() {
        let told = "the source is not available: kerberos: the clocks differ too much: the KDC's is";
        assert_eq!(text(37, NOW + Duration::from_hours(1)), format!("{told} 3600 seconds ahead of ours"));
        assert_eq!(text(37, NOW / 2), format!("{told} 500000 seconds behind ours"));
    }
}
