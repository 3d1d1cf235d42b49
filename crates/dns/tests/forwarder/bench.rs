//! A forwarder on a test bench: messages in, messages out, a clock that is set by hand.

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use dns::{
    Client, Disposition, Forwarder, ForwarderConfig, Name, Reply, Transport, UpstreamOrigin,
    UpstreamRequest,
};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{RData, Record, RecordType};
use packet::{Endpoint, Instant, LinkId};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const UDP: Transport = Transport::Udp;
pub const TCP: Transport = Transport::Tcp;

pub fn server(last: u8) -> Endpoint {
    Endpoint::new(Ipv4Addr::new(198, 51, 100, last), 53)
}

pub fn client(last: u8) -> Client {
    let address = Ipv4Addr::new(10, 0, 0, last);
    Client { link: LinkId(1), address, token: u64::from(last) }
}

pub fn name(text: &str) -> Name {
    Name::from_str(text).expect("a name of the test").to_lowercase()
}

pub fn config(servers: u8) -> ForwarderConfig {
    ForwarderConfig::new((1..=servers).map(server).collect(), name("home.arpa."))
}

/// A message to a server, taken apart.
#[derive(Clone, Debug)]
pub struct Sent {
    pub server: Endpoint,
    pub source_port: Option<u16>,
    pub octets: Vec<u8>,
}

impl Sent {
    pub fn message(&self) -> Message {
        Message::from_vec(&self.octets).expect("the forwarder sends sound messages")
    }

    pub fn origin(&self) -> UpstreamOrigin {
        match self.source_port {
            Some(source_port) => UpstreamOrigin::Udp { source_port, server: self.server },
            None => UpstreamOrigin::Tcp { server: self.server },
        }
    }

    /// An empty answer to it.
    pub fn response(&self) -> Message {
        let query = self.message();
        let mut response = Message::response(query.id, OpCode::Query);
        response.metadata.recursion_desired = true;
        response.metadata.recursion_available = true;
        response.add_queries(query.queries.iter().cloned());
        response
    }

    /// An answer with one address.
    pub fn address(&self, ttl: u32, address: [u8; 4]) -> Vec<u8> {
        let mut response = self.response();
        let owner = response.queries[0].name.clone();
        response.add_answer(a(&owner, ttl, address));
        octets(&response)
    }

    /// An answer that says no, with the SOA record of `zone`.
    pub fn negative(&self, rcode: ResponseCode, zone: &str, ttl: u32, minimum: u32) -> Vec<u8> {
        let mut response = self.response();
        response.metadata.response_code = rcode;
        response.add_authority(soa(zone, ttl, minimum));
        octets(&response)
    }

    /// An answer with a code and nothing else.
    pub fn failure(&self, rcode: ResponseCode) -> Vec<u8> {
        let mut response = self.response();
        response.metadata.response_code = rcode;
        octets(&response)
    }
}

pub fn octets(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message of the test can be encoded")
}

pub fn a(owner: &Name, ttl: u32, address: [u8; 4]) -> Record {
    Record::from_rdata(owner.clone(), ttl, RData::A(A(Ipv4Addr::from(address))))
}

pub fn cname(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

pub fn soa(zone: &str, ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name(zone), ttl, RData::SOA(data))
}

/// A query as a client of the test sends it: RD set, id 0x1234.
pub fn query(text: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(text).expect("a name of the test"), rtype));
    message
}

pub fn with_edns(mut message: Message, payload: u16, dnssec: Dnssec) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    edns.set_dnssec_ok(dnssec == Dnssec::Wanted);
    message.set_edns(edns);
    message
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dnssec {
    Wanted,
    Ignored,
}

pub struct Bench {
    pub forwarder: Forwarder,
    pub now: Instant,
}

impl Bench {
    pub fn new(config: ForwarderConfig) -> Self {
        let forwarder = Forwarder::new(config, StdRng::seed_from_u64(7));
        Self { forwarder, now: Instant::from_secs(1_000) }
    }

    /// Lets time pass, with every timeout on the way at its moment.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.forwarder.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.forwarder.handle_timeout(self.now);
        }
        self.now = end;
        self.forwarder.handle_timeout(self.now);
    }

    pub fn ask_from(&mut self, client: Client, transport: Transport, octets: &[u8]) -> Disposition {
        self.forwarder.handle_query(client, transport, octets, self.now)
    }

    pub fn ask(&mut self, text: &str, rtype: RecordType) {
        let octets = octets(&query(text, rtype));
        assert_eq!(self.ask_from(client(9), UDP, &octets), Disposition::Accepted);
    }

    /// The reply that is due now; there must be exactly one.
    pub fn reply(&mut self) -> Message {
        let octets = self.reply_octets();
        Message::from_vec(&octets).expect("replies are sound messages")
    }

    pub fn reply_octets(&mut self) -> Vec<u8> {
        let reply = self.forwarder.poll_reply().expect("a reply is due");
        assert_eq!(self.forwarder.poll_reply(), None);
        reply.message
    }

    pub fn replies(&mut self) -> Vec<Reply> {
        std::iter::from_fn(|| self.forwarder.poll_reply()).collect()
    }

    pub fn no_reply(&mut self) {
        assert_eq!(self.forwarder.poll_reply(), None);
    }

    /// The message to a server that is due now; there must be exactly one.
    pub fn sent(&mut self) -> Sent {
        let sent = self.sent_all();
        assert_eq!(sent.len(), 1, "one message to a server is due");
        sent[0].clone()
    }

    pub fn sent_all(&mut self) -> Vec<Sent> {
        let requests = std::iter::from_fn(|| self.forwarder.poll_upstream());
        requests
            .map(|request| match request {
                UpstreamRequest::Udp { source_port, server, message } => {
                    Sent { server, source_port: Some(source_port), octets: message }
                }
                UpstreamRequest::Tcp { server, message } => {
                    Sent { server, source_port: None, octets: message }
                }
            })
            .collect()
    }

    pub fn not_sent(&mut self) {
        assert_eq!(self.forwarder.poll_upstream(), None);
    }

    pub fn answer(&mut self, sent: &Sent, octets: &[u8]) {
        self.forwarder.handle_upstream(sent.origin(), octets, self.now);
    }

    pub fn released(&mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.forwarder.poll_port_released()).collect()
    }

    /// Asks for the address of `text`, has it answered, and takes the reply.
    pub fn learn(&mut self, text: &str, ttl: u32) -> Message {
        self.ask(text, RecordType::A);
        let sent = self.sent();
        self.answer(&sent, &sent.address(ttl, [203, 0, 113, 7]));
        self.reply()
    }
}
