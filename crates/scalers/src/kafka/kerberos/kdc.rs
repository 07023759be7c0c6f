//! Connections to the KDCs of a realm.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::exchange::Answer;
use super::refusal::{SERVICE_UNAVAILABLE, odd};
use crate::error::ScalerError;
use crate::net::Address;

/// How long one KDC may take before the next one is asked. A login takes three questions, so the second of two KDCs is
/// asked within the deadline of a reading, and the first one not again.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most bytes of an answer. A ticket with the groups of somebody who is in many has some 60,000.
const ANSWER_BYTES: usize = 256 << 10;

/// The KDCs of a realm. There is at least one.
#[derive(Debug)]
pub(super) struct Kdcs {
    all: Vec<Address>,
    /// Which one answered last; it is asked first.
    first: AtomicUsize,
}

impl Kdcs {
    pub(super) fn new(all: Vec<Address>) -> Self {
        Self { all, first: AtomicUsize::new(0) }
    }

    /// Asks one KDC after the other, until one answers.
    ///
    /// # Errors
    /// None does. The error is of the one that was asked last.
    pub(super) async fn ask(&self, question: &[u8]) -> Result<Answer, ScalerError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut last = odd();
        for place in (first..self.all.len()).chain(0..first) {
            let kdc = &self.all[place];
            match timeout(PATIENCE, exchange(kdc, question)).await {
                Ok(Ok(answer)) => match Answer::read(&answer) {
                    Some(Answer::Refused(error)) if error.code == SERVICE_UNAVAILABLE => {
                        last = kdc.unavailable(&"it says that it is not available");
                    }
                    Some(answer) => {
                        self.first.store(place, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    None => last = kdc.unavailable(&"its answer is not one of Kerberos"),
                },
                Ok(Err(error)) => last = kdc.unavailable(&error),
                Err(_) => last = kdc.unavailable(&format!("it did not answer within {PATIENCE:?}")),
            }
        }
        Err(last)
    }
}

/// One question and its answer over TCP (RFC 4120, 7.2.2).
async fn exchange(kdc: &Address, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut wire = kdc.connect().await?;
    let length = u32::try_from(question.len()).map_err(io::Error::other)?;
    wire.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    wire.flush().await?;
    let length = usize::try_from(wire.read_u32().await?).ok().filter(|length| *length <= ANSWER_BYTES);
    let mut answer = vec![0; length.ok_or_else(|| io::Error::other("its answer is too long"))?];
    wire.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::encoding::encode_as;
    use super::super::messages::{KRB_ERROR, KrbError};
    use super::*;

    /// A server that answers everything with these bytes.
    async fn kdc(answer: Vec<u8>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let length = stream.read_u32().await.unwrap();
                let mut question = vec![0; usize::try_from(length).unwrap()];
                stream.read_exact(&mut question).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Address { setting: "kdc", host: "127.0.0.1".into(), port, tls: None }
    }

    fn refusal(code: i32) -> Vec<u8> {
        let error = KrbError::of(code, Duration::ZERO);
        let error = encode_as(KRB_ERROR, error);
        [&u32::try_from(error.len()).unwrap().to_be_bytes()[..], &error].concat()
    }

    async fn error(kdcs: Vec<Address>) -> String {
        Kdcs::new(kdcs).ask(b"question").await.unwrap_err().text()
    }

    #[tokio::test]
    async fn the_next_kdc_is_asked_and_then_first() {
        let nobody = Address { setting: "kdc", host: "127.0.0.1".into(), port: 1, tls: None };
        let kdcs = Kdcs::new(vec![nobody, kdc(refusal(SERVICE_UNAVAILABLE)).await, kdc(refusal(6)).await]);
        for _ in 0..2 {
            let answer = kdcs.ask(b"question").await.unwrap();
            assert!(matches!(answer, Answer::Refused(error) if error.code == 6));
            assert_eq!(kdcs.first.load(Ordering::Relaxed), 2);
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_last_one_is_told() {
        let nobody = Address { setting: "kdc", host: "127.0.0.1".into(), port: 1, tls: None };
        assert!(error(vec![nobody]).await.contains("kdc 127.0.0.1:1: Connection refused"));
        assert!(error(vec![kdc(vec![0xFF; 4]).await]).await.contains("its answer is too long"));
        assert!(error(vec![kdc(vec![0, 0, 0, 2, 0x7E, 0]).await]).await.contains("not one of Kerberos"));
        assert!(error(vec![kdc(refusal(SERVICE_UNAVAILABLE)).await]).await.contains("not available"));
    }
}
