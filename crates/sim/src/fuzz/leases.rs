//! The DHCP machines against a peer that says anything.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp::Now;
use dhcp::client::{Client, ClientConfig, ConflictProbe};
use dhcp::frame::{self, Addressing, FRAME_MAX, MESSAGE_MAX};
use dhcp::server::{Reservation, Server, ServerConfig};
use packet::{Instant, MacAddr};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Input, STEPS_MAX, router_mac};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const EPOCH: u64 = 1_700_000_000;

/// Deadlines that one input may have met: enough for three lives of a lease, from the first word to the end of its
/// time. What would come then is a client that asks nobody, every minute, for days.
const DEADLINES_MAX: usize = 96;

/// Deadlines that may follow each other within [`BURST_SPAN`] while nothing happens. More would mean a machine that never
/// rests.
const BURST: usize = 32;
const BURST_SPAN: Duration = Duration::from_mins(3);

/// Offsets of RFC 2131 §2, figure 1.
const XID: std::ops::Range<usize> = 4..8;
const CHADDR: std::ops::Range<usize> = 28..34;

fn at(instant: Instant) -> Now {
    Now::new(instant, EPOCH + instant.as_secs())
}

/// Sends messages, ARP sightings and time to a server.
///
/// **Shape**: steps. A byte says which: a frame, a message (both a chunk), a sighting, or time in seconds.
///
/// # Panics
/// If the server never rests, hands out what it may not, or sends what is no datagram.
pub fn dhcp_server(data: &[u8]) {
    let subnet = "10.0.1.0/28".parse().expect("a prefix");
    let (first, last) = (Ipv4Addr::new(10, 0, 1, 4), Ipv4Addr::new(10, 0, 1, 9));
    let config = ServerConfig {
        pools: vec![(first, last)],
        reservations: vec![Reservation {
            mac: MacAddr([6, 0, 0, 0, 0, 5]),
            address: Ipv4Addr::new(10, 0, 1, 12),
            name: Some("web".to_owned()),
        }],
        domain: Some("home.arpa".to_owned()),
        ..ServerConfig::new("home".to_owned(), router_mac(1), ROUTER, subnet)
    };
    let mut clock = Clock::new();
    let mut server = Server::new(config, [], clock.now);
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let now = clock.now;
        match input.u8() & 3 {
            0 => server.handle_frame(input.chunk(), now),
            1 => {
                let from = Ipv4Addr::new(10, 0, 1, input.u8() & 15);
                let source = if from.octets()[3] == 0 { Ipv4Addr::UNSPECIFIED } else { from };
                let frame = to_server(source, input.chunk());
                server.handle_frame(&frame, now);
            }
            2 => {
                let sender = Ipv4Addr::new(10, 0, 1, input.u8() & 15);
                server.handle_arp(sender, MacAddr([6, 0, 0, 0, 0, input.u8()]), now);
            }
            _ => {
                let span = Duration::from_secs(input.u16().into());
                clock.turn(span, &mut server, Server::poll_timeout, Server::handle_timeout);
            }
        }
        while server.poll_store().is_some() || server.poll_event().is_some() {}
        drain(|buffer| server.poll_transmit(buffer));
        let assignable = |address| address == Ipv4Addr::new(10, 0, 1, 12) || address >= first;
        assert!(server.bindings().all(|binding| assignable(binding.address)));
    }
}

fn to_server(source: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let addressing = Addressing {
        src_mac: MacAddr([6, 0, 0, 0, 0, 5]),
        dst_mac: MacAddr::BROADCAST,
        src: source,
        dst: Ipv4Addr::BROADCAST,
        src_port: frame::CLIENT_PORT,
        dst_port: frame::SERVER_PORT,
    };
    datagram(&addressing, payload)
}

/// Sends messages, ARP sightings, commands and time to a client.
///
/// **Shape**: steps. A byte says which: a frame, an answer to the client's last message (both a chunk), a sighting,
/// time in seconds, or a command.
///
/// # Panics
/// If the client never rests or sends what is neither datagram nor ARP.
pub fn dhcp_client(data: &[u8]) {
    let mut clock = Clock::new();
    let config = ClientConfig {
        hostname: Some("router".to_owned()),
        conflict_probe: ConflictProbe::FAST,
        ..ClientConfig::new(router_mac(0))
    };
    let mut client = Client::new(config, None, StdRng::seed_from_u64(7));
    client.handle_link_up(clock.now);
    let mut last = Vec::new();
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        while client.poll_store().is_some() || client.poll_event().is_some() {}
        last = drain(|buffer| client.poll_transmit(buffer)).unwrap_or(last);
        if input.is_empty() || clock.deadlines_left == 0 {
            break;
        }
        let now = clock.now;
        match input.u8() & 7 {
            0 => client.handle_frame(input.chunk(), now),
            1 | 2 => client.handle_frame(&to_client(input.chunk(), &last), now),
            3 => {
                let sender = Ipv4Addr::new(198, 51, 100, input.u8());
                client.handle_arp(sender, MacAddr([6, 0, 0, 0, 0, 1]), now);
            }
            4 => client.renew(now),
            5 => client.release(now),
            6 => {
                client.handle_link_down(now);
                client.handle_link_up(now);
            }
            _ => {
                let span = Duration::from_secs(input.u16().into());
                clock.turn(span, &mut client, Client::poll_timeout, Client::handle_timeout);
            }
        }
    }
}

/// A message with the transaction and the station of what the client said last.
fn to_client(payload: &[u8], last: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if let Some(asked) = frame::parse(last) {
        for field in [XID, CHADDR] {
            if let (Some(ours), Some(theirs)) =
                (payload.get_mut(field.clone()), asked.payload.get(field))
            {
                ours.copy_from_slice(theirs);
            }
        }
    }
    let addressing = Addressing {
        src_mac: MacAddr([6, 0, 0, 0, 0, 1]),
        dst_mac: router_mac(0),
        src: Ipv4Addr::new(198, 51, 100, 1),
        dst: Ipv4Addr::new(198, 51, 100, 2),
        src_port: frame::SERVER_PORT,
        dst_port: frame::CLIENT_PORT,
    };
    datagram(&addressing, &payload)
}

fn datagram(addressing: &Addressing, payload: &[u8]) -> Vec<u8> {
    const HEADERS: usize = FRAME_MAX - MESSAGE_MAX;
    let payload = &payload[..payload.len().min(1472)];
    let mut buffer = vec![0; HEADERS + payload.len()];
    frame::emit(&mut buffer, addressing, payload);
    buffer
}

/// Takes every frame, each of which is a datagram or ARP; returns the last datagram.
fn drain(mut poll: impl FnMut(&mut [u8]) -> Option<usize>) -> Option<Vec<u8>> {
    let mut buffer = [0; FRAME_MAX];
    let mut last = None;
    while let Some(len) = poll(&mut buffer) {
        let frame = &buffer[..len];
        if frame::parse(frame).is_some() {
            last = Some(frame.to_vec());
        } else {
            assert_eq!(frame[12..14], [8, 6], "neither datagram nor ARP");
        }
    }
    last
}

/// A clock that stops at every deadline of a machine.
struct Clock {
    now: Now,
    /// Deadlines that it still stops at; after the last it stands still.
    deadlines_left: usize,
}

impl Clock {
    fn new() -> Self {
        Self { now: at(Instant::from_secs(1000)), deadlines_left: DEADLINES_MAX }
    }

    fn turn<M>(
        &mut self,
        span: Duration,
        machine: &mut M,
        due: fn(&M) -> Option<Instant>,
        handle: fn(&mut M, Now),
    ) {
        let end = self.now.instant + span;
        let (mut met, mut since) = (0, self.now.instant);
        while let Some(next) = due(machine).filter(|next| *next <= end) {
            if self.deadlines_left == 0 {
                return;
            }
            self.deadlines_left -= 1;
            self.now = at(next.max(self.now.instant));
            handle(machine, self.now);
            met += 1;
            if met % BURST == 0 {
                assert!(self.now.instant >= since + BURST_SPAN, "the machine never rests");
                since = self.now.instant;
            }
        }
        self.now = at(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    /// A machine that is due again so long after each deadline.
    struct Due(Instant, Duration);

    fn turn(clock: &mut Clock, span: Duration, machine: &mut Due) {
        clock.turn(span, machine, |due| Some(due.0), |due, now| due.0 = now.instant + due.1);
    }

    #[test]
    #[should_panic(expected = "never rests")]
    fn a_machine_that_is_due_again_at_once_is_found_out() {
        let mut clock = Clock::new();
        let now = clock.now.instant;
        turn(&mut clock, DAY, &mut Due(now, Duration::ZERO));
    }

    #[test]
    fn the_clock_stops_at_every_deadline_and_for_good_at_the_last() {
        let mut clock = Clock::new();
        let start = clock.now.instant;
        let mut machine = Due(start, Duration::from_mins(1));
        turn(&mut clock, Duration::from_mins(10), &mut machine);
        assert_eq!(clock.now.instant, start + Duration::from_mins(10));
        assert_eq!(clock.deadlines_left, DEADLINES_MAX - 11);
        turn(&mut clock, DAY, &mut machine);
        let last = start + Duration::from_mins(DEADLINES_MAX as u64 - 1);
        assert_eq!((clock.now.instant, clock.deadlines_left), (last, 0));
    }
}
