//! Policy: which LAN may open sessions where, and which source addresses may arrive on which link.
