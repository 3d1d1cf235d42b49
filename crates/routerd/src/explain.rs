//! What would become of a packet, in the words of the control socket.

use std::net::SocketAddrV4;

use ctl_api::{
    Asked, DecidedBy, Explanation, PacketFacts, Problem, Question, QueueFacts, RouteFacts,
    ShaperDirection, TranslationFacts,
};
use nat::Origin;
use packet::header::{destination_mac, ethernet, put_macs, source_mac};
use packet::{DropReason, Endpoint, LinkId, MacAddr, PacketBuf};
use pipeline::{Decider, FlowFate, Hop, Probe, ProbeKind, Queue, Sight, Translated, Verdict, Way};

use crate::control::Control;
use crate::report;

/// What a question calls the router itself.
const ROUTER: &str = "router";

/// What a question calls the WAN, whatever its link is called.
const WAN: &str = "wan";

impl Control {
    /// Answers a question about a packet; changes nothing.
    pub(crate) fn explain(&mut self, question: Question) -> Result<Explanation, Problem> {
        let Question { from, packet } = question;
        let mut packet = self.asked(packet)?;
        packet.ingress = match from {
            Some(name) => self.ingress(&name)?,
            None => self.ingress_of(&packet),
        };
        if packet.ingress != LinkId::LOCAL && destination_mac(packet.frame()) == MacAddr::ZERO {
            let ours = self.runtime.links[packet.ingress.index()].mac;
            let sender = source_mac(packet.frame());
            put_macs(packet.frame_mut(), ours, sender);
        }
        let ingress = packet.ingress;
        let neighbours = self.stack.neighbours();
        let snapshot = self.shared.snapshot.load();
        let pass = self.observer.pass();
        let told = pipeline::explain(
            packet,
            Sight {
                tables: &self.shared.tables,
                pass: &pass,
                neighbours: &neighbours,
                snapshot: &snapshot,
                now: self.clock.now(),
            },
        );
        drop(pass);
        Ok(self.words(&told, ingress))
    }

    fn asked(&self, asked: Asked) -> Result<PacketBuf, Problem> {
        let (kind, source, destination) = match asked {
            Asked::Frame(bytes) => return framed(&bytes),
            Asked::Tcp(source, to, flags) => {
                (ProbeKind::Tcp(flags.0), endpoint(source), endpoint(to))
            }
            Asked::Udp(source, to) => (ProbeKind::Udp, endpoint(source), endpoint(to)),
            Asked::Icmp(source, to, id) => {
                (ProbeKind::Echo, Endpoint::new(source, id), Endpoint::new(to, 0))
            }
        };
        Ok(Probe { kind, source, destination }.packet(MacAddr::ZERO))
    }

    /// The link by its own name, its LAN's, or what it is.
    fn ingress(&self, name: &str) -> Result<LinkId, Problem> {
        let links = self.runtime.links.iter().position(|link| link.name == name);
        let lans = || self.config.lans.iter().position(|lan| lan.name == name);
        match name {
            _ if let Some(index) = links => Ok(LinkId(index as u8)),
            _ if let Some(index) = lans() => Ok(pipeline::lan_id(index)),
            WAN => Ok(LinkId::WAN),
            ROUTER => Ok(LinkId::LOCAL),
            _ => Err(Problem::not_found(format!(
                "{name} is no link and no LAN; `status` shows them"
            ))),
        }
    }

    /// Where a packet with this source comes from, most likely.
    fn ingress_of(&self, packet: &PacketBuf) -> LinkId {
        let source = pipeline::source_of(packet);
        let lan = self
            .config
            .lans
            .iter()
            .position(|lan| source.is_some_and(|source| lan.subnet().contains(&source)));
        lan.map_or(LinkId::WAN, pipeline::lan_id)
    }

    fn words(&self, told: &pipeline::Explanation, ingress: LinkId) -> Explanation {
        let (flow, direction, session) = match told.flow {
            FlowFate::None => ("none", None, None),
            FlowFate::Known(session) => ("known", Some(session.direction), Some(session)),
            FlowFate::Opens(direction) => ("opens", Some(direction), None),
            FlowFate::Pending => ("pending", None, None),
            FlowFate::About => ("about", None, None),
        };
        let (verdict, reason, sentence) = self.verdict(told);
        Explanation {
            from: self.link_name(ingress),
            packet: told.datagram.map(|datagram| PacketFacts {
                protocol: datagram.protocol().into(),
                source: report::socket(datagram.source),
                destination: report::socket(datagram.destination),
            }),
            flow: flow.to_owned(),
            direction: direction.map(report::direction),
            session: session.as_ref().map(report::flow),
            translation: told.translated.as_ref().map(translation),
            decided_by: told.decider.map(|decider| self.decided(decider)),
            route: told.hop.as_ref().map(|hop| self.route(hop)),
            mss: told.mss.map(|(from, to)| [from, to]),
            fragment_bytes_max: told.cut_to,
            queue: told.queue.as_ref().map(|queue| self.queue(queue)),
            verdict: verdict.to_owned(),
            reason: reason.map(str::to_owned),
            sentence,
        }
    }

    /// The verdict's word, its reason's name and its sentence.
    fn verdict(
        &self,
        told: &pipeline::Explanation,
    ) -> (&'static str, Option<&'static str>, String) {
        let because = |reason: Option<DropReason>| reason.map_or("", DropReason::sentence);
        let named = told.reason.map(DropReason::name);
        let later = if told.is_answered_late {
            " Its sender hears of it in six seconds, unless something opens the port."
        } else {
            ""
        };
        match told.verdict {
            Verdict::Forward(link) => {
                ("forward", None, format!("It leaves by {}.", self.link_name(link)))
            }
            Verdict::Reply(kind) => (
                "reply",
                named,
                format!("Its sender is told by ICMP, {}. {}", kind.words(), because(told.reason)),
            ),
            Verdict::Reset => {
                ("reset", named, format!("It is answered by a reset. {}", because(told.reason)))
            }
            Verdict::Punt(reason) => ("punt", Some(reason.name()), reason.sentence().to_owned()),
            Verdict::Resolve(link, address) => (
                "resolve",
                None,
                format!(
                    "It waits until {address} on {} has told its MAC address.",
                    self.link_name(link)
                ),
            ),
            Verdict::Hold => (
                "hold",
                None,
                "It waits for the other fragments of its packet, and is judged with them."
                    .to_owned(),
            ),
            Verdict::Drop(reason) => {
                ("drop", Some(reason.name()), format!("{}{later}", reason.sentence()))
            }
        }
    }

    fn decided(&self, decider: Decider) -> DecidedBy {
        let (by, index) = match decider {
            Decider::Rule(index) => ("rule", Some(index)),
            Decider::Zones => ("policy", None),
            Decider::Translation => ("translation", None),
        };
        let rule = index.and_then(|index| self.config.policy.rules.get(index));
        DecidedBy {
            by: by.to_owned(),
            rule: index.map(|index| index as u64 + 1),
            name: rule.and_then(|rule| rule.name.clone()),
        }
    }

    fn route(&self, hop: &Hop) -> RouteFacts {
        RouteFacts {
            prefix: hop.route.map(|route| route.prefix),
            link: self.link_name(hop.egress),
            next_hop: hop.next_hop,
            mac: hop.mac,
        }
    }

    fn queue(&self, queue: &Queue) -> QueueFacts {
        let shaper = self.config.wan.shaper.as_ref();
        let (direction, shaped) = match queue.way {
            Way::Upload => {
                (ShaperDirection::Upload, shaper.is_some_and(|shaper| shaper.upload.is_some()))
            }
            Way::Download => {
                (ShaperDirection::Download, shaper.is_some_and(|shaper| shaper.download.is_some()))
            }
        };
        QueueFacts { direction, shaped, host: queue.host }
    }

    fn link_name(&self, link: LinkId) -> String {
        let facts = self.runtime.links.get(link.index());
        facts.map_or(ROUTER, |facts| &facts.name).to_owned()
    }
}

fn endpoint(socket: SocketAddrV4) -> Endpoint {
    Endpoint::new(*socket.ip(), socket.port())
}

fn framed(bytes: &[u8]) -> Result<PacketBuf, Problem> {
    let mut packet = PacketBuf::large();
    if bytes.len() < ethernet::LEN {
        return Err(Problem::invalid("the frame is shorter than an Ethernet header"));
    }
    if packet.copy_from(bytes) {
        Ok(packet)
    } else {
        Err(Problem::invalid(format!("a frame has at most {} bytes", packet.frame_max())))
    }
}

fn translation(translated: &Translated) -> TranslationFacts {
    let Translated { source, destination, origin } = *translated;
    let origin_name = origin.map(|origin| match origin {
        Origin::Bound => "bound",
        Origin::Mapped => "mapping",
        Origin::Preserved => "preserved",
        Origin::Former => "former",
        Origin::Drawn => "drawn",
    });
    TranslationFacts {
        source: source.address,
        source_port: (origin != Some(Origin::Drawn)).then_some(source.port),
        destination: report::socket(destination),
        origin: origin_name.map(str::to_owned),
    }
}
