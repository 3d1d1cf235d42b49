//! The operator's requests, one by one.

use std::net::Ipv4Addr;
use std::time::Duration;

use config::WanMode;
use crossbeam::channel::bounded;
use ctl_api::{
    ConfigProblem, ConfigReport, Flow, FlowFilter, Killed, Lease, Problem, Reloaded, Request,
    Reservation,
};
use nat::{SessionId, SessionInfo};
use packet::LinkId;

use crate::control::Control;
use crate::forwards;
use crate::report;
use crate::shared::{Command, Report};

/// How long the worker may take to answer; it looks at its mailbox at least twice a second.
const REPORT_WAIT: Duration = Duration::from_secs(2);

/// Sessions ended by one request at most: as many commands as the worker's mailbox holds.
const KILLS_MAX: usize = 1024;

impl Control {
    /// Answers one request.
    pub(crate) fn answer(&mut self, request: Request) {
        match request {
            Request::Status(to) => to.send(self.worker_report().map(|r| self.status(&r))),
            Request::QosShow(to) => to.send(self.worker_report().map(|r| report::shapers(&r))),
            Request::ForwardList(to) => to.send(Ok(self.forwards.list(self.forward_context()))),
            Request::ForwardAdd(spec, to) => to.send(self.add_forward(&spec)),
            Request::ForwardRemove(protocol, port, to) => {
                to.send(self.remove_forward(protocol, port));
            }
            Request::LeaseList(to) => to.send(Ok(self.leases())),
            Request::LeaseReserve(reservation, to) => to.send(self.reserve(&reservation)),
            Request::LeaseRelease(address, to) => to.send(self.release_lease(address)),
            Request::FlowList(filter, to) => to.send(self.flows(&filter)),
            Request::FlowKill(filter, to) => to.send(self.kill_flows(&filter)),
            Request::HostList(to) => to.send(Ok(self.hosts())),
            Request::WanShow(to) => to.send(Ok(self.wan())),
            Request::WanRenew(to) => to.send(self.change_wan(WanCommand::Renew)),
            Request::WanRelease(to) => to.send(self.change_wan(WanCommand::Release)),
            Request::Explain(question, to) => to.send(self.explain(question)),
            Request::DropList(to) => to.send(Ok(self.drops())),
            Request::RuleList(to) => to.send(Ok(self.rules())),
            Request::DnsShow(to) => to.send(Ok(self.dns())),
            Request::DnsFlush(to) => {
                self.stack.flush_dns();
                to.send(Ok(self.dns()));
            }
            Request::ConfigCheck(text, to) => to.send(Ok(check_config(&text))),
            Request::ConfigReload(to) => to.send(self.reload_for_request()),
        }
    }

    fn worker_report(&self) -> Result<Report, Problem> {
        let (sender, receiver) = bounded(1);
        self.command(Command::Report(sender));
        receiver
            .recv_timeout(REPORT_WAIT)
            .map_err(|_| Problem::failed("the packet worker did not answer in time"))
    }

    fn forward_context(&self) -> forwards::Context<'_> {
        forwards::Context { config: &self.config, stack: &self.stack, wan: self.wan().state }
    }

    fn add_forward(&mut self, spec: &ctl_api::ForwardSpec) -> Result<ctl_api::Forward, Problem> {
        let wan = self.wan().state;
        let Self { forwards, config, stack, store, .. } = self;
        let added = forwards.add(spec, forwards::Context { config, stack, wan }, store)?;
        self.apply_forwards();
        Ok(added)
    }

    fn remove_forward(
        &mut self,
        protocol: config::ForwardProtocol,
        port: ctl_api::PortRange,
    ) -> Result<ctl_api::Forward, Problem> {
        let wan = self.wan().state;
        let Self { forwards, config, stack, store, .. } = self;
        let context = forwards::Context { config, stack, wan };
        let removed = forwards.remove(protocol, port, context, store)?;
        self.apply_forwards();
        Ok(removed)
    }

    fn reserve(&mut self, wanted: &Reservation) -> Result<Lease, Problem> {
        let address = wanted.address;
        let server = self.stack.server_of(address).ok_or_else(|| {
            Problem::conflict(format!("{address} is in no LAN whose DHCP this router serves"))
        })?;
        let reservation =
            dhcp::server::Reservation { mac: wanted.mac, address, name: wanted.name.clone() };
        server.reserve(reservation).map_err(|refused| {
            Problem::conflict(format!(
                "{} can't be reserved: it is not a host address of the LAN, or the configuration \
                 reserves it for another station",
                refused.address
            ))
        })?;
        self.drain(self.clock.both());
        self.apply_forwards();
        self.lease_of(address)
    }

    fn release_lease(&mut self, address: Ipv4Addr) -> Result<Lease, Problem> {
        let shown = self.lease_of(address)?;
        let server = self.stack.server_of(address).ok_or_else(|| no_lease(address))?;
        server.unreserve(shown.mac);
        server.release(address);
        self.drain(self.clock.both());
        self.apply_forwards();
        Ok(shown)
    }

    fn lease_of(&self, address: Ipv4Addr) -> Result<Lease, Problem> {
        self.leases()
            .into_iter()
            .find(|lease| lease.address == address)
            .ok_or_else(|| no_lease(address))
    }

    fn flows(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, Problem> {
        let host = self.host_filter(filter)?;
        let mut flows = Vec::new();
        self.each_session(|session| {
            if flows.len() < filter.limit() && matches(session, filter, host) {
                flows.push(report::flow(session));
            }
        });
        Ok(flows)
    }

    fn kill_flows(&mut self, filter: &FlowFilter) -> Result<Killed, Problem> {
        let host = self.host_filter(filter)?;
        let mut ids: Vec<SessionId> = Vec::new();
        let limit = filter.limit().min(KILLS_MAX);
        self.each_session(|session| {
            if ids.len() < limit && matches(session, filter, host) {
                ids.push(session.id);
            }
        });
        for id in &ids {
            self.command(Command::Kill(*id));
        }
        Ok(Killed { killed: ids.len() as u64 })
    }

    /// Looks at every session from outside the worker.
    pub(crate) fn each_session(&mut self, mut each: impl FnMut(&SessionInfo)) {
        let now = self.clock.now();
        let snapshot = self.shared.snapshot.load();
        let pass = self.observer.pass();
        let timeouts = &snapshot.nat.timeouts;
        self.shared.tables.for_each_session(&pass, now, timeouts, |session| each(&session));
    }

    fn host_filter(&self, filter: &FlowFilter) -> Result<Option<Ipv4Addr>, Problem> {
        let Some(host) = &filter.host else { return Ok(None) };
        let address = host.parse().ok();
        address
            .or_else(|| forwards::address_of(host, &self.config, &self.stack))
            .map(Some)
            .ok_or_else(|| {
                Problem::not_found(format!("no host is called {host}; `host list` shows them"))
            })
    }

    fn change_wan(&mut self, command: WanCommand) -> Result<ctl_api::Wan, Problem> {
        if matches!(self.config.wan.mode, WanMode::Static { .. }) {
            return Err(Problem::conflict("the WAN has a static address, no lease"));
        }
        let now = self.clock.both();
        match command {
            WanCommand::Renew => self.stack.renew_wan(now),
            WanCommand::Release => self.stack.release_wan(now),
        }
        self.drain(now);
        Ok(self.wan())
    }

    fn reload_for_request(&mut self) -> Result<Reloaded, Problem> {
        let changes = self.reload().map_err(|error| Problem::conflict(format!("{error:#}")))?;
        Ok(Reloaded { generation: self.runtime.generation.into(), changes })
    }

    /// The name of a LAN's link.
    pub(crate) fn lan_of(&self, link: LinkId) -> &config::Lan {
        &self.config.lans[link.index() - 1]
    }
}

/// What an operator may do to the WAN lease.
#[derive(Clone, Copy)]
enum WanCommand {
    Renew,
    Release,
}

fn no_lease(address: Ipv4Addr) -> Problem {
    Problem::not_found(format!(
        "{address} has no lease and no reservation; `lease list` shows them"
    ))
}

fn matches(session: &SessionInfo, filter: &FlowFilter, host: Option<Ipv4Addr>) -> bool {
    let FlowFilter { protocol, remote, port, host: _, limit: _ } = filter;
    let ports = [session.internal.0.port, session.external.0.port, session.remote.port];
    protocol.is_none_or(|protocol| packet::Protocol::from(protocol) == session.protocol)
        && host.is_none_or(|host| session.internal.0.address == host)
        && remote.is_none_or(|remote| session.remote.address == remote)
        && port.is_none_or(|port| ports.contains(&port))
}

fn check_config(text: &str) -> ConfigReport {
    match config::parse("request", text) {
        Ok(_) => ConfigReport { valid: true, problems: Vec::new() },
        Err(error) => {
            let problems = error.problems().iter().map(|problem| ConfigProblem {
                line: problem.line().and_then(|line| u32::try_from(line).ok()),
                column: None,
                message: problem.fault().to_string(),
                help: Some(problem.remedy()),
            });
            ConfigReport { valid: false, problems: problems.collect() }
        }
    }
}
