//! DHCP clients of LAN hosts.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::House;
use crate::{Namespace, require};

/// A real DHCP client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// BusyBox's.
    Udhcpc,
    /// ISC's.
    Dhclient,
}

/// What a client was given, as it told its script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Address.
    pub address: String,
    /// Default gateway.
    pub router: String,
    /// DNS servers, separated by spaces.
    pub dns: String,
    /// Domain.
    pub domain: String,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, router, dns, domain } = self;
        write!(f, "{address} by router {router}, DNS {dns}, domain {domain}")
    }
}

/// What either client runs. It configures the interface, and tells what it was told. The scripts that
/// come with the clients make temporary files in the machine's `/etc`; this one writes what the
/// namespace has in its place.
const SCRIPT: &str = r#"#!/bin/sh
set -e
case "${reason:-$1}" in
    bound|renew) dns_servers=$dns name=$domain gateway=$router address=$ip netmask=$mask ;;
    BOUND|RENEW|REBIND|REBOOT)
        dns_servers=$new_domain_name_servers name=$new_domain_name gateway=$new_routers
        address=$new_ip_address netmask=$new_subnet_mask ;;
    PREINIT|deconfig) ip link set dev "$interface" up; exit 0 ;;
    *) exit 0 ;;
esac
ip address flush dev "$interface" scope global
ip address add "$address/$netmask" dev "$interface"
ip route replace default via "$gateway"
{
    [ -z "$name" ] || echo "search $name"
    for server in $dns_servers; do echo "nameserver $server"; done
} > /etc/resolv.conf
echo "$address|$gateway|$dns_servers|$name" > "$LEASE_TOLD"
"#;

impl Client {
    /// The command line for a host that calls itself `name`.
    fn argv(self, house: &House, name: &str) -> Vec<String> {
        let script = house.client_script();
        let file = |kind: &str| house.file(format!("{name}.{kind}")).display().to_string();
        let words = match self {
            Self::Udhcpc => {
                format!("udhcpc -i eth0 -f -n -q -t 8 -T 1 -x hostname:{name} -s {script}")
            }
            Self::Dhclient => format!(
                "dhclient -4 -1 -v -e LEASE_TOLD={} -cf {} -lf {} -pf {} -sf {script} eth0",
                self.told(house, name).display(),
                file("conf"),
                file("leases"),
                file("pid"),
            ),
        };
        words.split(' ').map(str::to_owned).collect()
    }

    /// Where the script writes what a host's client was told.
    fn told(self, house: &House, name: &str) -> PathBuf {
        house.file(format!("{name}.lease"))
    }
}

impl House {
    fn client_script(&self) -> String {
        self.file("dhcp-script").display().to_string()
    }

    pub(super) fn write_client_script(&self) -> Result<()> {
        let path = self.client_script();
        fs::write(&path, SCRIPT)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// The command that [`Self::lease`] runs, as a person would type it.
    #[must_use]
    pub fn lease_command(&self, host: &Namespace, client: Client) -> String {
        let argv = client.argv(self, host.label());
        argv.join(" ").replace(&self.file("").display().to_string(), "")
    }

    /// Gets a lease for a LAN host's `eth0` under its label as host name.
    ///
    /// # Errors
    /// If the client gets none; its output is in the message.
    pub fn lease(&self, host: &Namespace, client: Client) -> Result<Lease> {
        let argv = client.argv(self, host.label());
        require(&argv[0])?;
        let name = host.label();
        fs::write(
            self.file(format!("{name}.conf")),
            format!("send host-name \"{name}\";\ntimeout 10;\nretry 1;\ninitial-interval 1;\n"),
        )?;
        let told = client.told(self, name);
        let _ = fs::remove_file(&told);
        let variable = format!("LEASE_TOLD={}", told.display());
        let env = ["env".to_owned(), variable];
        let output = host.exec(env.iter().chain(&argv))?;
        let text = fs::read_to_string(&told).with_context(|| {
            format!("{} told its script of no lease\n{}", argv[0], output.stderr)
        })?;
        let mut words = text.trim_end().split('|').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        Ok(Lease { address: next(), router: next(), dns: next(), domain: next() })
    }
}
