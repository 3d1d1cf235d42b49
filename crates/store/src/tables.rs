//! The tables of schema 1.

use redb::{TableDefinition, WriteTransaction};

/// Facts about the file itself.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// (LAN, address) to a binding in JSON.
pub(crate) const BINDINGS: TableDefinition<'_, (&str, u32), &[u8]> =
    TableDefinition::new("dhcp-bindings");
/// (LAN, MAC address) to a runtime reservation in JSON.
pub(crate) const RESERVATIONS: TableDefinition<'_, (&str, [u8; 6]), &[u8]> =
    TableDefinition::new("dhcp-reservations");
/// WAN link to its lease in JSON.
pub(crate) const WAN_LEASES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("wan-leases");
/// (kind, key) to a caller's value in JSON.
pub(crate) const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("values");
/// Counters that outlive the process.
pub(crate) const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// Makes those tables that do not exist, so that a reader need not know.
pub(crate) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(BINDINGS)?;
    transaction.open_table(RESERVATIONS)?;
    transaction.open_table(WAN_LEASES)?;
    transaction.open_table(VALUES)?;
    transaction.open_table(COUNTERS)?;
    Ok(())
}
