//! DHCP client and server machines (RFC 2131), leases; speaks frames, not sockets.
