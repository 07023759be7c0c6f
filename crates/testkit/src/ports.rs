//! Free loopback ports.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex};

use anyhow::{Result, bail};

/// Below the range from which kernels take ports for outgoing connections, so that none of those gets in between.
const RANGE: std::ops::Range<u16> = 18_000..32_000;

static GIVEN: LazyLock<Mutex<BTreeSet<u16>>> = LazyLock::new(|| Mutex::new(BTreeSet::new()));

/// A port that nothing listens on and that this process has not given away before.
///
/// Processes start looking at different places, so that two test runs at once rarely try the same port.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().map_err(|_| anyhow::anyhow!("the port list is poisoned"))?;
    let size = u32::from(RANGE.end - RANGE.start);
    let first = std::process::id().wrapping_mul(617) % size;
    for step in 0..size {
        let port = RANGE.start + u16::try_from((first + step) % size).expect("below the size of the range");
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port in {RANGE:?}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_port_is_given_twice() {
        let ports: std::collections::BTreeSet<u16> = (0..20).map(|_| super::free().unwrap()).collect();
        assert_eq!(ports.len(), 20);
    }
}
