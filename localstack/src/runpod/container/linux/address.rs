//! The addresses of containers: one for each pod, of a network that nothing else on the host has.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

/// The network, and its prefix length.
pub(super) const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 89, 0, 0), 16);

/// Numbers within it that are given out.
const FIRST: u32 = 2;
const LAST: u32 = 65_000;

/// Those that are in use.
#[derive(Debug, Default)]
pub(super) struct Addresses(Arc<Mutex<BTreeSet<u32>>>);

/// An address in use. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    number: u32,
    used: Arc<Mutex<BTreeSet<u32>>>,
}

impl Addresses {
    /// The lowest that is free.
    pub(super) fn lease(&self) -> anyhow::Result<Lease> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (FIRST..=LAST).find(|number| !used.contains(number)).context("no address is free")?;
        used.insert(number);
        drop(used);
        Ok(Lease { number, used: self.0.clone() })
    }
}

impl Lease {
    pub(super) fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(NETWORK.0) + self.number)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_pods_until_it_is_given_back() {
        let addresses = Addresses::default();
        let (first, second) = (addresses.lease().unwrap(), addresses.lease().unwrap());
        assert_eq!((first.ip(), second.ip()), (Ipv4Addr::new(10, 89, 0, 2), Ipv4Addr::new(10, 89, 0, 3)));
        drop(first);
        assert_eq!(addresses.lease().unwrap().ip(), Ipv4Addr::new(10, 89, 0, 2));
    }
}
