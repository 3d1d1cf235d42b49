//! One house on one line: the topology that the demo shows and the namespace tests stand on.
//!
//! ```text
//!  remote ───── isp ═════════ host ─ igb0 ┬ wan0 ┐
//!  203.0.113.10     198.51.100.0/24       │      ├ router ┬ lan0 ─ zrstub0 ┬ eth0 LAN hosts
//!                                         │      │        │   10.0.0.0/24  └ eth0 web
//!                                         │      └────────┴ lan1 ─ zrstub1 ─ eth0 DMZ hosts
//!                                         │                     10.0.1.0/24
//! ```
//!
//! `isp` runs a DHCP and a DNS server (dnsmasq) and routes to `remote`, which is one more hop away; both
//! run a web server. `host` is the box: its bridges stand for etherstubs and its NIC `igb0` leads to the
//! ISP. The router's zone is attached either by the lab ([`House::attach_router`]) or by the program
//! under test, in the namespace that [`House::router`] names.

mod client;
mod kernel;
mod peers;
mod router;
mod stun;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result};

use crate::{Lab, Namespace, Process};

pub use client::{Client, Lease};
pub use kernel::{KERNEL_WAN, KernelRouter};
pub use peers::{REMOTE_PAGE, WEB_PAGE};
pub use router::{Control, Programs, Router};
pub use stun::{Behaviour, Dependence};

/// The ISP's end of the line: gateway, DHCP and DNS server.
pub const ISP: &str = "198.51.100.1";
/// A second address of the ISP, for hosts that take another way to it.
pub const ISP_OTHER: &str = "198.51.100.2";
/// First part of every address that the ISP leases.
pub const ISP_SUBNET: &str = "198.51.100.";
/// A host one hop behind the ISP.
pub const REMOTE: &str = "203.0.113.10";
/// A name that the ISP's DNS server resolves to [`REMOTE`].
pub const REMOTE_NAME: &str = "www.example.net";
/// The router's address in the home LAN.
pub const HOME_ROUTER: &str = "10.0.0.1";
/// The router's address in the DMZ.
pub const DMZ_ROUTER: &str = "10.0.1.1";
/// What the home LAN's web server gets by its reservation.
pub const WEB: &str = "10.0.0.5";
/// Hardware address of the home LAN's web server.
pub const WEB_MAC: &str = "02:08:20:0a:0b:01";
/// A host of the DMZ that is configured by hand.
pub const DMZ: &str = "10.0.1.10";

/// A switch inside the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stub {
    /// The home LAN's.
    Home,
    /// The DMZ's.
    Dmz,
}

impl Stub {
    /// Name of the bridge.
    #[must_use]
    pub fn bridge(self) -> &'static str {
        match self {
            Self::Home => "zrstub0",
            Self::Dmz => "zrstub1",
        }
    }

    /// The router's link to it.
    #[must_use]
    pub fn router_link(self) -> &'static str {
        match self {
            Self::Home => "lan0",
            Self::Dmz => "lan1",
        }
    }
}

/// Namespaces and peers that live as long as this value.
#[derive(Debug)]
pub struct House {
    /// The provider.
    pub isp: Namespace,
    /// A host behind the provider.
    pub remote: Namespace,
    /// The box that the router's zone lives on.
    pub host: Namespace,
    /// The router's zone.
    pub router: Namespace,
    // Dropped before the lab that they run in.
    dnsmasq: OnceLock<Process>,
    peers: Mutex<Vec<Process>>,
    lab: Lab,
}

impl House {
    /// Builds everything but the router's zone and the hosts behind it.
    ///
    /// # Errors
    /// Without root, or if a peer's program is missing or does not start.
    pub fn new(label: &str) -> Result<Self> {
        let lab = Lab::new(label)?;
        let isp = lab.namespace("isp")?;
        let remote = lab.namespace("remote")?;
        let host = lab.namespace("host")?;
        let router = lab.reserve("router")?;
        let (dnsmasq, peers) = (OnceLock::new(), Mutex::default());
        let house = Self { isp, remote, host, router, dnsmasq, peers, lab };
        house.connect().context("connect the ISP")?;
        house.start_isp_services().context("start the ISP's services")?;
        house.write_client_script()?;
        Ok(house)
    }

    fn connect(&self) -> Result<()> {
        let Self { isp, remote, host, lab, .. } = self;
        lab.veth((host, "igb0"), (isp, "cust0"))?;
        lab.veth((isp, "up0"), (remote, "eth0"))?;
        for address in [ISP, ISP_OTHER] {
            isp.exec(["ip", "address", "add", &format!("{address}/24"), "dev", "cust0"])?;
        }
        isp.exec(["ip", "address", "add", "203.0.113.1/24", "dev", "up0"])?;
        isp.sysctl("net.ipv4.ip_forward", "1")?;
        for host in [isp, remote] {
            // Every probe of a traceroute gets its answer.
            host.sysctl("net.ipv4.icmp_ratelimit", "0")?;
        }
        for table in ["ip", "ip6", "arp"] {
            // An etherstub is a switch: the host's packet filter, if there is one, has no part in it.
            let setting = format!("net.bridge.bridge-nf-call-{table}tables=0");
            host.exec(["sysctl", "--ignore", "-q", "-w", &setting])?;
        }
        remote.exec(["ip", "address", "add", &format!("{REMOTE}/24"), "dev", "eth0"])?;
        remote.exec(["ip", "route", "add", "default", "via", "203.0.113.1"])?;
        Ok(())
    }

    /// Makes the router's zone and its links as `routerctl zone apply` would: WAN over the host's NIC,
    /// a LAN on each etherstub.
    ///
    /// # Errors
    /// If a command fails.
    pub fn attach_router(&self) -> Result<()> {
        let Self { host, router, lab, .. } = self;
        router.make()?;
        for stub in [Stub::Home, Stub::Dmz] {
            lab.bridge(host, stub.bridge(), &[])?;
            let port = format!("r-{}", stub.router_link());
            lab.veth((router, stub.router_link()), (host, &*port))?;
            host.exec(["ip", "link", "set", "dev", &port, "master", stub.bridge()])?;
        }
        let macvlan = ["type", "macvlan", "mode", "bridge"];
        let wan = ["ip", "link", "add", "link", "igb0", "name", "wan0", "netns", router.name()];
        host.exec(wan.into_iter().chain(macvlan))?;
        router.exec(["ip", "link", "set", "dev", "wan0", "up"])?;
        Ok(())
    }

    /// Makes a host whose `eth0` is on an etherstub, which has to exist; without any address.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn lan_host(&self, label: &str, stub: Stub, mac: Option<&str>) -> Result<Namespace> {
        let namespace = self.lab.namespace(label)?;
        let port = format!("p-{label}");
        match mac {
            Some(mac) => self.lab.veth((&namespace, "eth0", mac), (&self.host, &*port))?,
            None => self.lab.veth((&namespace, "eth0"), (&self.host, &*port))?,
        }
        self.host.exec(["ip", "link", "set", "dev", &port, "master", stub.bridge()])?;
        Ok(namespace)
    }

    /// Makes a host of the DMZ with the address [`DMZ`] and a web server.
    ///
    /// # Errors
    /// As [`Self::lan_host`].
    pub fn dmz_host(&self, label: &str) -> Result<Namespace> {
        let namespace = self.lan_host(label, Stub::Dmz, None)?;
        namespace.exec(["ip", "address", "add", &format!("{DMZ}/24"), "dev", "eth0"])?;
        namespace.exec(["ip", "route", "add", "default", "via", DMZ_ROUTER])?;
        self.start_web_server(&namespace, "dmz")?;
        Ok(namespace)
    }

    /// Floods an address of the ISP's subnet with TCP SYN packets from random sources to every port in turn, as fast
    /// as one processor can, until the process is dropped.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn flood(&self, address: &str) -> Result<Process> {
        let line = format!("hping3 -q -n -S -p ++1 --flood --rand-source {address}");
        self.isp.spawn(line.split(' '))
    }

    /// The lab that everything is in.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A path for a file that goes with the house.
    #[must_use]
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.lab.folder().join(name)
    }

    /// Lets a process live as long as the house.
    pub fn adopt(&self, process: Process) {
        self.peers.lock().expect("no panic under this lock").push(process);
    }

    /// Leaves everything running, for [`Lab::clean_kept`] to remove.
    ///
    /// # Errors
    /// As [`Lab::keep`].
    pub fn keep(self) -> Result<()> {
        let Self { dnsmasq, peers, lab, .. } = self;
        lab.keep()?;
        let peers = peers.into_inner().unwrap_or_else(|lock| lock.into_inner());
        peers.into_iter().chain(dnsmasq.into_inner()).for_each(Process::detach);
        Ok(())
    }
}
