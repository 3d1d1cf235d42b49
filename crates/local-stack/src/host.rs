//! The router's own TCP and UDP endpoints, on smoltcp.
//!
//! The worker punts only what is addressed to the router, so the interface takes any destination
//! (`any_ip`) and replies from the address that was asked. Queries to upstream servers leave from a LAN
//! address and are translated like those of any host (see `crates/README.md`).

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::BytesMut;
use dns::{Framer, Transport, frame};
use packet::{Endpoint, Instant};
use rand::RngExt;
use rand::rngs::StdRng;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint};

use crate::device::Queues;

/// The DNS port, for service and upstream.
pub const DNS_PORT: u16 = 53;

/// DNS connections served at a time. smoltcp needs a socket per connection; a house has a few.
const TCP_SERVERS: usize = 16;

/// Upstream connections at a time.
pub const TCP_UPSTREAMS_MAX: usize = 8;

/// Upstream UDP ports open at a time, one per query in flight.
pub const UDP_UPSTREAMS_MAX: usize = 256;

/// Queries whose answer is outstanding; the oldest is forgotten beyond that.
const CLIENTS_MAX: usize = 4096;

/// Local ports of upstream connections (RFC 6056 §3.2).
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;

/// A connection that says nothing for this long is closed (RFC 7766 §6.2.3: "on the order of seconds").
const TCP_IDLE: Duration = Duration::from_secs(10);

/// How long the peer of a connection that we closed may take to close its side.
const TCP_LINGER: Duration = Duration::from_secs(2);

/// Receive and send buffer of a connection.
const TCP_BUFFER: usize = 8192;

/// Queries that may wait in the server's UDP socket between two polls.
const UDP_QUERIES: usize = 256;
const UDP_BYTES: usize = 128 * 1024;

/// One DNS connection, inbound or outbound.
struct Connection {
    handle: SocketHandle,
    framer: Framer,
    out: Vec<u8>,
    active_until: Instant,
    /// Counts connections on this socket, so that an answer can't reach the next one.
    generation: u32,
    open: bool,
}

/// A UDP socket of one upstream query.
struct Port {
    handle: SocketHandle,
    port: u16,
}

/// A connection to an upstream server.
struct Upstream {
    /// `None` once the connection is being closed, so that the next message opens another.
    server: Option<Endpoint>,
    connection: Connection,
}

/// Who asked.
#[derive(Clone, Copy, Debug)]
enum Client {
    Udp { from: IpEndpoint, asked: IpAddress },
    Tcp { server: usize, generation: u32 },
}

/// What arrived for the services.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A DNS query.
    Query { transport: Transport, from: Ipv4Addr, token: u64, message: Vec<u8> },
    /// A datagram on an upstream port.
    UdpAnswer { port: u16, from: Endpoint, message: Vec<u8> },
    /// A message on an upstream connection.
    TcpAnswer { server: Endpoint, message: Vec<u8> },
    /// An upstream connection is over.
    TcpClosed { server: Endpoint },
}

/// The endpoints of the router itself.
pub struct Host {
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    udp: SocketHandle,
    servers: Vec<Connection>,
    ports: Vec<Port>,
    upstreams: Vec<Upstream>,
    clients: VecDeque<Client>,
    first_token: u64,
    inputs: VecDeque<Input>,
    source: Ipv4Addr,
    rng: StdRng,
}

impl Host {
    /// Makes the endpoints; `source` is the LAN address that upstream queries leave from.
    #[must_use]
    pub fn new(source: Ipv4Addr, mut rng: StdRng, now: Instant) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = rng.random();
        let mut interface = Interface::new(config, &mut queues, time(now));
        interface.set_any_ip(true);
        interface.update_ip_addrs(|addresses| {
            // The list has room for its first element.
            let _ = addresses.push(IpCidr::new(source.into(), 32));
        });
        // Everything leaves by the one device; the worker routes.
        let _ = interface.routes_mut().add_default_ipv4_route(source);
        let mut sockets = SocketSet::new(Vec::new());
        let udp = sockets.add(udp_socket(DNS_PORT, UDP_QUERIES, UDP_BYTES));
        let servers = (0..TCP_SERVERS).map(|_| Connection::listening(&mut sockets)).collect();
        Self {
            interface,
            queues,
            sockets,
            udp,
            servers,
            ports: Vec::new(),
            upstreams: Vec::new(),
            clients: VecDeque::new(),
            first_token: 0,
            inputs: VecDeque::new(),
            source,
            rng,
        }
    }

    /// Takes an IP packet for the router; `false` if the queue is full.
    pub fn handle_packet(&mut self, packet: &[u8]) -> bool {
        self.queues.push(packet)
    }

    /// Runs the stack and collects what arrived.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.interface.poll(time(now), &mut self.queues, &mut self.sockets);
        self.read_udp();
        for index in 0..self.servers.len() {
            self.serve_tcp(index, now);
        }
        self.read_ports();
        self.read_upstreams(now);
        self.interface.poll(time(now), &mut self.queues, &mut self.sockets);
    }

    /// When the stack wants to run again.
    #[must_use]
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let delay = self.interface.poll_delay(time(now), &self.sockets);
        let stack = delay.map(|delay| now + Duration::from_micros(delay.total_micros()));
        let idle = self
            .servers
            .iter()
            .chain(self.upstreams.iter().map(|upstream| &upstream.connection))
            .filter(|connection| connection.open)
            .map(|connection| connection.active_until)
            .min();
        Instant::earliest(stack, idle)
    }

    /// Length of the next IP packet to send.
    pub fn next_len(&self) -> Option<usize> {
        self.queues.next_len()
    }

    /// Next IP packet to send.
    pub fn poll_packet(&mut self) -> Option<BytesMut> {
        self.queues.pop()
    }

    /// Next thing that arrived.
    pub fn poll_input(&mut self) -> Option<Input> {
        self.inputs.pop_front()
    }

    /// Answers a query; an answer to a client that is gone is dropped.
    pub fn answer(&mut self, token: u64, message: &[u8], now: Instant) {
        let Some(index) = token.checked_sub(self.first_token) else { return };
        let Some(client) = self.clients.get(index as usize).copied() else { return };
        match client {
            Client::Udp { from, asked } => {
                let mut meta = udp::UdpMetadata::from(from);
                meta.local_address = Some(asked);
                let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
                // A full send buffer loses the answer, as the network might; the client asks again.
                let _ = socket.send_slice(message, meta);
            }
            Client::Tcp { server, generation } => {
                let connection = &mut self.servers[server];
                if connection.open && connection.generation == generation {
                    frame(message, &mut connection.out);
                    connection.flush(&mut self.sockets, now);
                }
            }
        }
    }

    /// Sends a query from a port of its own; `false` if all ports are in use or the port is taken.
    pub fn send_udp(&mut self, port: u16, server: Endpoint, message: &[u8]) -> bool {
        let taken = port == DNS_PORT || self.ports.iter().any(|open| open.port == port);
        if taken || self.ports.len() == UDP_UPSTREAMS_MAX {
            return false;
        }
        const ANSWERS: usize = 4;
        const BYTES: usize = 4 * 4096;
        let mut socket = udp_socket(port, ANSWERS, BYTES);
        let mut meta = udp::UdpMetadata::from(ip_endpoint(server));
        meta.local_address = Some(self.source.into());
        let sent = socket.send_slice(message, meta).is_ok();
        let handle = self.sockets.add(socket);
        self.ports.push(Port { handle, port });
        sent
    }

    /// Closes the port of a query.
    pub fn close_udp(&mut self, port: u16) {
        if let Some(index) = self.ports.iter().position(|open| open.port == port) {
            let closed = self.ports.swap_remove(index);
            self.sockets.remove(closed.handle);
        }
    }

    /// Sends a message on the connection to `server`, which is opened if there is none; `false` if it can't be.
    pub fn send_tcp(&mut self, server: Endpoint, message: &[u8], now: Instant) -> bool {
        let known = self.upstreams.iter().position(|upstream| upstream.server == Some(server));
        let Some(index) = known.or_else(|| self.connect(server, now)) else { return false };
        let connection = &mut self.upstreams[index].connection;
        frame(message, &mut connection.out);
        connection.flush(&mut self.sockets, now);
        true
    }

    fn connect(&mut self, server: Endpoint, now: Instant) -> Option<usize> {
        if self.upstreams.len() == TCP_UPSTREAMS_MAX {
            return None;
        }
        let port = self.rng.random_range(EPHEMERAL_PORTS);
        let mut connection = Connection::new(&mut self.sockets);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
        let local = IpListenEndpoint { addr: Some(self.source.into()), port };
        if socket.connect(self.interface.context(), ip_endpoint(server), local).is_err() {
            self.sockets.remove(connection.handle);
            return None;
        }
        connection.start(now);
        self.upstreams.push(Upstream { server: Some(server), connection });
        Some(self.upstreams.len() - 1)
    }

    /// Forgets a query that no answer will come to.
    pub fn forget(&mut self, token: u64) {
        if self.first_token + self.clients.len() as u64 == token + 1 {
            self.clients.pop_back();
        }
    }

    fn remember(&mut self, client: Client) -> u64 {
        if self.clients.len() == CLIENTS_MAX {
            self.clients.pop_front();
            self.first_token += 1;
        }
        self.clients.push_back(client);
        self.first_token + self.clients.len() as u64 - 1
    }

    fn read_udp(&mut self) {
        loop {
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
            let Ok((message, meta)) = socket.recv() else { return };
            let message = message.to_vec();
            let asked = meta.local_address.unwrap_or(self.source.into());
            let IpAddress::Ipv4(from) = meta.endpoint.addr;
            let token = self.remember(Client::Udp { from: meta.endpoint, asked });
            let transport = Transport::Udp;
            self.inputs.push_back(Input::Query { transport, from, token, message });
        }
    }

    fn serve_tcp(&mut self, index: usize, now: Instant) {
        let connection = &mut self.servers[index];
        let state = self.sockets.get::<tcp::Socket<'_>>(connection.handle).state();
        match state {
            // Also where a peer took its SYN back.
            tcp::State::Listen => {
                connection.open = false;
                return;
            }
            tcp::State::Closed | tcp::State::TimeWait if !connection.open => {
                return connection.listen(&mut self.sockets);
            }
            // A handshake that is never finished counts as idle.
            _ if !connection.open => connection.start(now),
            _ => {}
        }
        let remote = self.sockets.get::<tcp::Socket<'_>>(connection.handle).remote_endpoint();
        let generation = connection.generation;
        let messages = connection.read(&mut self.sockets, now);
        connection.flush(&mut self.sockets, now);
        if connection.is_over(&mut self.sockets, now) {
            connection.listen(&mut self.sockets);
        }
        let Some(IpEndpoint { addr: IpAddress::Ipv4(from), .. }) = remote else { return };
        for message in messages {
            let token = self.remember(Client::Tcp { server: index, generation });
            let transport = Transport::Tcp;
            self.inputs.push_back(Input::Query { transport, from, token, message });
        }
    }

    fn read_ports(&mut self) {
        for Port { handle, port } in &self.ports {
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(*handle);
            while let Ok((message, meta)) = socket.recv() {
                let IpAddress::Ipv4(address) = meta.endpoint.addr;
                self.inputs.push_back(Input::UdpAnswer {
                    port: *port,
                    from: Endpoint::new(address, meta.endpoint.port),
                    message: message.to_vec(),
                });
            }
        }
    }

    fn read_upstreams(&mut self, now: Instant) {
        let Self { upstreams, sockets, inputs, .. } = self;
        upstreams.retain_mut(|Upstream { server, connection }| {
            let messages = connection.read(sockets, now);
            if let Some(server) = *server {
                let answers = messages.into_iter();
                inputs.extend(answers.map(|message| Input::TcpAnswer { server, message }));
            }
            connection.flush(sockets, now);
            let over = connection.is_over(sockets, now);
            if let Some(server) = server.take_if(|_| !connection.is_usable(sockets)) {
                inputs.push_back(Input::TcpClosed { server });
            }
            if over {
                sockets.remove(connection.handle);
            }
            !over
        });
    }
}

impl Connection {
    fn new(sockets: &mut SocketSet<'static>) -> Self {
        let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            handle,
            framer: Framer::new(),
            out: Vec::new(),
            active_until: Instant::ZERO,
            generation: 0,
            open: false,
        }
    }

    fn listening(sockets: &mut SocketSet<'static>) -> Self {
        let mut connection = Self::new(sockets);
        connection.listen(sockets);
        connection
    }

    /// Waits for the next client.
    fn listen(&mut self, sockets: &mut SocketSet<'static>) {
        self.open = false;
        self.generation = self.generation.wrapping_add(1);
        self.framer = Framer::new();
        self.out.clear();
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket.abort();
        // A socket that was aborted can always listen; the port is not zero.
        let _ = socket.listen(DNS_PORT);
    }

    fn start(&mut self, now: Instant) {
        self.open = true;
        self.active_until = now + TCP_IDLE;
    }

    /// Takes what arrived; whole messages come out.
    fn read(&mut self, sockets: &mut SocketSet<'static>, now: Instant) -> Vec<Vec<u8>> {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        let mut messages = Vec::new();
        while socket.can_recv() {
            let taken = socket.recv(|octets| {
                let taken = self.framer.push(octets);
                (taken, taken)
            });
            self.active_until = now + TCP_IDLE;
            while let Some(message) = self.framer.pop() {
                messages.push(message.to_vec());
            }
            if taken.unwrap_or(0) == 0 {
                break;
            }
        }
        messages
    }

    fn flush(&mut self, sockets: &mut SocketSet<'static>, now: Instant) {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        while !self.out.is_empty() && socket.can_send() {
            let Ok(sent @ 1..) = socket.send_slice(&self.out) else { return };
            self.out.drain(..sent);
            self.active_until = now + TCP_IDLE;
        }
    }

    /// Whether the connection ended, by the peer, by time, or by us; begins the close where it is due.
    fn is_over(&mut self, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if now >= self.active_until {
            if matches!(socket.state(), tcp::State::Established | tcp::State::CloseWait) {
                socket.close();
                self.active_until = now + TCP_LINGER;
            } else {
                socket.abort();
            }
        }
        let peer_done = !socket.may_recv() && socket.state() == tcp::State::CloseWait;
        if peer_done && self.out.is_empty() {
            socket.close();
        }
        matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait)
    }

    /// Whether messages can still be sent, now or when the handshake is done.
    fn is_usable(&self, sockets: &SocketSet<'static>) -> bool {
        let socket = sockets.get::<tcp::Socket<'_>>(self.handle);
        socket.may_send() || socket.state() == tcp::State::SynSent
    }
}

fn udp_socket(port: u16, datagrams: usize, octets: usize) -> udp::Socket<'static> {
    let buffer =
        || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; datagrams], vec![0; octets]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    // Only port 0 and a socket that is open already are refused.
    let _ = socket.bind(port);
    socket
}

fn ip_endpoint(endpoint: Endpoint) -> IpEndpoint {
    IpEndpoint::new(endpoint.address.into(), endpoint.port)
}

fn time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1_000) as i64)
}
