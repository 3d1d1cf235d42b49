//! The network edge: AF_PACKET with virtio-net headers, pnet, pcap, memory.
