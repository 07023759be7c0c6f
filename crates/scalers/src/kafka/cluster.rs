//! Connections to the brokers of a cluster.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::requests::{
    Api, Broker, ByPartition, FIND_COORDINATOR, LIST_OFFSETS, METADATA, OFFSET_FETCH, Topic, committed,
    find_coordinator, metadata, offsets, read_committed, read_coordinator, read_metadata, read_offsets,
};
use super::sasl::Sasl;
use super::wire::{Read, Write, odd};
use crate::error::ScalerError;
use crate::net::{Address, Wire};

/// How we call ourselves in the brokers' logs and quotas.
pub(super) const CLIENT: &str = "tandem";
/// Most bytes of an answer. 100,000 partitions, more than a cluster can have, take half of it.
const ANSWER_BYTES: usize = 8 << 20;

/// Where to begin, and who we are.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) bootstrap: Vec<Address>,
    pub(super) sasl: Option<Sasl>,
}

/// Connections to brokers by their number, and one to begin with.
pub(crate) struct Line {
    first: Connection,
    /// How the first one was reached; the others are reached the same way.
    address: Address,
    brokers: BTreeMap<i32, Broker>,
    others: BTreeMap<i32, Connection>,
}

/// A connection that is logged in.
pub(super) struct Connection {
    wire: Wire,
    number: i32,
}

impl Cluster {
    /// Connects to the first broker that answers.
    pub(super) async fn dial(&self) -> Result<Line, ScalerError> {
        let mut last = ScalerError::Unavailable("there is no broker".into());
        for address in &self.bootstrap {
            match self.connect(address).await {
                Ok(first) => {
                    let address = address.clone();
                    return Ok(Line { first, address, brokers: BTreeMap::new(), others: BTreeMap::new() });
                }
                Err(error @ ScalerError::Unavailable(_)) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn connect(&self, address: &Address) -> Result<Connection, ScalerError> {
        let wire = address.connect().await.map_err(|error| address.unavailable(&error))?;
        let mut connection = Connection { wire, number: 0 };
        if let Some(sasl) = &self.sasl {
            sasl.log_in(&mut connection, &address.host).await?;
        }
        Ok(connection)
    }

    /// The topics as they are now, with who leads what.
    pub(super) async fn topics(&self, line: &mut Line, names: &[String]) -> Result<Vec<Topic>, ScalerError> {
        let (brokers, topics) = read_metadata(&line.first.ask(METADATA, &metadata(names)).await?)?;
        line.brokers.extend(brokers.into_iter().map(|broker| (broker.node, broker)));
        Ok(topics)
    }

    /// The broker that looks after the group.
    pub(super) async fn coordinator(&self, line: &mut Line, group: &str) -> Result<i32, ScalerError> {
        let answer = line.first.ask(FIND_COORDINATOR, &find_coordinator(group)).await?;
        let broker = read_coordinator(&answer, group)?;
        let node = broker.node;
        line.brokers.insert(node, broker);
        Ok(node)
    }

    pub(super) async fn committed(
        &self,
        line: &mut Line,
        coordinator: i32,
        group: &str,
        topics: Option<&[(String, Vec<i32>)]>,
    ) -> Result<ByPartition, ScalerError> {
        let question = committed(group, topics);
        read_committed(&self.to(line, coordinator).await?.ask(OFFSET_FETCH, &question).await?, group)
    }

    /// Offsets in the logs, from those who lead them.
    pub(super) async fn offsets(
        &self,
        line: &mut Line,
        topics: &[Topic],
        which: i64,
    ) -> Result<ByPartition, ScalerError> {
        let mut all = ByPartition::new();
        for (leader, partitions) in by_leader(topics)? {
            let answer = self.to(line, leader).await?.ask(LIST_OFFSETS, &offsets(&partitions, which)).await?;
            all.extend(read_offsets(&answer)?);
        }
        Ok(all)
    }

    async fn to<'a>(&self, line: &'a mut Line, node: i32) -> Result<&'a mut Connection, ScalerError> {
        let broker = line.brokers.get(&node);
        let broker = broker.ok_or_else(|| ScalerError::Unavailable(format!("broker {node} is not there").into()))?;
        let here = line.others.remove(&node);
        let connection = if let Some(connection) = here {
            connection
        } else {
            let (host, port) = (broker.host.clone(), broker.port);
            self.connect(&Address { setting: "broker", host, port, ..line.address.clone() }).await?
        };
        Ok(line.others.entry(node).or_insert(connection))
    }
}

/// Topics and partitions by the number of a broker.
type ByLeader = BTreeMap<i32, Vec<(String, Vec<i32>)>>;

/// What to ask whom.
fn by_leader(topics: &[Topic]) -> Result<ByLeader, ScalerError> {
    let mut all = ByLeader::new();
    for topic in topics {
        let mut mine: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (index, leader) in &topic.partitions {
            if *leader < 0 {
                let what = format!("topic {:?}, partition {index} has no leader", topic.name);
                return Err(ScalerError::Unavailable(what.into()));
            }
            mine.entry(*leader).or_default().push(*index);
        }
        for (leader, indexes) in mine {
            all.entry(leader).or_default().push((topic.name.clone(), indexes));
        }
    }
    Ok(all)
}

impl Connection {
    /// One request and its answer.
    pub(super) async fn ask(&mut self, Api(key, version): Api, body: &[u8]) -> Result<Vec<u8>, ScalerError> {
        self.number = self.number.wrapping_add(1);
        let mut head = Write::default();
        head.i16(key).i16(version).i32(self.number).text(CLIENT);
        let mut frame = Write::default();
        frame.length(head.0.len() + body.len());
        frame.0.extend(head.0);
        frame.0.extend(body);
        let broken = |error: std::io::Error| ScalerError::Unavailable(Box::new(error));
        self.wire.write_all(&frame.0).await.map_err(broken)?;
        self.wire.flush().await.map_err(broken)?;
        let mut size = [0; 4];
        self.wire.read_exact(&mut size).await.map_err(broken)?;
        let size = usize::try_from(i32::from_be_bytes(size)).ok().filter(|size| *size <= ANSWER_BYTES);
        let mut answer = vec![0; size.ok_or_else(odd)?];
        self.wire.read_exact(&mut answer).await.map_err(broken)?;
        let mut read = Read(&answer);
        if read.i32()? != self.number {
            return Err(odd());
        }
        Ok(read.0.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leader_is_asked_for_its_own_partitions() {
        let topic =
            |name: &str, partitions: &[(i32, i32)]| Topic { name: name.into(), partitions: partitions.to_vec() };
        let asked = by_leader(&[topic("a", &[(0, 1), (1, 2), (2, 1)]), topic("b", &[(0, 2)])]).unwrap();
        let wanted =
            [(1, vec![("a".to_owned(), vec![0, 2])]), (2, vec![("a".to_owned(), vec![1]), ("b".to_owned(), vec![0])])];
        assert_eq!(asked, wanted.into());
        assert!(by_leader(&[topic("a", &[(0, -1)])]).is_err());
    }
}
