//! Leases, runtime forwards and reservations on stable storage (redb).
