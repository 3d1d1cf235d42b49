//! The forwards of the configuration and of the day, and the hosts behind their names.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use config::{Config, Fault, Forward, ForwardHost, ForwardProtocol};
use ctl_api::{ForwardSource, ForwardSpec, PortRange, Problem, WanState};
use dhcp::server::BindingState;
use local_stack::LocalStack;
use packet::Protocol;
use store::{Batch, Store};
use tracing::warn;

/// Where the store keeps them.
const KIND: &str = "forward";

/// Forwards in the order in which they win.
pub struct ForwardBook {
    configured: Vec<Forward>,
    runtime: Vec<Forward>,
}

/// What forwards are judged and shown by.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The running configuration.
    pub config: &'a Config,
    /// Who knows the hosts.
    pub stack: &'a LocalStack,
    /// State of the WAN, which a forward needs to be reached.
    pub wan: WanState,
}

impl ForwardBook {
    /// Reads those of the configuration and those that were stored.
    pub fn new(config: &Config, store: &Store) -> Result<Self> {
        let stored = store.values::<ForwardSpec>(KIND).context("read the stored forwards")?;
        // A configuration that now claims a port wins; the stored forward stays for when it no longer does.
        let runtime = stored.into_iter().filter_map(|(key, spec)| match spec.to_config() {
            Ok(forward) => Some(forward),
            Err(error) => {
                warn!(key, %error, "a stored forward is unreadable and left out");
                None
            }
        });
        Ok(Self { configured: config.forwards.clone(), runtime: runtime.collect() })
    }

    /// Takes the forwards of another configuration.
    pub fn set_configured(&mut self, config: &Config) {
        self.configured.clone_from(&config.forwards);
    }

    /// The forwards that are in force, as the translation wants them.
    pub fn resolved(&self, config: &Config, stack: &LocalStack) -> Vec<nat::Forward> {
        let in_force = self.runtime.iter().filter(|forward| !self.is_overridden(forward));
        let mut forwards = Vec::new();
        for (id, forward) in self.configured.iter().chain(in_force).enumerate() {
            let Some(target) = resolve(forward, config, stack) else { continue };
            forwards.extend(pipeline::forwards_to(config, forward, *target.ip(), id as u32));
        }
        forwards
    }

    /// All of them, for the operator.
    pub fn list(&self, context: Context<'_>) -> Vec<ctl_api::Forward> {
        let configured = self.configured.iter().map(|forward| (forward, ForwardSource::Config));
        let runtime = self.runtime.iter().map(|forward| (forward, ForwardSource::Runtime));
        configured
            .chain(runtime)
            .map(|(forward, source)| self.show(forward, source, context))
            .collect()
    }

    /// Adds a forward, stored before this returns.
    pub fn add(
        &mut self,
        spec: &ForwardSpec,
        context: Context<'_>,
        store: &mut Store,
    ) -> Result<ctl_api::Forward, Problem> {
        let forward = spec
            .to_config()
            .map_err(|error| Problem::invalid(format!("{error}; {}", error.remedy())))?;
        self.check(&forward, context)?;
        let mut batch = Batch::new();
        batch
            .put_value(KIND, &ctl_api::Forward::id_of(spec.protocol, spec.port), spec)
            .map_err(|error| Problem::failed(error.to_string()))?;
        store.commit(&batch).map_err(|error| Problem::failed(error.to_string()))?;
        let shown = self.show(&forward, ForwardSource::Runtime, context);
        self.runtime.push(forward);
        Ok(shown)
    }

    /// Removes a forward of the day, from the store first.
    pub fn remove(
        &mut self,
        protocol: ForwardProtocol,
        port: PortRange,
        context: Context<'_>,
        store: &mut Store,
    ) -> Result<ctl_api::Forward, Problem> {
        let same = |forward: &Forward| {
            forward.protocol == protocol && forward.port == (port.first()..=port.last())
        };
        let Some(index) = self.runtime.iter().position(same) else {
            let protocol = protocol.as_str();
            return Err(if self.configured.iter().any(same) {
                Problem::conflict(format!(
                    "the forward of {protocol} {port} is in the configuration file; remove it \
                     there and reload"
                ))
            } else {
                Problem::not_found(format!(
                    "there is no forward of {protocol} {port}; `forward list` shows them"
                ))
            });
        };
        let shown = self.show(&self.runtime[index], ForwardSource::Runtime, context);
        let mut batch = Batch::new();
        batch.remove_value(KIND, &ctl_api::Forward::id_of(protocol, port));
        store.commit(&batch).map_err(|error| Problem::failed(error.to_string()))?;
        self.runtime.remove(index);
        Ok(shown)
    }

    fn check(&self, forward: &Forward, context: Context<'_>) -> Result<(), Problem> {
        if let Some(known) =
            self.configured.iter().chain(&self.runtime).find(|known| claims_same(known, forward))
        {
            let (protocol, port) = (known.protocol.as_str(), &known.port);
            return Err(Problem::conflict(format!(
                "{protocol} {}-{} leads to {} already; remove that forward first",
                port.start(),
                port.end(),
                known.to.host
            )));
        }
        match context.config.check_forward(forward) {
            // Its name may be known from a lease.
            Ok(()) | Err(Fault::ForwardToUnknown { .. }) => {}
            Err(fault) => return Err(Problem::conflict(format!("{fault}; {}", fault.remedy()))),
        }
        let Some(target) = resolve(forward, context.config, context.stack) else {
            return Err(Problem::conflict(format!(
                "no host is called {}; reserve it with `lease reserve` or give its address",
                forward.to.host
            )));
        };
        check_target(*target.ip(), context.config)
    }

    fn is_overridden(&self, forward: &Forward) -> bool {
        self.configured.iter().any(|known| claims_same(known, forward))
    }

    fn show(
        &self,
        forward: &Forward,
        source: ForwardSource,
        context: Context<'_>,
    ) -> ctl_api::Forward {
        let overridden = source == ForwardSource::Runtime && self.is_overridden(forward);
        let resolved = resolve(forward, context.config, context.stack).filter(|_| !overridden);
        ctl_api::Forward::new(forward, source, resolved, context.wan)
    }
}

fn protocols(protocol: ForwardProtocol) -> &'static [Protocol] {
    match protocol {
        ForwardProtocol::Tcp => &[Protocol::Tcp],
        ForwardProtocol::Udp => &[Protocol::Udp],
        ForwardProtocol::Both => &[Protocol::Tcp, Protocol::Udp],
    }
}

fn claims_same(a: &Forward, b: &Forward) -> bool {
    let shared = protocols(a.protocol).iter().any(|p| protocols(b.protocol).contains(p));
    a.address == b.address
        && shared
        && a.port.start() <= b.port.end()
        && b.port.start() <= a.port.end()
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

fn resolve(forward: &Forward, config: &Config, stack: &LocalStack) -> Option<SocketAddrV4> {
    let address = match &forward.to.host {
        ForwardHost::Address(address) => *address,
        ForwardHost::Name(name) => address_of(name, config, stack)?,
    };
    Some(SocketAddrV4::new(address, forward.to.port))
}

/// The address of a host by name: a lease, a reservation, or a name of `[dns]`.
pub fn address_of(name: &str, config: &Config, stack: &LocalStack) -> Option<Ipv4Addr> {
    let wanted = name.strip_suffix(&format!(".{}", config.dns.domain)).unwrap_or(name);
    let is_wanted = |name: &str| name.eq_ignore_ascii_case(wanted);
    let reserved =
        config.lans.iter().flat_map(|lan| lan.dhcp.iter()).flat_map(|dhcp| {
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
