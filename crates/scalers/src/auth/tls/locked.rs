//! A private key that is encrypted.

use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};

use super::Certificates;
use crate::error::BuildError;
use crate::metadata::{Secret, TriggerMetadata};

/// Most rounds that may lie between a password and its key: three times what is advised today, and about a second of work.
const ROUNDS: u32 = 2_000_000;
/// Most memory that a password may take on the way to its key. Unit: bytes.
const MEMORY: u64 = 128 << 20;

/// Certificates for TLS whose key may be encrypted.
#[derive(Debug, Hash, TriggerMetadata)]
#[trigger(check = LockedCertificates::check)]
pub(crate) struct LockedCertificates {
    #[param(nested)]
    certificates: Certificates,
    /// The password of `key`, if that is encrypted (as PKCS #8: `BEGIN ENCRYPTED PRIVATE KEY`).
    #[param(from(auth))]
    key_password: Option<Secret>,
}

impl LockedCertificates {
    fn check(&self) -> Vec<BuildError> {
        self.open().err().into_iter().collect()
    }

    /// The certificates with their key decrypted.
    ///
    /// # Errors
    /// There is a password, and the key is missing, not encrypted, or encrypted with another one.
    pub(crate) fn open(&self) -> Result<Certificates, BuildError> {
        let mut certificates = self.certificates.clone();
        if let Some(password) = &self.key_password {
            let Some(key) = &certificates.key else { return Err(wrong("keyPassword", "has no key to open")) };
            certificates.key = Some(open(key, password)?);
        }
        Ok(certificates)
    }
}

fn open(key: &Secret, password: &Secret) -> Result<Secret, BuildError> {
    let other =
        || wrong("key", "is not encrypted as PKCS #8 (BEGIN ENCRYPTED PRIVATE KEY), though there is a keyPassword");
    let (label, locked) = SecretDocument::from_pem(key.reveal().trim()).map_err(|_| other())?;
    if label != EncryptedPrivateKeyInfoRef::PEM_LABEL {
        return Err(other());
    }
    let locked: EncryptedPrivateKeyInfoRef<'_> = locked.decode_msg().map_err(|_| other())?;
    let kdf = locked.encryption_algorithm.pbes2().map(|scheme| &scheme.kdf);
    if !kdf.is_some_and(is_affordable) {
        return Err(wrong("key", "is encrypted in a way that is not supported: it takes PBES2 with PBKDF2 or scrypt"));
    }
    let opened = locked.decrypt(password.reveal()).map_err(|_| wrong("keyPassword", "does not open the key"))?;
    // A wrong password may make bytes that happen to be padded well.
    opened.decode_msg::<PrivateKeyInfoRef<'_>>().map_err(|_| wrong("keyPassword", "does not open the key"))?;
    let pem = opened.to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).map_err(|_| other())?;
    Ok(pem.as_str().into())
}

/// Whether the password's way to its key ends within seconds: whoever writes the key says how long it is.
fn is_affordable(kdf: &Kdf) -> bool {
    match kdf {
        Kdf::Pbkdf2(parameters) => parameters.iteration_count <= ROUNDS,
        Kdf::Scrypt(parameters) => {
            let block = 128 * u64::from(parameters.block_size);
            parameters.cost_parameter.saturating_mul(block) <= MEMORY && parameters.parallelization <= 16
        }
        _ => false,
    }
}

fn wrong(parameter: &str, what: &str) -> BuildError {
    BuildError::new(format!("authenticationRef {parameter}"), what)
}

#[cfg(test)]
mod tests {
    use pkcs8::pkcs5::pbes2::{Pbkdf2Params, ScryptParams};

    use super::*;

    /// Made by `openssl ecparam -genkey -name prime256v1`, for these tests alone.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgsVPPqgZJUJmoBp27
7ymB80Q1StfgkLqMYtVbyy+radGhRANCAAQMf09Dxox7lXZGNu4Yk4ha3hxLoZ5x
yMsRCGqXH8lYbETNChc1Ao40/Rl9tghyJLmDr9ogFIl89HrvCibb7szE
-----END PRIVATE KEY-----
";
    /// The same, by `openssl pkcs8 -topk8` with the password `hunter2`.
    const LOCKED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjQ9nlzll+3AwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEDHDBTGNd9KDxX0jAyDOOlIEgZAU
/ZvC1R62B+arBPjq/qBViMRMTStwYkXsGx6eHPJb3+MZyPZ3dQRhAFnLtOLEByWU
KmtC1BZGSe6Vg/KuB0IsmGsumDYUeanXNg9SfUGjhCgJDlKXvrwuSMv+uEgMvLuK
EUn/pEEPXkXo/80eW09L77sdGK/KNqozP6UyIlOkvkH2M/b5LMmx+nlMRKROtsg=
-----END ENCRYPTED PRIVATE KEY-----
";
    /// And with `-v2 des3 -v2prf hmacWithSHA1`, as it did before version 1.1.
    const LOCKED_LONG_AGO: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHVMEAGCSqGSIb3DQEFDTAzMBsGCSqGSIb3DQEFDDAOBAhZo742dWzyfQICCAAw
FAYIKoZIhvcNAwcECIGhm+l6BP4QBIGQ6GIa2HCcjc/fYVxG+rZtWoqdjWQ2Wzdk
Ypo4WLaRLZOQ3anYIU1AQsu/fPaIwjoa/DFp5EggoETiIn5fHZ7gB9/TLgvg1gOw
tx1ID+DmQ3KFq99LR0Q6P+97xxLRoCgkMiNYn/rTf8fiYKdU6mF8nfuBE+Rd1v1y
mmtPHNSqreGDxOeim3sldHP12tfbJJam
-----END ENCRYPTED PRIVATE KEY-----
";

    fn opened(key: Option<&str>, password: Option<&str>) -> Result<Option<String>, String> {
        let certificates = Certificates { ca: None, cert: None, key: key.map(Secret::from) };
        let locked = LockedCertificates { certificates, key_password: password.map(Secret::from) };
        match locked.open() {
            Ok(certificates) => Ok(certificates.key.map(|key| key.reveal().to_owned())),
            Err(error) => Err(error.field),
        }
    }

    #[test]
    fn a_key_is_opened_with_its_password_and_no_other() {
        assert_eq!(opened(Some(LOCKED), Some("hunter2")), Ok(Some(KEY.into())));
        assert_eq!(opened(Some(LOCKED_LONG_AGO), Some("hunter2")), Ok(Some(KEY.into())));
        assert_eq!(opened(Some(LOCKED), Some("hunter3")), Err("authenticationRef keyPassword".into()));
        assert_eq!(opened(Some(KEY), None), Ok(Some(KEY.into())));
    }

    #[test]
    fn a_password_without_a_key_it_could_open_is_refused() {
        assert_eq!(opened(None, Some("hunter2")), Err("authenticationRef keyPassword".into()));
        assert_eq!(opened(Some(KEY), Some("hunter2")), Err("authenticationRef key".into()));
        assert_eq!(opened(Some("nonsense"), Some("hunter2")), Err("authenticationRef key".into()));
    }

    #[test]
    fn a_key_cannot_ask_for_hours_of_work() {
        let rounds = |rounds| is_affordable(&Kdf::Pbkdf2(Pbkdf2Params::hmac_sha256(rounds, b"saltsalt").unwrap()));
        assert!(rounds(600_000));
        assert!(!rounds(10_000_000));
        let scrypt = |cost| {
            let salt = Pbkdf2Params::hmac_sha256(1, b"saltsalt").unwrap().salt;
            is_affordable(&Kdf::Scrypt(ScryptParams {
                salt,
                cost_parameter: cost,
                block_size: 8,
                parallelization: 1,
                key_length: None,
            }))
        };
        assert!(scrypt(1 << 16));
        assert!(!scrypt(1 << 40));
    }
}
