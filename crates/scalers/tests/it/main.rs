//! Scalers against real servers, and `docs/scalers/` against the types.

mod docs;
mod etcd;
mod prometheus;
mod redis;
mod support;
