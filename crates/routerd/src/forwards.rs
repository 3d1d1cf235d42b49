//! The forwards of the configuration and of the day, and the hosts behind their names.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use config::Config;
use ctl_api::{Forward, ForwardHost, ForwardProtocol, ForwardSource, ForwardSpec, ForwardTarget, PortRange, Problem};
use dhcp::server::BindingState;
use local_stack::LocalStack;
use packet::{Endpoint, Internal};
use store::{Batch, Store};

/// Where the store keeps them.
const KIND: &str = "forward";

/// Forwards in the order in which they win.
pub struct ForwardBook {
    configured: Vec<ForwardSpec>,
    runtime: Vec<ForwardSpec>,
}

impl ForwardBook {
    /// Reads those of the configuration and those that were stored.
    pub fn new(config: &Config, store: &Store) -> Result<Self> {
        let stored = store.values::<ForwardSpec>(KIND).context("read the stored forwards")?;
        let mut book = Self { configured: Vec::new(), runtime: Vec::new() };
        book.set_configured(config);
        for (_, spec) in stored {
            // A configuration that now claims the port wins; the stored forward stays for when it no longer does.
            book.runtime.push(spec);
        }
        Ok(book)
    }

    /// Takes the forwards of another configuration.
    pub fn set_configured(&mut self, config: &Config) {
        self.configured = config.forwards.iter().map(spec_of).collect();
    }

    /// The forwards that are in force, as the translation wants them.
    pub fn resolved(&self, config: &Config, stack: &LocalStack) -> Vec<nat::Forward> {
        let mut forwards = Vec::new();
        for (id, (spec, _)) in self.in_force().enumerate() {
            let Some(target) = resolve(spec, config, stack) else { continue };
            forwards.extend(spec.protocol.protocols().iter().map(|protocol| nat::Forward {
                protocol: *protocol,
                external: spec.port.first()..=spec.port.last(),
                to: Internal(Endpoint::new(*target.ip(), target.port())),
                id: id as u32,
            }));
        }
        forwards
    }

    /// All of them, for the operator.
    pub fn list(&self, config: &Config, stack: &LocalStack) -> Vec<Forward> {
        let configured = self.configured.iter().map(|spec| (spec, ForwardSource::Config));
        let runtime = self.runtime.iter().map(|spec| (spec, ForwardSource::Runtime));
        configured
            .chain(runtime)
            .map(|(spec, source)| self.show(spec, source, config, stack))
            .collect()
    }

    /// Adds a forward, stored before this returns.
    pub fn add(
        &mut self,
        spec: ForwardSpec,
        config: &Config,
        stack: &LocalStack,
        store: &mut Store,
    ) -> Result<Forward, Problem> {
        self.check(&spec, config, stack)?;
        let mut batch = Batch::new();
        batch
            .put_value(KIND, &key_of(spec.protocol, spec.port), &spec)
            .map_err(|error| Problem::failed(error.to_string()))?;
        store.commit(&batch).map_err(|error| Problem::failed(error.to_string()))?;
        self.runtime.push(spec);
        let spec = &self.runtime[self.runtime.len() - 1];
        Ok(self.show(spec, ForwardSource::Runtime, config, stack))
    }

    /// Removes a forward of the day, from the store first.
    pub fn remove(
        &mut self,
        protocol: ForwardProtocol,
        port: PortRange,
        config: &Config,
        stack: &LocalStack,
        store: &mut Store,
    ) -> Result<Forward, Problem> {
        let same = |spec: &ForwardSpec| spec.protocol == protocol && spec.port == port;
        let Some(index) = self.runtime.iter().position(same) else {
            return Err(if self.configured.iter().any(same) {
                Problem::conflict(format!(
                    "the forward of {protocol} {port} is in the configuration file; remove it there and reload"
                ))
            } else {
                Problem::not_found(format!(
                    "there is no forward of {protocol} {port}; `forward list` shows them"
                ))
            });
        };
        let shown = self.show(&self.runtime[index], ForwardSource::Runtime, config, stack);
        let mut batch = Batch::new();
        batch.remove_value(KIND, &key_of(protocol, port));
        store.commit(&batch).map_err(|error| Problem::failed(error.to_string()))?;
        self.runtime.remove(index);
        Ok(shown)
    }

    fn check(&self, spec: &ForwardSpec, config: &Config, stack: &LocalStack) -> Result<(), Problem> {
        for known in self.configured.iter().chain(&self.runtime) {
            if claims_same(known, spec) {
                return Err(Problem::conflict(format!(
                    "{} {} is forwarded to {} already; remove that forward first",
                    known.protocol, known.port, known.to
                )));
            }
        }
        const DHCP: [u16; 2] = [67, 68];
        let udp = spec.protocol != ForwardProtocol::Tcp;
        if udp && DHCP.iter().any(|port| (spec.port.first()..=spec.port.last()).contains(port)) {
            return Err(Problem::conflict(
                "udp 67 and 68 are the router's own (DHCP); choose another port".to_owned(),
            ));
        }
        if u32::from(target_port(spec)) + u32::from(spec.port.last() - spec.port.first()) > 65_535 {
            return Err(Problem::conflict(
                "the range of internal ports would pass 65535; choose a lower first port".to_owned(),
            ));
        }
        let Some(target) = resolve(spec, config, stack) else {
            return Err(Problem::conflict(format!(
                "no host is called {}; reserve it with `lease reserve` or give its address",
                spec.to.host_text()
            )));
        };
        check_target(*target.ip(), config)
    }

    fn in_force(&self) -> impl Iterator<Item = (&ForwardSpec, ForwardSource)> {
        let runtime = self.runtime.iter().filter(|spec| !self.is_overridden(spec));
        let configured = self.configured.iter().map(|spec| (spec, ForwardSource::Config));
        configured.chain(runtime.map(|spec| (spec, ForwardSource::Runtime)))
    }

    fn is_overridden(&self, spec: &ForwardSpec) -> bool {
        self.configured.iter().any(|known| claims_same(known, spec))
    }

    fn show(
        &self,
        spec: &ForwardSpec,
        source: ForwardSource,
        config: &Config,
        stack: &LocalStack,
    ) -> Forward {
        let overridden = source == ForwardSource::Runtime && self.is_overridden(spec);
        let resolved = resolve(spec, config, stack).filter(|_| !overridden);
        Forward {
            id: key_of(spec.protocol, spec.port),
            protocol: spec.protocol,
            port: spec.port,
            to: spec.to.clone(),
            source,
            enabled: resolved.is_some(),
            resolved,
        }
    }
}

fn claims_same(a: &ForwardSpec, b: &ForwardSpec) -> bool {
    let shared = a.protocol.protocols().iter().any(|p| b.protocol.protocols().contains(p));
    shared && a.port.overlaps(b.port)
}

fn check_target(address: Ipv4Addr, config: &Config) -> Result<(), Problem> {
    let Some(lan) = config.lans.iter().find(|lan| lan.address.contains(&address)) else {
        return Err(Problem::conflict(format!(
            "{address} is in no LAN of this router; forward to an address of one"
        )));
    };
    let net = lan.address;
    if address == net.addr() || address == net.network() || address == net.broadcast() {
        return Err(Problem::conflict(format!(
            "{address} is the router's own or no host of LAN {}; forward to a host",
            lan.name
        )));
    }
    Ok(())
}

fn key_of(protocol: ForwardProtocol, port: PortRange) -> String {
    format!("{protocol}-{port}")
}

fn target_port(spec: &ForwardSpec) -> u16 {
    spec.to.port.unwrap_or(spec.port.first())
}

fn resolve(spec: &ForwardSpec, config: &Config, stack: &LocalStack) -> Option<SocketAddrV4> {
    let address = match &spec.to.host {
        ForwardHost::Address(address) => *address,
        ForwardHost::Name(name) => address_of(name, config, stack)?,
    };
    Some(SocketAddrV4::new(address, target_port(spec)))
}

/// The address of a host by name: a lease, a reservation, or a name of `[dns]`.
pub fn address_of(name: &str, config: &Config, stack: &LocalStack) -> Option<Ipv4Addr> {
    let wanted = name.strip_suffix(&format!(".{}", config.dns.domain)).unwrap_or(name);
    let is_wanted = |name: &str| name.eq_ignore_ascii_case(wanted);
    let reserved = config.lans.iter().flat_map(|lan| lan.dhcp.iter()).flat_map(|dhcp| {
        dhcp.reservations.iter().map(|host| (host.name.as_str(), host.address))
    });
    let named = config.dns.hosts.iter().map(|host| (host.name.as_str(), host.address));
    let configured = reserved.chain(named).find(|(name, _)| is_wanted(name));
    configured.map(|(_, address)| address).or_else(|| {
        let bindings = stack.servers().iter().flat_map(|(_, server)| server.bindings());
        bindings
            .filter(|binding| matches!(binding.state, BindingState::Active { .. }))
            .find(|binding| binding.name.is_some_and(is_wanted))
            .map(|binding| binding.address)
    })
}

fn spec_of(forward: &config::Forward) -> ForwardSpec {
    let protocol = match forward.protocol {
        config::ForwardProtocol::Tcp => ForwardProtocol::Tcp,
        config::ForwardProtocol::Udp => ForwardProtocol::Udp,
        config::ForwardProtocol::Both => ForwardProtocol::Both,
    };
    let host = match &forward.to.host {
        config::ForwardHost::Address(address) => ForwardHost::Address(*address),
        config::ForwardHost::Name(name) => ForwardHost::Name(name.clone()),
    };
    let port = PortRange::new(*forward.port.start(), *forward.port.end())
        .expect("the configuration has checked that the range is one");
    ForwardSpec { protocol, port, to: ForwardTarget { host, port: Some(forward.to.port) } }
}
