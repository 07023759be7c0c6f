//! Scalers against real servers, and `docs/scalers/` against the types.

#![expect(clippy::unwrap_used, reason = "what fails here ends a test")]

mod aws;
mod aws_secrets;
mod docs;
mod etcd;
mod external;
mod kafka;
mod kafka_kerberos;
mod mysql;
mod nats;
mod postgresql;
mod prometheus;
mod rabbitmq;
mod redis;
mod support;
