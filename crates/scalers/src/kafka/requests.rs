//! The requests that are made, each in the oldest version that has what is needed.

use std::collections::BTreeMap;

use super::wire::{Read, Write};
use crate::error::ScalerError;

/// For [`offsets`]: after the last message.
pub(super) const LATEST: i64 = -1;
/// For [`offsets`]: at the first message that is still there.
pub(super) const EARLIEST: i64 = -2;

/// Offsets by topic and partition.
pub(super) type ByPartition = BTreeMap<(String, i32), i64>;

/// A kind of request: key and version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api(pub(super) i16, pub(super) i16);

pub(super) const LIST_OFFSETS: Api = Api(2, 1);
pub(super) const METADATA: Api = Api(3, 4);
pub(super) const OFFSET_FETCH: Api = Api(9, 2);
pub(super) const FIND_COORDINATOR: Api = Api(10, 1);
pub(super) const SASL_HANDSHAKE: Api = Api(17, 1);
pub(super) const SASL_AUTHENTICATE: Api = Api(36, 0);

/// A broker by its number, and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broker {
    pub(super) node: i32,
    pub(super) host: String,
    pub(super) port: u16,
}

/// A topic with its partitions: number, and the number of the broker that leads it (-1: nobody).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: Vec<(i32, i32)>,
}

impl Topic {
    /// Only these partitions, if any are named.
    pub(super) fn with(&self, only: &[i64]) -> Self {
        let wanted = |index: i32| only.is_empty() || only.contains(&i64::from(index));
        let partitions = self.partitions.iter().copied().filter(|(index, _)| wanted(*index)).collect();
        Self { name: self.name.clone(), partitions }
    }

    pub(super) fn indexes(&self) -> Vec<i32> {
        self.partitions.iter().map(|(index, _)| *index).collect()
    }
}

/// Asks for topics without creating those that are not there.
pub(super) fn metadata(topics: &[String]) -> Vec<u8> {
    let mut write = Write::default();
    write.each(topics, |write, name| {
        write.text(name);
    });
    write.i8(0);
    write.0
}

pub(super) fn read_metadata(body: &[u8]) -> Result<(Vec<Broker>, Vec<Topic>), ScalerError> {
    let mut read = Read(body);
    read.i32()?;
    let brokers = read.each(|read| {
        let broker = broker(read)?;
        read.text()?;
        Ok(broker)
    })?;
    read.text()?;
    read.i32()?;
    let topics = read.each(|read| {
        let error = read.i16()?;
        let name = read.name()?;
        read.bool()?;
        let partitions = read.each(|read| {
            read.i16()?;
            let partition = (read.i32()?, read.i32()?);
            read.each(Read::i32)?;
            read.each(Read::i32)?;
            Ok(partition)
        })?;
        judge(error, &format!("topic {name:?}"))?;
        Ok(Topic { name, partitions })
    })?;
    Ok((brokers, topics))
}

/// Node, host and port.
fn broker(read: &mut Read<'_>) -> Result<Broker, ScalerError> {
    let (node, host, port) = (read.i32()?, read.name()?, read.i32()?);
    Ok(Broker { node, host, port: u16::try_from(port).unwrap_or_default() })
}

pub(super) fn find_coordinator(group: &str) -> Vec<u8> {
    let mut write = Write::default();
    write.text(group).i8(0);
    write.0
}

pub(super) fn read_coordinator(body: &[u8], group: &str) -> Result<Broker, ScalerError> {
    let mut read = Read(body);
    read.i32()?;
    let error = read.i16()?;
    read.text()?;
    judge(error, &format!("consumer group {group:?}"))?;
    broker(&mut read)
}

/// Asks for committed offsets: of these partitions, or of all that there are.
pub(super) fn committed(group: &str, topics: Option<&[(String, Vec<i32>)]>) -> Vec<u8> {
    let mut write = Write::default();
    write.text(group);
    match topics {
        None => write.i32(-1),
        Some(topics) => write.each(topics, |write, (name, partitions)| {
            write.text(name).each(partitions, |write, index| {
                write.i32(*index);
            });
        }),
    };
    write.0
}

/// Committed offsets; -1 where there is none.
pub(super) fn read_committed(body: &[u8], group: &str) -> Result<ByPartition, ScalerError> {
    let mut read = Read(body);
    let topics = read.each(|read| {
        let topic = read.name()?;
        let partitions = read.each(|read| {
            let (index, offset) = (read.i32()?, read.i64()?);
            read.text()?;
            judge(read.i16()?, &format!("committed offset of topic {topic:?}, partition {index}"))?;
            Ok(((topic.clone(), index), offset))
        })?;
        Ok(partitions)
    })?;
    judge(read.i16()?, &format!("consumer group {group:?}"))?;
    Ok(topics.into_iter().flatten().collect())
}

/// Asks for offsets in the log: [`LATEST`] or [`EARLIEST`].
pub(super) fn offsets(partitions: &[(String, Vec<i32>)], which: i64) -> Vec<u8> {
    let mut write = Write::default();
    write.i32(-1).each(partitions, |write, (name, indexes)| {
        write.text(name).each(indexes, |write, index| {
            write.i32(*index).i64(which);
        });
    });
    write.0
}

pub(super) fn read_offsets(body: &[u8]) -> Result<ByPartition, ScalerError> {
    let topics = Read(body).each(|read| {
        let topic = read.name()?;
        read.each(|read| {
            let (index, error) = (read.i32()?, read.i16()?);
            read.i64()?;
            let offset = read.i64()?;
            judge(error, &format!("topic {topic:?}, partition {index}"))?;
            Ok(((topic.clone(), index), offset))
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}

pub(super) fn handshake(mechanism: &str) -> Vec<u8> {
    let mut write = Write::default();
    write.text(mechanism);
    write.0
}

pub(super) fn read_handshake(body: &[u8], mechanism: &str) -> Result<(), ScalerError> {
    judge(Read(body).i16()?, &format!("sasl {mechanism}"))
}

pub(super) fn authenticate(bytes: &[u8]) -> Vec<u8> {
    let mut write = Write::default();
    write.bytes(bytes);
    write.0
}

pub(super) fn read_authenticate(body: &[u8]) -> Result<Vec<u8>, ScalerError> {
    let mut read = Read(body);
    let error = read.i16()?;
    let message = read.text()?.unwrap_or_default();
    judge(error, &format!("sasl: {}", crate::http::shorten(&message)))?;
    Ok(read.bytes()?.to_vec())
}

/// What an error code means for the caller.
fn judge(code: i16, about: &str) -> Result<(), ScalerError> {
    let what = |text: &str| format!("{about}: {text}");
    Err(match code {
        0 => return Ok(()),
        3 => ScalerError::Misconfigured { what: what("does not exist") },
        17 | 24 => ScalerError::Misconfigured { what: what("the name is not valid") },
        29..=31 => ScalerError::Unauthorized { what: what("we are not authorized") },
        33 => ScalerError::Misconfigured { what: what("the broker does not offer this mechanism") },
        35 => ScalerError::Misconfigured { what: what("the broker is older than 0.11, or does not know the request") },
        58 => ScalerError::Unauthorized { what: what("the broker refuses the login") },
        // Leaders and coordinators that move or load are there again soon.
        other => ScalerError::Unavailable(what(&format!("Kafka's error {other}")).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: i16) -> &'static str {
        match judge(code, "x") {
            Ok(()) => "fine",
            Err(ScalerError::Misconfigured { .. }) => "question",
            Err(ScalerError::Unauthorized { .. }) => "credentials",
            Err(_) => "later",
        }
    }

    #[test]
    fn a_code_says_what_to_do_next() {
        for (code, wanted) in [
            (0, "fine"),
            (3, "question"),
            (6, "later"),
            (15, "later"),
            (29, "credentials"),
            (58, "credentials"),
            (-1, "later"),
        ] {
            assert_eq!(kind(code), wanted, "{code}");
        }
    }

    #[test]
    fn committed_offsets_are_read_by_partition() {
        let mut write = Write::default();
        write.i32(1).text("t").i32(2);
        write.i32(0).i64(40).text("").i16(0);
        write.i32(1).i64(-1).i16(-1).i16(0);
        let whole = [write.0.clone(), vec![0, 0]].concat();
        let read = read_committed(&whole, "g").unwrap();
        assert_eq!(read, [(("t".to_owned(), 0), 40), (("t".to_owned(), 1), -1)].into());
        for cut in 0..whole.len() {
            assert!(read_committed(&whole[..cut], "g").is_err(), "{cut}");
        }
        let refused = [write.0, vec![0, 30]].concat();
        assert!(matches!(read_committed(&refused, "g"), Err(ScalerError::Unauthorized { .. })));
    }

    #[test]
    fn a_topic_is_cut_down_to_the_partitions_that_count() {
        let topic = Topic { name: "t".into(), partitions: vec![(0, 1), (1, 1), (5, 2)] };
        assert_eq!(topic.with(&[]).indexes(), [0, 1, 5]);
        assert_eq!(topic.with(&[5, 9]).indexes(), [5]);
    }
}
