//! Who may still come in: so many at once in all and per address, be it sessions or connections. A
//! place is given back when its holder is dropped, however that ended.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// Those who are inside.
#[derive(Debug)]
pub struct Admission {
    in_all_max: usize,
    /// 0: no limit.
    per_address_max: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    in_all: usize,
    /// Only while there is a limit; an entry goes with its last.
    per_address: HashMap<IpAddr, usize>,
}

/// One's place.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    Full,
    TooManyFromAddress,
}

impl Admission {
    pub fn new(in_all_max: usize, per_address_max: usize) -> Self {
        Self { in_all_max, per_address_max, inside: Mutex::default() }
    }

    /// None: one whose address says nothing, such as a proxy's, counts in all alone.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Admitted, NotAdmitted> {
        let address = address.filter(|_| self.per_address_max > 0).map(network);
        let mut inside = self.lock();
        if inside.in_all >= self.in_all_max {
            return Err(NotAdmitted::Full);
        }
        if let Some(address) = address {
            let here = inside.per_address.entry(address).or_default();
            if *here >= self.per_address_max {
                return Err(NotAdmitted::TooManyFromAddress);
            }
            *here += 1;
        }
        inside.in_all += 1;
        Ok(Admitted { admission: Arc::clone(self), address })
    }

    pub fn inside(&self) -> usize {
        self.lock().in_all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Admitted {
    /// Whether its address has half of its places or more: who has no need of one had better go.
    pub fn is_crowded(&self) -> bool {
        let inside = self.admission.lock();
        let here = self.address.and_then(|address| inside.per_address.get(&address));
        here.is_some_and(|here| *here > self.admission.per_address_max / 2)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut inside = self.admission.lock();
        inside.in_all -= 1;
        if let Some(address) = self.address
            && let Some(here) = inside.per_address.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                inside.per_address.remove(&address);
            }
        }
    }
}

/// What one subscriber is given: an IPv4 address, or an IPv6 /64 (RFC 6177).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_per_network_and_given_back() {
        let admission = Arc::new(Admission::new(3, 2));
        let address = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        let first = admission.admit(address("2001:db8::1")).expect("room");
        assert!(!first.is_crowded(), "one of two");
        let _second = admission.admit(address("2001:db8::ffff:2")).expect("room");
        assert!(first.is_crowded(), "two of two");
        let third = admission.admit(address("2001:db8::3")).map(|_| ());
        assert_eq!(third, Err(NotAdmitted::TooManyFromAddress), "one /64");
        let other = admission.admit(address("192.0.2.1")).expect("room");
        assert!(!other.is_crowded(), "other addresses do not count");
        assert_eq!(admission.admit(address("192.0.2.2")).map(|_| ()), Err(NotAdmitted::Full));
        assert_eq!(admission.admit(None).map(|_| ()), Err(NotAdmitted::Full));
        drop(first);
        drop(admission.admit(None).expect("room for a proxy"));
        assert!(
            admission.admit(address("::ffff:192.0.2.1")).is_ok(),
            "the second of that IPv4 address"
        );
        assert_eq!(admission.inside(), 2);
        assert_eq!(admission.lock().per_address.len(), 2);
    }
}
