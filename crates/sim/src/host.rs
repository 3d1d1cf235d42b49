//! A host with a stack that is not ours.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use packet::{Endpoint, Instant, MacAddr};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, icmp, tcp, udp};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr,
    IpEndpoint, Ipv4Cidr,
};

/// Datagrams that a socket keeps in either direction.
const DATAGRAMS: usize = 256;

/// Bytes that a socket keeps in either direction.
const BYTES: usize = 64 * 1024;

/// Connections that an echo service has open at a time.
const ECHO_CONNECTIONS: usize = 8;

/// Identifier of a host's pings.
const PING_ID: u16 = 0x51;

/// Where a host's address comes from.
#[derive(Clone, Copy, Debug)]
pub enum Address {
    /// From the network.
    Dhcp,
    /// Given, with the next hop for everything outside.
    Static(Ipv4Net, Ipv4Addr),
    /// A host of the Internet, which has no link that anybody sees.
    Remote(Ipv4Addr),
}

/// A host; see [`crate::World::host`] for how to reach it.
pub struct Host {
    /// Its station; zero for a remote host.
    pub mac: MacAddr,
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    ping: SocketHandle,
    dns_servers: Vec<Ipv4Addr>,
    mirrors: Vec<SocketHandle>,
    echoes: Vec<(SocketHandle, u16)>,
    pongs: Vec<(Ipv4Addr, u16)>,
}

impl Host {
    /// Makes a host; one with [`Address::Dhcp`] asks for an address at its first timeout.
    #[must_use]
    pub fn new(mac: MacAddr, address: Address, seed: u64, now: Instant) -> Self {
        let (medium, hardware) = match address {
            Address::Remote(_) => (Medium::Ip, HardwareAddress::Ip),
            Address::Dhcp | Address::Static(..) => {
                (Medium::Ethernet, HardwareAddress::Ethernet(EthernetAddress(mac.0)))
            }
        };
        let mut wire = Wire { medium, received: VecDeque::new(), to_send: VecDeque::new() };
        let mut config = Config::new(hardware);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, time(now));
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = matches!(address, Address::Dhcp).then(|| sockets.add(dhcpv4::Socket::new()));
        match address {
            Address::Dhcp => {}
            Address::Static(net, gateway) => {
                set_address(&mut interface, Ipv4Cidr::new(net.addr(), net.prefix_len()));
                set_gateway(&mut interface, gateway);
            }
            Address::Remote(address) => {
                set_address(&mut interface, Ipv4Cidr::new(address, 32));
                set_gateway(&mut interface, address);
            }
        }
        let ping = sockets.add(ping_socket());
        let (mirrors, echoes, pongs) = (Vec::new(), Vec::new(), Vec::new());
        let dns_servers = Vec::new();
        Self { mac, interface, wire, sockets, dhcp, ping, dns_servers, mirrors, echoes, pongs }
    }

    /// The host's address, once it has one.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.interface.ipv4_addr()
    }

    /// The name servers that its lease names.
    #[must_use]
    pub fn dns_servers(&self) -> &[Ipv4Addr] {
        &self.dns_servers
    }

    /// Answers every datagram to a port with the endpoint that it came from, as text.
    pub fn serve_mirror(&mut self, port: u16) {
        let socket = self.udp(port);
        self.mirrors.push(socket);
    }

    /// Sends back what connections to a port send.
    pub fn serve_echo(&mut self, port: u16) {
        for _ in 0..ECHO_CONNECTIONS {
            let socket = self.tcp_listen(port);
            self.echoes.push((socket, port));
        }
    }

    /// Opens a UDP socket.
    ///
    /// # Panics
    /// If the port is 0.
    pub fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; BYTES]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).expect("a port that is not zero");
        self.sockets.add(socket)
    }

    /// Sends a datagram; one that does not fit the queue is lost.
    pub fn udp_send(&mut self, socket: SocketHandle, to: Endpoint, payload: &[u8]) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(socket);
        let _ = socket.send_slice(payload, IpEndpoint::new(to.address.into(), to.port));
    }

    /// The next datagram, and who sent it.
    pub fn udp_recv(&mut self, socket: SocketHandle) -> Option<(Endpoint, Vec<u8>)> {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(socket);
        let (payload, meta) = socket.recv().ok()?;
        Some((endpoint(meta.endpoint), payload.to_vec()))
    }

    /// Opens a connection.
    ///
    /// # Panics
    /// If the host has no address yet.
    pub fn tcp_connect(&mut self, from: u16, to: Endpoint) -> SocketHandle {
        let handle = self.sockets.add(tcp_socket());
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        let remote = IpEndpoint::new(to.address.into(), to.port);
        let connected = socket.connect(self.interface.context(), remote, from);
        connected.expect("the host has an address and the socket is new");
        handle
    }

    /// Waits for one connection.
    ///
    /// # Panics
    /// If the port is 0.
    pub fn tcp_listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = tcp_socket();
        socket.listen(port).expect("a port that is not zero");
        self.sockets.add(socket)
    }

    /// Sends as much as there is room for; how much that was.
    pub fn tcp_send(&mut self, socket: SocketHandle, data: &[u8]) -> usize {
        self.sockets.get_mut::<tcp::Socket<'_>>(socket).send_slice(data).unwrap_or(0)
    }

    /// What arrived since the last call.
    pub fn tcp_recv(&mut self, socket: SocketHandle) -> Vec<u8> {
        take_all(self.sockets.get_mut::<tcp::Socket<'_>>(socket))
    }

    /// Ends the sending half of a connection.
    pub fn tcp_close(&mut self, socket: SocketHandle) {
        self.sockets.get_mut::<tcp::Socket<'_>>(socket).close();
    }

    /// The state of a connection.
    #[must_use]
    pub fn tcp_state(&self, socket: SocketHandle) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(socket).state()
    }

    /// Whom a connection is with, as this host sees it.
    #[must_use]
    pub fn tcp_peer(&self, socket: SocketHandle) -> Option<Endpoint> {
        self.sockets.get::<tcp::Socket<'_>>(socket).remote_endpoint().map(endpoint)
    }

    /// Sends an echo request; one that does not fit the queue is lost.
    pub fn ping(&mut self, to: Ipv4Addr, sequence: u16) {
        let message = Icmpv4Repr::EchoRequest { ident: PING_ID, seq_no: sequence, data: b"ping" };
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.ping);
        if let Ok(space) = socket.send(message.buffer_len(), to.into()) {
            let mut packet = Icmpv4Packet::new_unchecked(space);
            message.emit(&mut packet, &smoltcp::phy::ChecksumCapabilities::default());
        }
    }

    /// Who answered pings so far, and which.
    #[must_use]
    pub fn pongs(&self) -> &[(Ipv4Addr, u16)] {
        &self.pongs
    }

    /// Takes a frame; a remote host, an IP packet.
    pub fn receive(&mut self, frame: Vec<u8>, now: Instant) {
        self.wire.received.push_back(frame);
        self.handle_timeout(now);
    }

    /// Does what is due, and what applications asked for.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.interface.poll(time(now), &mut self.wire, &mut self.sockets);
        self.take_lease();
        self.take_pongs();
        self.serve();
        self.interface.poll(time(now), &mut self.wire, &mut self.sockets);
    }

    /// When something is due.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let delay = self.interface.poll_delay(time(now), &self.sockets)?;
        Some(now + Duration::from_micros(delay.total_micros()))
    }

    /// The next frame that leaves; of a remote host, IP packet.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.wire.to_send.pop_front()
    }

    fn take_lease(&mut self) {
        let Some(handle) = self.dhcp else { return };
        match self.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
            None => {}
            Some(dhcpv4::Event::Configured(lease)) => {
                self.dns_servers = lease.dns_servers.iter().copied().collect();
                set_address(&mut self.interface, lease.address);
                if let Some(router) = lease.router {
                    set_gateway(&mut self.interface, router);
                }
            }
            Some(dhcpv4::Event::Deconfigured) => {
                self.interface.update_ip_addrs(|addresses| addresses.clear());
                self.interface.routes_mut().remove_default_ipv4_route();
            }
        }
    }

    fn take_pongs(&mut self) {
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.ping);
        while let Ok((message, IpAddress::Ipv4(from))) = socket.recv() {
            let Ok(packet) = Icmpv4Packet::new_checked(message) else { continue };
            if packet.msg_type() == Icmpv4Message::EchoReply {
                self.pongs.push((from, packet.echo_seq_no()));
            }
        }
    }

    fn serve(&mut self) {
        for mirror in self.mirrors.clone() {
            while let Some((from, _)) = self.udp_recv(mirror) {
                self.udp_send(mirror, from, from.to_string().as_bytes());
            }
        }
        for (handle, port) in &self.echoes {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            let room = socket.send_capacity() - socket.send_queue();
            if room > 0 && socket.can_recv() {
                let data = socket.recv(|data| {
                    let taken = data.len().min(room);
                    (taken, data[..taken].to_vec())
                });
                let _ = socket.send_slice(&data.unwrap_or_default());
            }
            if socket.state() == tcp::State::CloseWait && socket.send_queue() == 0 {
                socket.close();
            }
            if !socket.is_open() {
                let _ = socket.listen(*port);
            }
        }
    }
}

fn take_all(socket: &mut tcp::Socket<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    while socket.can_recv() {
        let taken = socket.recv(|data| {
            all.extend_from_slice(data);
            (data.len(), data.len())
        });
        if taken.unwrap_or(0) == 0 {
            break;
        }
    }
    all
}

fn set_address(interface: &mut Interface, address: Ipv4Cidr) {
    interface.update_ip_addrs(|addresses| {
        addresses.clear();
        // The list has room for its first element.
        let _ = addresses.push(IpCidr::Ipv4(address));
    });
}

fn set_gateway(interface: &mut Interface, gateway: Ipv4Addr) {
    // It replaces the one there may be, so there is room.
    let _ = interface.routes_mut().add_default_ipv4_route(gateway);
}

fn ping_socket() -> icmp::Socket<'static> {
    let buffer =
        || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; BYTES]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(PING_ID)).expect("an identifier, and a new socket");
    socket
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BYTES]);
    tcp::Socket::new(buffer(), buffer())
}

fn endpoint(endpoint: IpEndpoint) -> Endpoint {
    let IpAddress::Ipv4(address) = endpoint.addr;
    Endpoint::new(address, endpoint.port)
}

fn time(now: Instant) -> SmolInstant {
    SmolInstant::from_micros((now.as_nanos() / 1000) as i64)
}

/// Frames in and out.
struct Wire {
    medium: Medium,
    received: VecDeque<Vec<u8>>,
    to_send: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);

struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _now: SmolInstant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.received.pop_front()?), Tx(&mut self.to_send)))
    }

    fn transmit(&mut self, _now: SmolInstant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.to_send))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = match self.medium {
            Medium::Ethernet => 1514,
            Medium::Ip => 1500,
        };
        capabilities
    }
}
