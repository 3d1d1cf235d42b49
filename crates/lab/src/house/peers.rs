//! Servers that the house's hosts talk to.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{House, ISP, REMOTE, REMOTE_NAME};
use crate::{Namespace, require, wait_until};

/// Longest time that a server may take to listen.
const START_DEADLINE: Duration = Duration::from_secs(5);

/// What the web server of a host called `remote` answers.
pub const REMOTE_PAGE: &str = "hello from remote";
/// What the web server of a host called `web` answers.
pub const WEB_PAGE: &str = "hello from web";

impl House {
    pub(super) fn start_isp_services(&self) -> Result<()> {
        require("dnsmasq")?;
        let lease_file = format!("--dhcp-leasefile={}", self.isp_leases().display());
        let host = format!("--host-record={REMOTE_NAME},{REMOTE}");
        let gateway = format!("--dhcp-option=option:router,{ISP}");
        let dns = format!("--dhcp-option=option:dns-server,{ISP}");
        let server = self.isp.spawn([
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file=",
            "--log-facility=-",
            "--log-dhcp",
            "--log-queries",
            "--no-hosts",
            "--no-resolv",
            "--no-ping",
            "--local-ttl=300",
            "--interface=cust0",
            "--except-interface=lo",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--dhcp-range=198.51.100.100,198.51.100.199,255.255.255.0,1h",
            "--domain=isp.example",
            &gateway,
            &dns,
            &lease_file,
            &host,
        ])?;
        wait_until(START_DEADLINE, "dnsmasq is started", || server.log().contains("started"))
            .with_context(|| server.log())?;
        self.dnsmasq.set(server).expect("started once");
        self.start_web_server(&self.isp, "isp")?;
        self.start_web_server(&self.remote, "remote")
    }

    /// Starts a web server on port 80 that answers `hello from LABEL`.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start_web_server(&self, namespace: &Namespace, label: &str) -> Result<()> {
        require("busybox")?;
        let folder = self.file(format!("www-{label}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("index.html"), format!("hello from {label}\n"))?;
        let folder = folder.to_string_lossy().into_owned();
        let server = namespace.spawn(["busybox", "httpd", "-f", "-p", "80", "-h", &folder])?;
        listens(namespace, 80)?;
        self.adopt(server);
        Ok(())
    }

    /// Starts an iperf3 server on its usual port.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start_iperf(&self, namespace: &Namespace) -> Result<()> {
        require("iperf3")?;
        let server = namespace.spawn(["iperf3", "-s"])?;
        listens(namespace, 5201)?;
        self.adopt(server);
        Ok(())
    }

    /// What the ISP's DHCP and DNS server logged so far.
    #[must_use]
    pub fn isp_log(&self) -> String {
        self.dnsmasq.get().map(crate::Process::log).unwrap_or_default()
    }

    /// The ISP's file of leases: expiry, MAC, address, name, client id on a line.
    #[must_use]
    pub fn isp_leases(&self) -> std::path::PathBuf {
        self.file("isp.leases")
    }
}

/// Waits until somebody in a namespace listens on a TCP port.
fn listens(namespace: &Namespace, port: u16) -> Result<()> {
    let filter = format!("sport = :{port}");
    wait_until(START_DEADLINE, &format!("port {port} listens"), || {
        let listening = namespace.exec(["ss", "-Hltn", &filter]);
        listening.is_ok_and(|output| !output.stdout.is_empty())
    })
}
