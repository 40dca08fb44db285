//! A subnet's addresses: handed out in turn, given back, and withheld when a test wants them scarce.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::estate::Cidr;

/// AWS keeps the first four and the last.
const KEPT_FIRST: u32 = 4;
const KEPT_LAST: u32 = 1;

/// The addresses of one subnet.
#[derive(Debug)]
pub struct Addresses {
    first: u32,
    size: u32,
    used: BTreeSet<u32>,
    /// Where the search for the next begins: an address rests for as long as possible before it is used again.
    next: u32,
    withheld: u32,
}

/// Why an address that was asked for by name is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    InUse,
    /// Not in the subnet, or kept by AWS.
    OutOfRange,
}

impl Addresses {
    #[must_use]
    pub fn new(cidr: Cidr) -> Self {
        let block = 1_u32 << (32 - u32::from(cidr.bits));
        Self {
            first: u32::from(cidr.address) + KEPT_FIRST,
            size: block - KEPT_FIRST - KEPT_LAST,
            used: BTreeSet::new(),
            next: 0,
            withheld: 0,
        }
    }

    /// How many can still be had.
    #[must_use]
    pub fn free(&self) -> u32 {
        let used = u32::try_from(self.used.len()).unwrap_or(u32::MAX);
        self.size.saturating_sub(used).saturating_sub(self.withheld)
    }

    /// Withholds so many that `free` remain (or fewer, if fewer are unused).
    pub fn leave(&mut self, free: u32) {
        self.withheld = 0;
        self.withheld = self.free().saturating_sub(free);
    }

    /// Takes one address.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        if self.free() == 0 {
            return None;
        }
        let offset =
            (0..self.size).map(|n| (self.next + n) % self.size).find(|offset| !self.used.contains(offset))?;
        self.used.insert(offset);
        self.next = (offset + 1) % self.size;
        Some(Ipv4Addr::from(self.first + offset))
    }

    /// Whether this very address could be taken.
    pub fn check(&self, address: Ipv4Addr) -> Result<(), Taken> {
        match u32::from(address).checked_sub(self.first).filter(|offset| *offset < self.size) {
            None => Err(Taken::OutOfRange),
            Some(offset) if self.used.contains(&offset) => Err(Taken::InUse),
            Some(_) => Ok(()),
        }
    }

    /// Takes this very address, which must have been checked.
    pub fn take_this(&mut self, address: Ipv4Addr) {
        self.used.insert(u32::from(address).saturating_sub(self.first));
    }

    pub fn give_back(&mut self, address: Ipv4Addr) {
        self.used.remove(&u32::from(address).saturating_sub(self.first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(bits: u8) -> Addresses {
        Addresses::new(Cidr { address: Ipv4Addr::new(10, 88, 1, 0), bits })
    }

    #[test]
    fn the_first_four_and_the_last_are_never_handed_out() {
        let mut addresses = subnet(24);
        assert_eq!(addresses.free(), 251);
        let all: Vec<u8> =
            std::iter::from_fn(|| addresses.take()).map(|address| address.octets()[3]).collect();
        assert_eq!(all, (4..=254).collect::<Vec<u8>>());
        assert_eq!(addresses.free(), 0);
    }

    #[test]
    fn a_returned_address_rests_until_the_others_were_used() {
        let mut addresses = subnet(28);
        let first = addresses.take().unwrap();
        addresses.give_back(first);
        let others: Vec<_> = (0..10).map(|_| addresses.take().unwrap()).collect();
        assert!(!others.contains(&first));
        assert_eq!(addresses.take(), Some(first));
    }

    #[test]
    fn withheld_addresses_stay_withheld_when_others_come_back() {
        let mut addresses = subnet(24);
        let taken = addresses.take().unwrap();
        addresses.leave(1);
        assert!(addresses.take().is_some());
        assert_eq!(addresses.take(), None);
        addresses.give_back(taken);
        assert_eq!(addresses.free(), 1);
        addresses.leave(1000);
        assert_eq!(addresses.free(), 250);
    }

    #[test]
    fn an_address_asked_for_by_name_must_be_free_and_inside() {
        let mut addresses = subnet(24);
        let wanted = Ipv4Addr::new(10, 88, 1, 77);
        assert_eq!(addresses.check(wanted), Ok(()));
        addresses.take_this(wanted);
        assert_eq!(addresses.check(wanted), Err(Taken::InUse));
        for outside in [[10, 88, 1, 3], [10, 88, 1, 255], [10, 88, 2, 9]] {
            assert_eq!(addresses.check(Ipv4Addr::from(outside)), Err(Taken::OutOfRange));
        }
    }
}
