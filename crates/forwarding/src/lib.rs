//! Longest-prefix routes, the neighbour cache with its ARP machine, next hop to egress and MAC.
