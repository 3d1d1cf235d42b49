//! Datagrams of the smallest size, as many as a sender can send.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::{Namespace, wait_until};
use rustix::net::addr::SocketAddrArg as _;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

/// Flows, told apart by their destination port.
const FLOWS: u16 = 256;

const FIRST_PORT: u16 = 20_000;

/// Datagrams that are handed over in one system call.
const BATCH: usize = 64;

/// Of a frame of 64 bytes with its FCS.
const PAYLOAD: [u8; 18] = [0x5a; 18];

/// Longest time that what is on its way when a sender ends may take to arrive.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Packets between two looks that no flood leaves behind.
const FEW: u64 = 10;

/// Sockets that nobody reads: what reaches the host is counted when it is delivered to UDP, and costs no more.
pub(crate) struct Sink<'a> {
    namespace: &'a Namespace,
    _sockets: Vec<UdpSocket>,
}

/// Datagrams of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flood {
    /// Taken by the sender's kernel.
    pub(crate) sent: u64,
    /// Delivered.
    pub(crate) arrived: u64,
}

impl<'a> Sink<'a> {
    /// Opens them.
    pub(crate) fn open(namespace: &'a Namespace) -> Result<Self> {
        let ports = FIRST_PORT..FIRST_PORT + FLOWS;
        let open = || -> std::io::Result<Vec<UdpSocket>> {
            ports.map(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))).collect()
        };
        let sockets = namespace.enter(open)?.context("open the sockets of the sink")?;
        Ok(Self { namespace, _sockets: sockets })
    }

    /// Sends from `host` to `address` for `time`.
    pub(crate) fn flood(&self, host: &Namespace, address: &str, time: Duration) -> Result<Flood> {
        let address: Ipv4Addr = address.parse().context("an IPv4 address")?;
        let before = self.delivered()?;
        let sent = host.enter(|| send(address, time))?.context("send datagrams")?;
        let mut last = self.delivered()?;
        wait_until(DRAIN_MAX, "the last datagrams arrive", || {
            let (before, now) = (last, self.delivered().unwrap_or(last));
            last = now;
            now < before + FEW
        })?;
        Ok(Flood { sent, arrived: last.saturating_sub(before) })
    }

    /// IP packets that the namespace delivered to its own protocols so far.
    fn delivered(&self) -> Result<u64> {
        let read = || std::fs::read_to_string("/proc/thread-self/net/snmp");
        let text = self.namespace.enter(read)?.context("read the namespace's counters")?;
        counter(&text, "Ip", "InDelivers").context("the kernel counts what it delivers")
    }
}

#[expect(clippy::disallowed_methods, reason = "a development edge: real peers take real time")]
fn send(address: Ipv4Addr, time: Duration) -> std::io::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let ports = FIRST_PORT..FIRST_PORT + FLOWS;
    let addresses: Vec<_> =
        ports.map(|port| SocketAddr::V4(SocketAddrV4::new(address, port)).as_any()).collect();
    let payload = [IoSlice::new(&PAYLOAD)];
    let start = Instant::now();
    let mut batches = addresses.chunks(BATCH).cycle();
    let mut sent = 0;
    while start.elapsed() < time {
        let batch = batches.next().expect("a cycle never ends");
        let mut controls: [_; BATCH] = std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut messages: Vec<_> = batch
            .iter()
            .zip(&mut controls)
            .map(|(address, control)| MMsgHdr::new_with_addr(address, &payload, control))
            .collect();
        match sendmmsg(&socket, &mut messages, SendFlags::empty()) {
            Ok(count) => sent += count as u64,
            // A neighbour that is not known yet, or a full queue: the next may pass.
            Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}

/// A counter of `/proc/net/snmp`: a line of names, and one of values.
fn counter(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(other, _)| *other == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use lab::Lab;

    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "Ip: Forwarding InReceives InDelivers\nIp: 1 20 19\nUdp: InDelivers\nUdp: 7\n";
        assert_eq!(counter(text, "Ip", "InDelivers"), Some(19));
        assert_eq!(counter(text, "Udp", "InDelivers"), Some(7));
        assert_eq!(counter(text, "Ip", "OutRequests"), None);
    }

    #[test]
    fn what_a_host_sends_is_counted_where_it_arrives() {
        let lab = Lab::new("udp").unwrap();
        let hosts = ["a", "b"].map(|label| lab.namespace(label).unwrap());
        lab.veth((&hosts[0], "eth0"), (&hosts[1], "eth0")).unwrap();
        for (host, address) in hosts.iter().zip(["10.9.0.1/24", "10.9.0.2/24"]) {
            host.exec(["ip", "link", "set", "dev", "eth0", "up"]).unwrap();
            host.exec(["ip", "address", "add", address, "dev", "eth0"]).unwrap();
        }
        let sink = Sink::open(&hosts[1]).unwrap();
        let flood = sink.flood(&hosts[0], "10.9.0.2", Duration::from_millis(50)).unwrap();
        assert!(flood.arrived > BATCH as u64, "{flood:?}");
    }
}
