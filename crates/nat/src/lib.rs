//! NAT44: mappings, filtering, sessions, ports, timeouts, ICMP errors, hairpinning, port forwards.
