//! Why a packet went no further.

/// Declares a reason enum whose variants carry a stable name and a sentence.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal $sentence:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $sentence] $variant,)* }

        impl $name {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// Stable name, as `--json` and metrics write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// One sentence for the operator.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $($name::$variant => $sentence,)* }
            }

            /// Position in an array of counters.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped: one variant per cause that an operator can act on.
    DropReason {
        EthernetTruncated "ethernet-truncated" "The frame is shorter than an Ethernet header.",
        EtherTypeUnsupported "ethertype-unsupported" "The frame is neither IPv4 nor ARP.",
        VlanTagged "vlan-tagged" "The frame carries a VLAN tag, but the link is configured untagged.",
        Ipv6 "ipv6" "The packet is IPv6, which this router does not route yet.",
        NotForUs "not-for-us" "The frame's destination MAC is another station's.",
        ArpMalformed "arp-malformed" "The ARP message is truncated, not IPv4 over Ethernet, or its sender is impossible.",
        IpTruncated "ip-truncated" "The IP packet is shorter than its header or its total length says.",
        IpVersion "ip-version" "The EtherType says IPv4 but the header's version field does not.",
        IpHeaderLength "ip-header-length" "The IP header length is below 20 bytes or beyond the packet.",
        IpTotalLength "ip-total-length" "The IP total length is smaller than the header.",
        IpChecksum "ip-checksum" "The IP header checksum is wrong.",
        IpSourceRoute "ip-source-route" "The packet carries a source-route option, which is never honoured.",
        FragmentLength "fragment-length" "The IP fragment is empty, or not the last and no multiple of eight bytes long.",
        FragmentTooLong "fragment-too-long" "The IP fragment ends beyond the longest possible packet (ping of death).",
        FragmentTiny "fragment-tiny" "The IP fragments split the transport header, which only an attack does (RFC 1858).",
        FragmentOverlap "fragment-overlap" "IP fragments of one packet overlap, so the whole packet is refused (RFC 5722).",
        FragmentDuplicate "fragment-duplicate" "The IP fragment repeats one that is already there, byte for byte; the packet goes on.",
        FragmentMismatch "fragment-mismatch" "The IP fragments of one packet contradict each other about its end or its ECN.",
        FragmentPieces "fragment-pieces" "The packet came in more fragments than are put together.",
        FragmentTimeout "fragment-timeout" "The other fragments of the packet did not come in time.",
        FragmentEvicted "fragment-evicted" "The packet in fragments made room for another: too many wait for their rest.",
        FragmentLocal "fragment-local" "A fragment came by a way on which only whole packets come.",
        ProtocolUnsupported "protocol-unsupported" "The IP protocol is not one that can be translated (AH, for instance, signs its addresses).",
        TransportTruncated "transport-truncated" "The header behind the IP header is cut short.",
        TransportLength "transport-length" "A length in the transport header (TCP data offset, UDP length, UDP-Lite coverage, SCTP chunk) contradicts the IP length.",
        TransportPortZero "transport-port-zero" "A port, or the SPI of an ESP packet, is zero.",
        UdpLiteChecksum "udp-lite-checksum" "The UDP-Lite packet has no checksum, which RFC 3828 forbids.",
        GreVersion "gre-version" "The GRE header is of a version other than 0 and 1.",
        TcpFlags "tcp-flags" "The TCP flags are an impossible combination.",
        IcmpChecksum "icmp-checksum" "The ICMP checksum is wrong (RFC 5508 REQ-3).",
        IcmpUnsupported "icmp-unsupported" "The ICMP type is not one that is translated or answered.",
        IcmpEmbedded "icmp-embedded" "The packet embedded in an ICMP error is malformed (RFC 5508 REQ-3a).",
        IcmpFragment "icmp-fragment" "The ICMP error is about a fragment other than the first, which does not say whose it is.",
        IcmpNoSession "icmp-no-session" "The ICMP error speaks of a flow that has no session (RFC 5508 REQ-4).",
        SourceMartian "source-martian" "The source address can't be that of a host (loopback, multicast, 0/8, broadcast).",
        DestinationMartian "destination-martian" "The destination address can't be routed (loopback, 0/8, class E).",
        SourceSpoofed "source-spoofed" "The source address does not belong to the link that it arrived on.",
        SourceInternal "source-internal" "A LAN or router address arrived as source on the WAN.",
        SourceBogon "source-bogon" "The source address is of a range that nobody on the Internet has (RFC 6890); `[wan] bogons` decides.",
        DestinationBogon "destination-bogon" "The destination is of a range that the Internet does not carry (RFC 6890); `[wan] bogons` decides.",
        Land "land" "Source and destination address are the same.",
        DirectedBroadcast "directed-broadcast" "The destination is the broadcast address of a LAN (RFC 2644).",
        Multicast "multicast" "The destination is a multicast group, which is not routed.",
        Broadcast "broadcast" "The destination is a broadcast that no service here listens to.",
        WanDown "wan-down" "The WAN has no address yet, so nothing can be translated.",
        NoRoute "no-route" "No route leads to the destination.",
        TtlExpired "ttl-expired" "The TTL ran out and no ICMP error may be sent for this packet.",
        TooBig "too-big" "The packet exceeds the egress MTU and no ICMP error may be sent for it.",
        NeighbourUnresolved "neighbour-unresolved" "The next hop did not answer ARP in time, or too many packets wait for it.",
        PolicyDenied "policy-denied" "The firewall policy does not allow this flow.",
        RuleDenied "rule-denied" "A rule of the firewall refuses this flow; `routerctl rule list` says which.",
        RuleRate "rule-rate" "The rule that allows this flow has let as many new ones pass as its rate admits.",
        SynFlood "syn-flood" "One of a flood of connection attempts to ports that nothing answers on; the link drops them before the router looks.",
        NoMapping "no-mapping" "Nothing inside asked for this packet: no mapping, forward or service on that port.",
        FilterDenied "filter-denied" "A mapping exists, but its filtering does not admit this remote endpoint.",
        ForwardSource "forward-source" "The port is forwarded, but not for this source: the forward's `from` does not name it.",
        TcpNoSession "tcp-no-session" "A TCP segment other than a first SYN belongs to no session.",
        SctpNoSession "sctp-no-session" "An SCTP packet other than a first INIT belongs to no session.",
        TcpResetOutOfWindow "tcp-reset-out-of-window" "A TCP reset whose sequence number the receiver does not expect: not of this connection, or forged.",
        SessionTableFull "session-table-full" "The flow table is full; new flows are refused, established ones are kept.",
        MappingTableFull "mapping-table-full" "The mapping table is full; new flows are refused.",
        PortsExhausted "ports-exhausted" "No external port of the right class and parity is free; of SCTP, the port itself is another host's.",
        PeerTaken "peer-taken" "Another host inside uses this tunnel protocol with the same peer, and nothing in the packets tells the two apart.",
        HostQuota "host-quota" "The host has as many mappings as its quota allows.",
        HostSessions "host-sessions" "The host has as many sessions as its quota allows.",
        HostRate "host-rate" "The host opens flows faster than its rate allows.",
        SessionConflict "session-conflict" "The flow's endpoints belong to another session, or to one that is being removed.",
        HairpinDisabled "hairpin-disabled" "The flow would hairpin, which the configuration forbids.",
        HairpinUnsupported "hairpin-unsupported" "ESP, GRE, IPIP and 6in4 have no port, so from inside the external address leads to no host.",
        QueueFull "queue-full" "The egress queue is full; the packet came from the fattest flow.",
        CodelDrop "codel-drop" "CoDel dropped the packet to hold the queue delay at its target.",
        PuntRingFull "punt-ring-full" "The ring to the router's own stack is full.",
        PuntTooLarge "punt-too-large" "The packet for the router itself is larger than it accepts.",
        BuffersExhausted "buffers-exhausted" "No packet buffer was free.",
        IcmpRateLimited "icmp-rate-limited" "An ICMP error or a reset would have been due, but the rate limit forbade it.",
        AddressLost "address-lost" "The packet still waited for the WAN when the address that it was translated to was lost.",
        LinkSend "link-send" "The operating system refused to send the frame.",
        LinkDown "link-down" "The egress link is down or gone.",
        OffloadInvalid "offload-invalid" "The frame's checksum or segmentation metadata contradicts its headers.",
    }
}

reasons! {
    /// Why a packet left the worker for the router's own stack.
    PuntReason {
        Arp "arp" "An ARP message: the neighbour cache is kept by the control thread.",
        DhcpClient "dhcp-client" "A DHCP message for the router's own client on the WAN.",
        DhcpServer "dhcp-server" "A DHCP message for the server on a LAN.",
        Local "local" "A packet for an address of the router (ping, DNS).",
        NeighbourMissing "neighbour-missing" "The next hop's MAC address is not known yet.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_a_sentence() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        assert!(DropReason::ALL.iter().all(|r| r.sentence().ends_with('.')));
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
