//! Another host with a TCP of its own: smoltcp behind two queues.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use packet::{LinkId, PuntReason};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::frames::{framed, see, unframed};
use crate::rig::{DNS, Rig};

#[derive(Default)]
struct Wire {
    arrived: VecDeque<Vec<u8>>,
    left: VecDeque<Vec<u8>>,
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
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.arrived.pop_front()?), Tx(&mut self.left)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.left))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

pub struct Peer {
    address: Ipv4Addr,
    link: LinkId,
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
}

impl Peer {
    pub fn new(address: Ipv4Addr, link: LinkId) -> Self {
        let mut wire = Wire::default();
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface
            .update_ip_addrs(|list| list.push(IpCidr::new(IpAddress::Ipv4(address), 0)).unwrap());
        Self { address, link, interface, wire, sockets: SocketSet::new(Vec::new()) }
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 8192]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    pub fn listen(&mut self) -> SocketHandle {
        let handle = self.socket();
        self.tcp(handle).listen(DNS).unwrap();
        handle
    }

    pub fn connect(&mut self, to: Ipv4Addr, local_port: u16) -> SocketHandle {
        let handle = self.socket();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), (to, DNS), local_port).unwrap();
        handle
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Carries packets between this host and the stack until neither has any.
    pub fn run(&mut self, rig: &mut Rig) {
        loop {
            let now = Instant::from_millis(rig.now.instant.as_millis() as i64);
            for packet in std::mem::take(&mut rig.packets) {
                if see(&packet).destination.0 == self.address {
                    self.wire.arrived.push_back(unframed(&packet).to_vec());
                } else {
                    rig.packets.push(packet);
                }
            }
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            if self.wire.left.is_empty() {
                return;
            }
            while let Some(packet) = self.wire.left.pop_front() {
                rig.punt(PuntReason::Local, self.link, &framed(&packet));
            }
        }
    }

    /// Sends a DNS message with its length before it (RFC 1035 §4.2.2).
    pub fn say(&mut self, handle: SocketHandle, message: &[u8]) {
        let framed = [&(message.len() as u16).to_be_bytes(), message].concat();
        assert_eq!(self.tcp(handle).send_slice(&framed), Ok(framed.len()));
    }

    /// The next whole DNS message.
    pub fn hear(&mut self, handle: SocketHandle) -> Option<Vec<u8>> {
        let socket = self.tcp(handle);
        let mut length = [0; 2];
        (socket.recv_slice(&mut length) == Ok(2)).then_some(())?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        assert_eq!(socket.recv_slice(&mut message), Ok(message.len()));
        Some(message)
    }
}
