//! The path of a packet: outbound and inbound, in passes over a batch; snapshot, verdicts, counters.
