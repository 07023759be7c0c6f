//! Logging in by Kerberos, SASL's `GSSAPI`, without a library of C: tickets from a KDC (RFC 4120), shown to brokers
//! (RFC 4121, 4752).
//!
//! ```text
//!  password or keytab ── login ──▶ KDC ── ticket that gets tickets ──▶ KDC ── ticket for kafka/HOST ──▶ broker
//!                                        (until shortly before it ends)     (the same, one for each broker)
//! ```
//!
//! Not done: brokers in another realm than ours, KDCs that are found in DNS or speak only UDP or HTTPS, pre-authentication
//! other than an encrypted timestamp (so no FAST), and encryption older than AES.

mod blocks;
mod credential;
mod crypto;
mod encoding;
mod exchange;
mod gss;
mod kdc;
mod keytab;
mod krb5_conf;
mod messages;
mod principal;
mod refusal;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use tokio::sync::Mutex;

use self::credential::Credential;
use self::crypto::{Etype, Key, Usage};
use self::exchange::{Answer, Asked, Once, Ticket, granted, hints, hints_of_refusal};
use self::gss::{Fresh, Initiated};
use self::kdc::Kdcs;
use self::krb5_conf::Krb5Conf;
use self::messages::{Hint, KdcReply, KrbError};
use self::principal::Principal;
use self::refusal::{PREAUTH_REQUIRED, Parties, odd, refused};
use crate::error::{BuildError, ScalerError};
use crate::metadata::Secret;

/// What a trigger says of it. The fields are named like the parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) username: &'a str,
    pub(super) password: Option<&'a Secret>,
    pub(super) keytab: Option<&'a Secret>,
    pub(super) realm: Option<&'a str>,
    pub(super) kerberos_config: &'a str,
    pub(super) service: &'a str,
}

/// A client of a realm, with the tickets it has.
#[derive(Debug)]
pub(super) struct Kerberos {
    client: Principal,
    /// The first part of the brokers' names.
    service: String,
    credential: Credential,
    kdcs: Kdcs,
    /// Who needs a ticket waits for the one who asks for it.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The ticket that gets others.
    granting: Option<Ticket>,
    /// By the broker's host.
    brokers: BTreeMap<String, Ticket>,
}

impl Kerberos {
    /// Reads what is given. Nobody is asked.
    ///
    /// # Errors
    /// A parameter that cannot be read, by its name.
    pub(super) fn new(given: &Given<'_>) -> Result<Self, BuildError> {
        let wrong = |name: &'static str| move |what: String| BuildError::new(format!("authenticationRef {name}"), what);
        let conf = Krb5Conf::read(given.kerberos_config).map_err(wrong("kerberosConfig"))?;
        let realm = conf.realm(given.realm).map_err(wrong("kerberosConfig"))?;
        let client = Principal::user(given.username, realm);
        let credential = match (given.keytab, given.password) {
            (Some(keytab), _) => Credential::Keytab(keytab::keys(keytab.reveal(), &client).map_err(wrong("keytab"))?),
            (None, Some(password)) => Credential::Password(password.clone()),
            (None, None) => return Err(wrong("password")("or keytab is required by gssapi".into())),
        };
        let kdcs = Kdcs::new(conf.kdcs(realm).map_err(wrong("kerberosConfig"))?);
        Ok(Self { client, service: given.service.to_owned(), credential, kdcs, kept: Mutex::default() })
    }

    /// Begins to log in to the broker on a host: what it is to be sent, and what reads its answer.
    ///
    /// # Errors
    /// There is no ticket for it.
    pub(super) async fn initiate(&self, host: &str) -> Result<(Vec<u8>, Initiated), ScalerError> {
        let ticket = self.ticket(host).await?;
        let fresh = Fresh { key: random()?, sequence: u32::from_be_bytes(random()?) >> 1, confounder: random()? };
        Ok(gss::initiate(&ticket, &self.client, now(), &fresh))
    }

    /// Forgets the ticket for a broker that does not take it: its key may have been changed.
    pub(super) async fn forget(&self, host: &str) {
        self.kept.lock().await.brokers.remove(host);
    }

    async fn ticket(&self, host: &str) -> Result<Ticket, ScalerError> {
        let mut kept = self.kept.lock().await;
        let now = now();
        if let Some(ticket) = kept.brokers.get(host).filter(|ticket| ticket.is_good(now)) {
            return Ok(ticket.clone());
        }
        let granting = match kept.granting.take().filter(|ticket| ticket.is_good(now)) {
            Some(ticket) => ticket,
            None => self.log_in().await?,
        };
        let asked = self.ask(host, &granting).await;
        // With a ticket that the KDC does not take, we begin anew the next time.
        if matches!(asked, Ok(_) | Err(ScalerError::Misconfigured { .. })) {
            kept.granting = Some(granting);
        }
        let ticket = asked?;
        kept.brokers.retain(|_, ticket| ticket.is_good(now));
        kept.brokers.insert(host.to_owned(), ticket.clone());
        Ok(ticket)
    }

    /// Gets the ticket that gets others (RFC 4120, 3.1).
    async fn log_in(&self) -> Result<Ticket, ScalerError> {
        let service = Principal::granting(&self.client.realm);
        let etypes = self.credential.etypes();
        let mut once = once()?;
        let mut answer = self.kdcs.ask(&exchange::login(&self.client, &etypes, None, &once)).await?;
        let mut shown = None;
        if let Answer::Refused(error) = &answer
            && error.code == PREAUTH_REQUIRED
        {
            let hints = hints_of_refusal(error)?;
            let best = hints.iter().find_map(|hint| Etype::of(hint.etype).filter(|etype| etypes.contains(etype)));
            let key = self.key(best.ok_or_else(|| self.no_key())?, &hints)?;
            once = self::once()?;
            answer = self.kdcs.ask(&exchange::login(&self.client, &etypes, Some(&key), &once)).await?;
            shown = Some(key);
        }
        let reply = match answer {
            Answer::Granted(reply) => reply,
            Answer::Refused(error) => return Err(self.refused(&error, &service)),
        };
        let key = match shown.filter(|key| key.etype.number() == reply.sealed.etype) {
            Some(key) => key,
            // Some KDCs do not want to see first that we know the key.
            None => self.key_of(&reply)?,
        };
        let asked = Asked { client: &self.client, service: &service, nonce: once.nonce };
        granted(*reply, &key, Usage::AsReply, asked)
    }

    /// Gets a ticket for the broker on a host (RFC 4120, 3.3).
    async fn ask(&self, host: &str, granting: &Ticket) -> Result<Ticket, ScalerError> {
        let service = Principal::service(&self.service, host, &self.client.realm);
        let once = once()?;
        match self.kdcs.ask(&exchange::ask(&self.client, &service, granting, &once)).await? {
            Answer::Granted(reply) => {
                let asked = Asked { client: &self.client, service: &service, nonce: once.nonce };
                granted(*reply, &granting.session, Usage::TgsReply, asked)
            }
            Answer::Refused(error) => Err(self.refused(&error, &service)),
        }
    }

    /// Our key of the type that a reply is encrypted with.
    fn key_of(&self, reply: &KdcReply) -> Result<Key, ScalerError> {
        let hints = hints(reply.data.as_deref().unwrap_or_default());
        self.key(Etype::of(reply.sealed.etype).ok_or_else(odd)?, &hints)
    }

    fn key(&self, etype: Etype, hints: &[Hint]) -> Result<Key, ScalerError> {
        let key = self.credential.key(etype, hints, &self.client);
        key.map_err(|what| ScalerError::Misconfigured { what: format!("kerberos: {what}") })
    }

    fn no_key(&self) -> ScalerError {
        let what = format!("kerberos: the KDC has no key of {} that we can use; ours are of AES", self.client);
        ScalerError::Misconfigured { what }
    }

    fn refused(&self, error: &KrbError, service: &Principal) -> ScalerError {
        let (client, service) = (self.client.to_string(), service.to_string());
        let parties = Parties { client: &client, service: &service, credential: self.credential.called() };
        refused(error, &parties, now())
    }
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn once() -> Result<Once, ScalerError> {
    Ok(Once { now: now(), nonce: u32::from_be_bytes(random()?) >> 1, confounder: random()? })
}

fn random<const N: usize>() -> Result<[u8; N], ScalerError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| ScalerError::Unavailable("no randomness".into()))?;
    Ok(bytes)
}

/// Shows a reader a good many damaged versions of what it can read.
#[cfg(test)]
fn noise(good: &[u8], read: impl Fn(&[u8])) {
    // Always the same ones (Knuth's generator), so that a failure is found again.
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    for length in 0..=good.len() {
        read(&good[..length]);
    }
    for _ in 0..4_000 {
        let mut bytes = good.to_vec();
        for _ in 0..=next(4) {
            let (place, byte) = (next(bytes.len()), u8::try_from(next(256)).unwrap());
            bytes[place] = byte;
        }
        bytes.truncate(next(2 * good.len()));
        read(&bytes);
    }
    for _ in 0..4_000 {
        let bytes: Vec<u8> = (0..next(64)).map(|_| u8::try_from(next(256)).unwrap()).collect();
        read(&bytes);
    }
}

#[cfg(test)]
#[path = "kerberos_tests.rs"]
mod tests;
