//! Nouns that the running router answers.

use anyhow::Context;
use ctl_api::{
    Client, Dns, Drop, Explanation, Flow, Forward, ForwardSpec, Host, Killed, Lease, Reloaded,
    Reservation, Rule, Shaper, Status, Wan,
};
use serde::Serialize;

use crate::args::{
    Args, ConfigVerb, DnsVerb, FlowVerb, ForwardVerb, HostVerb, LeaseVerb, Noun, RuleVerb, WanVerb,
};
use crate::{explain, render};

/// Asks the router and returns what to print.
pub(crate) fn run(args: &Args) -> anyhow::Result<String> {
    let mut client = Client::connect(&args.socket)?;
    let client = &mut client;
    let show = Show { json: args.json };
    match &args.noun {
        Noun::Status => {
            show.text(client.get("/v1/status"), |status: &Status| render::status(status))
        }
        Noun::Forward { verb } => forward(client, verb, show),
        Noun::Lease { verb } => lease(client, verb, show),
        Noun::Flow { verb: FlowVerb::List(filter) } => {
            let path = format!("/v1/flows{}", filter.to_api().to_query());
            show.text(client.get(&path), |flows: &Vec<Flow>| render::flows(flows))
        }
        Noun::Flow { verb: FlowVerb::Kill(filter) } => {
            let path = format!("/v1/flows{}", filter.to_api().to_query());
            show.text(client.delete(&path), |killed: &Killed| {
                format!("{} flows ended\n", killed.killed)
            })
        }
        Noun::Host { verb: HostVerb::List } => {
            show.text(client.get("/v1/hosts"), |hosts: &Vec<Host>| render::hosts(hosts))
        }
        Noun::Wan { verb } => {
            let wan = match verb {
                WanVerb::Show => client.get("/v1/wan"),
                WanVerb::Renew => client.post("/v1/wan/renew", &()),
                WanVerb::Release => client.post("/v1/wan/release", &()),
            };
            show.text(wan, |wan: &Wan| render::wan(wan))
        }
        Noun::Rule { verb: RuleVerb::List } => {
            show.text(client.get("/v1/rules"), |rules: &Vec<Rule>| render::rules(rules))
        }
        Noun::Explain(packet) => {
            let explained = client.post("/v1/explain", &packet.to_api());
            show.text(explained, |told: &Explanation| explain::explanation(told))
        }
        Noun::Drops => show.text(client.get("/v1/drops"), |drops: &Vec<Drop>| render::drops(drops)),
        Noun::Dns { verb } => {
            let dns = match verb {
                None => client.get("/v1/dns"),
                Some(DnsVerb::Flush) => client.post("/v1/dns/flush", &()),
            };
            show.text(dns, |dns: &Dns| render::dns(dns))
        }
        Noun::Qos => show.text(client.get("/v1/qos"), |qos: &Vec<Shaper>| render::qos(qos)),
        Noun::Config { verb: ConfigVerb::Reload } => show
            .text(client.post("/v1/config/reload", &()), |done: &Reloaded| render::reloaded(done)),
        Noun::Config { verb: ConfigVerb::Check { .. } } | Noun::Zone { .. } => {
            anyhow::bail!("the router has no part in this command")
        }
    }
}

fn forward(client: &mut Client, verb: &ForwardVerb, show: Show) -> anyhow::Result<String> {
    let one = |verb: &'static str| move |forward: &Forward| render::forward(verb, forward);
    match verb {
        ForwardVerb::List => {
            show.text(client.get("/v1/forwards"), |all: &Vec<Forward>| render::forwards(all))
        }
        ForwardVerb::Add { protocol, port, to, from, no_hairpin } => {
            let spec = ForwardSpec {
                protocol: *protocol,
                port: *port,
                to: to.clone(),
                from: from.clone(),
                hairpin: !no_hairpin,
            };
            show.text(client.post("/v1/forwards", &spec), one("open"))
        }
        ForwardVerb::Remove { protocol, port } => {
            let path = format!("/v1/forwards/{}/{port}", protocol.as_str());
            show.text(client.delete(&path), one("closed"))
        }
    }
}

fn lease(client: &mut Client, verb: &LeaseVerb, show: Show) -> anyhow::Result<String> {
    let one = |verb: &'static str| {
        move |lease: &Lease| format!("{verb}: {} for {}\n", lease.address, lease.mac)
    };
    match verb {
        LeaseVerb::List => {
            show.text(client.get("/v1/leases"), |all: &Vec<Lease>| render::leases(all))
        }
        LeaseVerb::Reserve { mac, address, name } => {
            let reservation = Reservation { mac: *mac, address: *address, name: name.clone() };
            show.text(client.post("/v1/reservations", &reservation), one("reserved"))
        }
        LeaseVerb::Release { address } => {
            show.text(client.delete(&format!("/v1/leases/{address}")), one("released"))
        }
    }
}

/// How replies are shown.
#[derive(Clone, Copy)]
struct Show {
    json: bool,
}

impl Show {
    fn text<T: Serialize>(
        self,
        reply: Result<T, ctl_api::ClientError>,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<String> {
        let reply = reply?;
        if self.json { json(&reply) } else { Ok(render(&reply)) }
    }
}

/// A value as `--json` prints it.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("write JSON")?;
    text.push('\n');
    Ok(text)
}
