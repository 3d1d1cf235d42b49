//! Records to be stored together.

use dhcp::{client, server};
use packet::MacAddr;
use redb::WriteTransaction;
use serde::Serialize;

use crate::tables::{BINDINGS, COUNTERS, RESERVATIONS, VALUES, WAN_LEASES};

/// Records gathered for one commit, applied in order.
#[derive(Debug, Default)]
pub struct Batch {
    writes: Vec<Write>,
}

impl Batch {
    /// Makes an empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Takes everything out again.
    pub fn clear(&mut self) {
        self.writes.clear();
    }

    /// Adds what the server of a LAN wants stored.
    pub fn push_lan(&mut self, lan: &str, record: &server::StoreRecord) {
        let lan = lan.to_owned();
        self.writes.push(match record {
            server::StoreRecord::Binding(binding) => {
                Write::Binding(lan, binding.address.into(), Some(to_json(binding)))
            }
            server::StoreRecord::Forget(address) => Write::Binding(lan, (*address).into(), None),
            server::StoreRecord::Reservation(reservation) => {
                Write::Reservation(lan, reservation.mac, Some(to_json(reservation)))
            }
            server::StoreRecord::Unreserve(mac) => Write::Reservation(lan, *mac, None),
        });
    }

    /// Adds what the client of a WAN link wants stored.
    pub fn push_wan(&mut self, link: &str, record: &client::StoreRecord) {
        let lease = match record {
            client::StoreRecord::Keep(lease) => Some(to_json(lease)),
            client::StoreRecord::Forget => None,
        };
        self.writes.push(Write::WanLease(link.to_owned(), lease));
    }

    /// Adds a value of the caller's, in place of what is stored under its kind and key.
    ///
    /// # Errors
    /// If the value has no JSON form, such as a map whose keys are not text.
    pub fn put_value<T: Serialize>(
        &mut self,
        kind: &str,
        key: &str,
        value: &T,
    ) -> Result<(), serde_json::Error> {
        let json = serde_json::to_vec(value)?;
        self.writes.push(Write::Value(kind.to_owned(), key.to_owned(), Some(json)));
        Ok(())
    }

    /// Adds the removal of a value.
    pub fn remove_value(&mut self, kind: &str, key: &str) {
        self.writes.push(Write::Value(kind.to_owned(), key.to_owned(), None));
    }

    /// Adds a new reading of a counter.
    pub fn set_counter(&mut self, name: &str, value: u64) {
        self.writes.push(Write::Counter(name.to_owned(), value));
    }

    pub(crate) fn apply(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut bindings = transaction.open_table(BINDINGS)?;
        let mut reservations = transaction.open_table(RESERVATIONS)?;
        let mut wan_leases = transaction.open_table(WAN_LEASES)?;
        let mut values = transaction.open_table(VALUES)?;
        let mut counters = transaction.open_table(COUNTERS)?;
        for write in &self.writes {
            match write {
                Write::Binding(lan, address, Some(json)) => {
                    bindings.insert((lan.as_str(), *address), json.as_slice())?;
                }
                Write::Binding(lan, address, None) => {
                    bindings.remove((lan.as_str(), *address))?;
                }
                Write::Reservation(lan, mac, Some(json)) => {
                    reservations.insert((lan.as_str(), mac.0), json.as_slice())?;
                }
                Write::Reservation(lan, mac, None) => {
                    reservations.remove((lan.as_str(), mac.0))?;
                }
                Write::WanLease(link, Some(json)) => {
                    wan_leases.insert(link.as_str(), json.as_slice())?;
                }
                Write::WanLease(link, None) => {
                    wan_leases.remove(link.as_str())?;
                }
                Write::Value(kind, key, Some(json)) => {
                    values.insert((kind.as_str(), key.as_str()), json.as_slice())?;
                }
                Write::Value(kind, key, None) => {
                    values.remove((kind.as_str(), key.as_str()))?;
                }
                Write::Counter(name, value) => {
                    counters.insert(name.as_str(), value)?;
                }
            }
        }
        Ok(())
    }
}

/// One row to be written; no value stands for removal.
#[derive(Debug)]
enum Write {
    Binding(String, u32, Option<Vec<u8>>),
    Reservation(String, MacAddr, Option<Vec<u8>>),
    WanLease(String, Option<Vec<u8>>),
    Value(String, String, Option<Vec<u8>>),
    Counter(String, u64),
}

fn to_json<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records of dhcp are structs of numbers and text")
}
