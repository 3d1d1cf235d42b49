//! The peer to measure against: the kernel's own router with nftables masquerade.
//!
//! It hangs on the same bridge and the same NIC as the router's zone, by links of the same kinds. A host
//! that shall use it gets one more route, so hosts, programs and all other links are the same for both.

use anyhow::Result;

use super::{House, ISP_OTHER, Stub};
use crate::Namespace;

/// Its address on the home LAN.
const LAN: &str = "10.0.0.254";

/// The kernel router's address on the ISP's subnet, outside the ISP's pool.
pub const KERNEL_WAN: &str = "198.51.100.20";

const RULES: &str = "table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan0\" masquerade
    }
}
";

const DROP_SYN: &str = "table ip filter {
    chain input {
        type filter hook input priority filter; policy accept;
        iifname \"wan0\" tcp flags & (syn | ack) == syn drop
    }
}
";

/// A running kernel router.
#[derive(Debug)]
pub struct KernelRouter {
    zone: Namespace,
}

impl KernelRouter {
    /// Sets it up on the home LAN, which has to exist.
    ///
    /// # Errors
    /// If a command fails.
    pub fn start(house: &House) -> Result<Self> {
        let zone = house.lab().namespace("kernel")?;
        house.lab().veth((&zone, "lan0"), (&house.host, "r-kernel"))?;
        let master = ["ip", "link", "set", "dev", "r-kernel", "master", Stub::Home.bridge()];
        house.host.exec(master)?;
        let wan = ["ip", "link", "add", "link", "igb0", "name", "wan0", "netns", zone.name()];
        house.host.exec(wan.into_iter().chain(["type", "macvlan", "mode", "bridge"]))?;
        for (link, address) in [("lan0", LAN), ("wan0", KERNEL_WAN)] {
            zone.exec(["ip", "link", "set", "dev", link, "up"])?;
            zone.exec(["ip", "address", "add", &format!("{address}/24"), "dev", link])?;
        }
        zone.sysctl("net.ipv4.ip_forward", "1")?;
        zone.exec_with_input(["nft", "-f", "-"], RULES)?;
        Ok(Self { zone })
    }

    /// The address of the ISP that `host` reaches through the kernel's router from now on.
    ///
    /// # Errors
    /// If a command fails.
    pub fn reach(&self, host: &Namespace) -> Result<&'static str> {
        host.exec(["ip", "route", "replace", ISP_OTHER, "via", LAN])?;
        Ok(ISP_OTHER)
    }

    /// Drops from now on what asks for a connection with the router itself: the first rule that people write
    /// against a flood.
    ///
    /// # Errors
    /// If the command fails.
    pub fn drop_syn(&self) -> Result<()> {
        self.zone.exec_with_input(["nft", "-f", "-"], DROP_SYN)?;
        Ok(())
    }

    /// Makes `host`, which has no address yet, one of the home LAN that goes everywhere by the kernel's
    /// router.
    ///
    /// # Errors
    /// If a command fails.
    pub fn move_in(&self, host: &Namespace, address: &str) -> Result<()> {
        host.exec(["ip", "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        host.exec(["ip", "route", "add", "default", "via", LAN])?;
        Ok(())
    }
}
