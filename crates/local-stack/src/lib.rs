//! The router as a host: smoltcp behind bounded punt rings, driving DHCP and DNS.
