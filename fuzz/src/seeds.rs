//! Writes the seeds of every target's corpus into `fuzz/corpus`: run it after a change of an input's shape.
//!
//! The seeds are what well-behaved peers say, so that the fuzzer starts behind the first checks.

use std::net::Ipv4Addr;
use std::path::Path;
use std::{fs, io};

use dhcp::Now;
use dhcp::client::{Client, ClientConfig};
use dhcp::server::{Server, ServerConfig};
use etherparse::PacketBuilder;
use packet::{Instant, MacAddr};
use rand::SeedableRng;
use rand::rngs::StdRng;

const HOST: [u8; 4] = [10, 0, 1, 2];
const REMOTE: [u8; 4] = [203, 0, 113, 7];

/// Bits 2-3 of a step of `packet_path`.
const SEALED: u8 = 1 << 2;
const DESCRIBED: u8 = 2 << 2;
const LOCAL: u8 = 3 << 2;
const HOME: u8 = 1;
const WAN: u8 = 0;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let (discover, request, offer, ack) = dialogue();
    let client = |message: &[u8]| [&[1, 0], &chunk(message)[..]].concat();
    let seeds = [
        ("parse_frame", frames()),
        ("packet_path", paths()),
        ("fragments", fragments()),
        ("nat", operations()),
        ("icmp_error", errors()),
        (
            "dhcp_server",
            vec![
                client(&discover),
                // Discover, a second for the probe, request, a day.
                [client(&discover), vec![3, 0, 1], client(&request), vec![3, 255, 255]].concat(),
                [client(&discover), vec![2, 4, 9, 3, 0, 1], client(&request)].concat(),
            ],
        ),
        (
            "dhcp_client",
            vec![
                answer(&offer),
                [answer(&offer), vec![7, 0, 5], answer(&ack), vec![7, 255, 255]].concat(),
                [answer(&offer), vec![7, 0, 5], answer(&ack), vec![3, 2, 5]].concat(),
                vec![7, 255, 255, 6, 4, 7, 1, 0],
            ],
        ),
        ("dns_query", queries()),
        ("dns_upstream", answers()),
        ("config", configurations()),
    ];
    for (target, inputs) in seeds {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (index, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:02}")), input)?;
        }
    }
    Ok(())
}

/// Bytes behind their length.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn answer(message: &[u8]) -> Vec<u8> {
    [&[1], &chunk(message)[..]].concat()
}

fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([6, 0, 10, 0, 1, 2], [2, 0, 0, 0, 0, 1])
}

fn udp() -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = ethernet().ipv4(HOST, REMOTE, 64).udp(5000, 53);
    builder.write(&mut frame, &[0x5a; 100]).expect("a vector has room");
    frame
}

fn tcp(payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = ethernet().ipv4(HOST, REMOTE, 64).tcp(5000, 80, 1000, 4096).ack(7);
    builder.write(&mut frame, &vec![0x5a; payload]).expect("a vector has room");
    frame
}

/// "Port unreachable" about `udp()`.
fn icmp_error() -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = ethernet().ipv4(REMOTE, HOST, 64).icmpv4_raw(3, 3, [0; 4]);
    builder.write(&mut frame, &udp()[14..]).expect("a vector has room");
    frame
}

fn frames() -> Vec<Vec<u8>> {
    let mut echo = Vec::new();
    let builder = ethernet().ipv4(HOST, REMOTE, 64).icmpv4_echo_request(1, 1);
    builder.write(&mut echo, b"ping").expect("a vector has room");
    let plain = [udp(), tcp(20), icmp_error(), echo];
    let mut inputs: Vec<_> = plain.iter().map(|frame| [&[0], &frame[..]].concat()).collect();
    // A partial TCP checksum at its place; super-packets of TCP and UDP.
    inputs.push([&[1, 0, 34, 0, 16], &tcp(300)[..]].concat());
    inputs.push([&[2, 0, 0, 100], &tcp(250)[..]].concat());
    inputs.push([&[2, 2, 0, 30], &udp()[..]].concat());
    inputs
}

/// Source, destination, their ports (all by index), protocol, flags, length.
fn described(link: u8, way: u8, fields: [u8; 7]) -> Vec<u8> {
    [&[link | way], &fields[..]].concat()
}

fn paths() -> Vec<Vec<u8>> {
    let syn = described(HOME, DESCRIBED, [0, 2, 4, 2, 1, 2, 0]);
    let ack = described(HOME, DESCRIBED, [0, 2, 4, 2, 1, 16, 9]);
    let query = described(HOME, DESCRIBED, [0, 2, 4, 0, 0, 0, 9]);
    let ping = described(HOME, DESCRIBED, [0, 2, 4, 0, 2, 0, 9]);
    let own = described(WAN, LOCAL, [5, 2, 3, 0, 0, 0, 9]);
    let expiring = described(HOME, DESCRIBED, [0, 2, 4, 0, 0x80, 0, 9]);
    let sealed = |link, frame: &[u8]| [&[link | SEALED], &chunk(&frame[14..])[..]].concat();
    let raw = |link: u8, frame: &[u8]| [&[link, 0], &chunk(frame)[..]].concat();
    let idle = described(HOME | 0xf0, DESCRIBED, [0, 2, 4, 0, 0, 0, 9]);
    vec![
        [syn.clone(), ack, idle.clone()].concat(),
        [query.clone(), ping, own, query.clone()].concat(),
        [raw(HOME, &udp()), sealed(HOME, &tcp(20)), sealed(WAN, &icmp_error())].concat(),
        [expiring, described(HOME, DESCRIBED, [0, 1, 4, 0, 0, 0, 9])].concat(),
        [query, idle, syn, described(WAN, DESCRIBED, [2, 4, 0, 4, 0, 0, 9])].concat(),
    ]
}

/// A payload of 4000 bytes and its pieces, each with what is wrong with it, where it begins and how many units of eight
/// bytes it has.
fn fragments() -> Vec<Vec<u8>> {
    const LEN: [u8; 2] = 4000u16.to_be_bytes();
    let piece = |step: u8, begin: u16, units: u8| {
        let [high, low] = begin.to_be_bytes();
        vec![step, high, low, units - 1]
    };
    let with = |pieces: &[Vec<u8>]| [&LEN[..], &pieces.concat()].concat();
    let (first, second, last) = (piece(0, 0, 185), piece(0, 185, 185), piece(0, 370, 131));
    vec![
        with(&[first.clone(), second.clone(), last.clone()]),
        with(&[last.clone(), second.clone(), second.clone(), first.clone()]),
        // Overlaps, other bytes in the same place, a second end, a rest that comes too late.
        with(&[first.clone(), piece(0, 184, 185), second.clone(), last.clone()]),
        with(&[first.clone(), piece(1, 185, 185), second.clone(), last.clone()]),
        with(&[piece(2, 185, 184), last.clone(), first.clone()]),
        with(&[first.clone(), second.clone(), piece(0xf0, 370, 131)]),
        // Two packets at a time.
        with(&[first, piece(4, 0, 185), second, piece(4, 185, 185), last, piece(4, 370, 131)]),
        [&[0, 20][..], &piece(0, 0, 2), &piece(0, 2, 2)].concat(),
    ]
}

/// Filterings of both LANs, then operations of `sim::lockstep`, each as its number and its indices.
fn operations() -> Vec<Vec<u8>> {
    const UDP: u8 = 0;
    const TCP: u8 = 1;
    const ICMP: u8 = 2;
    const ACK: u8 = 4;
    const FIN: u8 = 5;
    const SYN_ACK: u8 = 6;
    const RESET: u8 = 7;
    let out = |protocol, host, port, remote| vec![0, protocol, 0, host, port, remote];
    let inward = |protocol, remote, to: [u8; 2]| vec![4, protocol, 0, remote, to[0], to[1]];
    let hairpin = |protocol, host, port, to: [u8; 2]| vec![6, protocol, 0, host, port, to[0], to[1]];
    let along = |session, side, segment| vec![8, session, side, segment];
    let error = |session, side, how, kind| vec![11, session, side, how, kind];
    let wait = |index| vec![12, index];
    let open = vec![0, 0];
    let known = |index| [2, index];
    vec![
        [open.clone(), out(UDP, 0, 2, 0), along(0, 1, 0), error(0, 0, 0, 0), wait(5)].concat(),
        [
            vec![2, 2],
            out(TCP, 0, 2, 0),
            along(0, 1, SYN_ACK),
            along(0, 0, ACK),
            wait(7),
            along(0, 0, FIN),
            along(0, 1, FIN),
            wait(6),
        ]
        .concat(),
        [vec![1, 1], out(TCP, 0, 2, 0), along(0, 1, RESET), along(0, 0, ACK), wait(6)].concat(),
        [open.clone(), out(UDP, 0, 2, 0), hairpin(UDP, 2, 2, known(0)), error(1, 0, 3, 0)].concat(),
        [vec![2, 2], out(UDP, 0, 2, 0), out(UDP, 1, 2, 0), hairpin(UDP, 0, 2, known(1))].concat(),
        [vec![2, 2], vec![14, 0, 1, 15], inward(TCP, 0, [1, 0]), along(0, 1, SYN_ACK)].concat(),
        [open.clone(), out(UDP, 0, 2, 0), vec![15], along(0, 0, 0), vec![15], wait(4)].concat(),
        [open, out(ICMP, 0, 2, 0), out(ICMP, 1, 2, 0), along(1, 1, 0), error(0, 0, 2, 5)].concat(),
    ]
}

/// Errors about each of the sessions that `sim::fuzz::icmp_error` opens: described, and as bytes.
fn errors() -> Vec<Vec<u8>> {
    const DESCRIBED: u8 = 2 << 2;
    const SEALED: u8 = 1 << 2;
    // Link and type; outer source and destination; inner ones, ports, protocol, options; what follows.
    let described = |head: u8, fields: [u8; 8]| {
        [&[head | DESCRIBED], &fields[..], &chunk(b"\x12\x34payload")[..]].concat()
    };
    let [wan, home, guest] = [0, 1, 2];
    let udp = described(wan, [0, 1, 1, 0, 0, 1, 0, 0]);
    let tcp = described(wan | 1 << 4, [4, 1, 1, 0, 0, 2, 1, 2]);
    let echo = described(wan, [4, 1, 1, 0, 0, 0, 2, 0]);
    let from_inside = described(guest, [3, 0, 0, 3, 0, 2, 0, 0]);
    let hairpin = described(guest, [3, 1, 1, 3, 0, 2, 0, 0]);
    let routed = described(guest, [3, 2, 2, 3, 0, 1, 0, 3]);
    let as_bytes = [&[home | SEALED, 2, 0], &chunk(&self::udp()[14..])[..]].concat();
    let all = [&udp, &tcp, &echo, &from_inside, &hairpin, &routed].map(|input| &input[..]).concat();
    vec![udp, tcp, echo, from_inside, hairpin, routed, as_bytes, all]
}

/// What a client and a server of this router say to each other: messages without their headers.
fn dialogue() -> (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>) {
    let at = |millis: u64| Now::new(Instant::from_millis(1_000_000 + millis), 1_700_000_000);
    let subnet = "10.0.1.0/28".parse().expect("a prefix");
    let mut config = ServerConfig::new(
        "home".to_owned(),
        MacAddr([2, 0, 0, 0, 0, 1]),
        Ipv4Addr::new(10, 0, 1, 1),
        subnet,
    );
    config.pools = vec![(Ipv4Addr::new(10, 0, 1, 4), Ipv4Addr::new(10, 0, 1, 9))];
    config.dns = vec![Ipv4Addr::new(10, 0, 1, 1)];
    let mut server = Server::new(config, [], at(0));
    let mut client = ClientConfig::new(MacAddr([6, 0, 0, 0, 0, 7]));
    client.hostname = Some("laptop".to_owned());
    let mut client = Client::new(client, None, StdRng::seed_from_u64(1));
    client.handle_link_up(at(0));
    let mut said = Vec::new();
    let mut buffer = [0; dhcp::frame::FRAME_MAX];
    for millis in (0..10_000).step_by(50) {
        client.handle_timeout(at(millis));
        while client.poll_store().is_some() {}
        while let Some(len) = client.poll_transmit(&mut buffer) {
            let Some(datagram) = dhcp::frame::parse(&buffer[..len]) else { continue };
            said.push(datagram.payload.to_vec());
            server.handle_frame(&buffer[..len], at(millis));
        }
        server.handle_timeout(at(millis));
        while server.poll_store().is_some() {}
        while let Some(len) = server.poll_transmit(&mut buffer) {
            let Some(datagram) = dhcp::frame::parse(&buffer[..len]) else { continue };
            said.push(datagram.payload.to_vec());
            client.handle_frame(&buffer[..len], at(millis));
        }
    }
    let [discover, offer, request, ack] = &said[..] else {
        panic!("{} messages instead of four", said.len());
    };
    (discover.clone(), request.clone(), offer.clone(), ack.clone())
}

fn query(name: &[u8], kind: u8, additional: &[u8]) -> Vec<u8> {
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!additional.is_empty())];
    [&header[..], name, &[0, kind, 0, 1], additional].concat()
}

fn queries() -> Vec<Vec<u8>> {
    let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";
    let messages = [
        query(b"\x03www\x07example\x03com\x00", 1, b""),
        query(b"\x03www\x07example\x03com\x00", 28, opt),
        query(b"\x03web\x04home\x04arpa\x00", 1, opt),
        query(b"\x015\x011\x010\x0210\x07in-addr\x04arpa\x00", 12, b""),
        query(b"\x09localhost\x00", 1, b""),
    ];
    let one = |message: &Vec<u8>, transport| [&[transport], &chunk(message)[..]].concat();
    let mut inputs: Vec<_> = messages.iter().map(|message| one(message, 0)).collect();
    inputs.push(messages.iter().flat_map(|message| one(message, 1)).collect());
    inputs
}

fn answers() -> Vec<Vec<u8>> {
    const RIGHT: u8 = 3;
    let reply = |flags: [u8; 2], answers: u8, records: &[u8]| {
        let header = [0, 0, flags[0], flags[1], 0, 1, 0, answers, 0, 0, 0, 0];
        let message = [&header[..], records].concat();
        [&[0, RIGHT], &chunk(&message)[..]].concat()
    };
    let address = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xcb\x00\x71\x50";
    let private = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\x0a\x00\x01\x50";
    let alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x01\x2c\x00\x04\x01a\xc0\x10";
    vec![
        reply([0x81, 0x80], 1, address),
        reply([0x81, 0x80], 1, private),
        reply([0x81, 0x80], 2, &[&alias[..], address].concat()),
        reply([0x81, 0x83], 0, b""),
        [reply([0x83, 0x80], 0, b""), reply([0x81, 0x80], 1, address)].concat(),
        [reply([0x81, 0x82], 0, b""), vec![200], reply([0x81, 0x80], 1, address)].concat(),
    ]
}

fn configurations() -> Vec<Vec<u8>> {
    let house = include_bytes!("../../zone-manifests/router.toml").to_vec();
    let lan = "[[lan]]\nname = \"home\"\nlink = \"b\"\naddress = \"10.0.0.1/24\"\n";
    let fixed = format!(
        "[wan]\nlink = \"a\"\nmode = \"static\"\naddress = \"198.51.100.2/24\"\n\
         gateway = \"198.51.100.1\"\n{lan}[dns]\nupstream = [\"203.0.113.53\"]\n\
         [nat.timeouts]\nudp = \"5m\"\n"
    );
    let wrong = format!("[wan]\nlink = \"a\"\nmode = \"dchp\"\n{lan}{lan}colour = \"green\"\n");
    vec![house, fixed.into_bytes(), wrong.into_bytes(), b"[wan\n".to_vec()]
}
