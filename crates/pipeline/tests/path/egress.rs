//! Shapers and send queues.

use std::time::Duration;

use packet::{DropReason, Gso, GsoKind, LinkId, Offload};
use pipeline::{Inject, Shapers};
use qos::{Overhead, Rate, Shaper, ShaperConfig};

use crate::frames::{ACK, echo_request, ep, see};
use crate::rig::{A, GATEWAY, HOME, O, OFFICE, R, Rig, WAN_ADDRESS, from, wan_at};

/// Wire bytes of a full frame, and the milliseconds that they take at `RATE`.
const FRAME: usize = 1000;
const RATE: u64 = 8_000_000;
const FRAME_TIME: Duration = Duration::from_millis(1);

fn shaper(rig: &Rig) -> Option<Shaper> {
    let rate = Rate::from_bits_per_sec(RATE).unwrap();
    Some(Shaper::new(ShaperConfig::for_rate(rate, Overhead::NONE), rig.now))
}

fn shaped_up() -> Rig {
    let mut rig = Rig::new();
    rig.egress.shapers_mut().upload = shaper(&rig);
    rig
}

fn shaped_down() -> Rig {
    let mut rig = Rig::new();
    rig.egress.shapers_mut().download = shaper(&rig);
    rig
}

fn upload(port: u16) -> Vec<u8> {
    from(A).udp(ep(A, port), ep(R, 1), &[0; FRAME - 42])
}

/// Frames that leave in each of `steps` intervals.
fn paced(rig: &mut Rig, steps: usize) -> Vec<usize> {
    let sent = (0..steps).map(|_| {
        rig.advance(FRAME_TIME);
        rig.flush().len()
    });
    sent.collect()
}

#[test]
fn a_shaped_upload_leaves_at_its_rate() {
    let mut rig = shaped_up();
    let first = rig.push(HOME, &upload(5000));
    assert_eq!(first.sent.len(), 1);
    let verdicts = rig.push_batch(HOME, &vec![upload(5000); 10]);
    assert_eq!(verdicts.len(), 10);
    assert!(rig.flush().is_empty());
    let due = rig.egress.poll_timeout(rig.now).unwrap();
    assert_eq!(due, rig.now + FRAME_TIME);
    assert_eq!(paced(&mut rig, 12), [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
    assert_eq!(rig.egress.poll_timeout(rig.now), None);
}

#[test]
fn a_shaped_super_packet_leaves_in_segments_at_the_rate() {
    let mut rig = shaped_up();
    let size = FRAME as u16 - 54;
    let data = vec![7; usize::from(size) * 8];
    let frame = from(A).tcp(ep(A, 40000), ep(R, 443), ACK, &data);
    let gso = Some(Gso { kind: GsoKind::TcpV4, size });
    let out = rig.push_with(HOME, &frame, Offload { checksum: None, gso });
    assert_eq!(out.sent.len(), 1);
    assert_eq!(see(&out.sent[0].1).source, ep(WAN_ADDRESS, 40000));
    assert_eq!(paced(&mut rig, 8), [1, 1, 1, 1, 1, 1, 1, 0]);
}

#[test]
fn a_shaped_download_leaves_at_its_rate_and_lans_are_not_shaped() {
    let mut rig = shaped_down();
    assert_eq!(rig.push(HOME, &upload(5000)).sent.len(), 1);
    let answer = from(R).udp(ep(R, 1), ep(WAN_ADDRESS, 5000), &[0; FRAME - 42]);
    rig.push_batch(LinkId::WAN, &vec![answer; 5]);
    assert_eq!(rig.flush().len(), 1);
    for _ in 0..5 {
        let routed = rig.push(OFFICE, &from(O).udp(ep(O, 5000), ep(A, 1), b""));
        routed.forwarded_to(HOME);
    }
    assert_eq!(paced(&mut rig, 5), [1, 1, 1, 1, 0]);
}

#[test]
fn a_quiet_flow_overtakes_a_busy_one() {
    let mut rig = shaped_up();
    rig.push_batch(HOME, &vec![upload(5000); 40]);
    rig.flush();
    rig.push(HOME, &from(A).icmp(A, R, echo_request(1)));
    rig.advance(2 * FRAME_TIME);
    let sent = rig.flush();
    assert!(sent.iter().any(|(_, frame)| frame.len() < 100), "the ping is among the next two");
    let rest: usize = paced(&mut rig, 60).iter().sum();
    assert_eq!(rest + sent.len() + 1, 41);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut rig = shaped_up();
    for _ in 0..12 {
        rig.push_batch(HOME, &vec![upload(5000); 64]);
        rig.flush();
    }
    let dropped = rig.counters.dropped(DropReason::QueueFull);
    assert!(dropped > 0, "{dropped}");
    let counts = rig.counters.link(HOME);
    assert_eq!(counts.forwarded.load(), 12 * 64);
    assert_eq!(counts.dropped_by_egress[DropReason::QueueFull.index()].load(), dropped);
}

#[test]
fn what_waits_in_a_shaper_that_is_replaced_leaves_at_once() {
    let mut rig = shaped_up();
    rig.push_batch(HOME, &vec![upload(5000); 20]);
    assert_eq!(rig.flush().len(), 1);
    rig.egress.replace_shapers(Shapers::default());
    assert_eq!(rig.flush().len(), 19);
}

#[test]
fn frames_that_a_link_refuses_are_counted_and_their_buffers_come_home() {
    let mut rig = Rig::new();
    rig.push_batch(HOME, &vec![upload(5000); 3]);
    rig.egress.flush(LinkId::WAN, &rig.counters, |packets| packets.len());
    assert_eq!(rig.counters.dropped(DropReason::LinkSend), 3);
    assert_eq!(rig.egress.buffers_out(), 0);
}

#[test]
fn what_waits_for_the_wan_does_not_leave_under_an_address_that_was_lost() {
    let new = std::net::Ipv4Addr::new(198, 51, 100, 42);
    for next in [None, Some(wan_at(new, GATEWAY))] {
        let mut rig = shaped_up();
        rig.push_batch(HOME, &vec![upload(5000); 20]);
        assert_eq!(rig.flush().len(), 1);
        rig.runtime.wan = next;
        rig.publish();
        let routed = rig.push(OFFICE, &from(O).udp(ep(O, 5000), ep(A, 1), b""));
        routed.forwarded_to(HOME);
        assert_eq!(rig.counters.dropped(DropReason::AddressLost), 19);
        assert_eq!(rig.egress.poll_timeout(rig.now), None);
        assert_eq!(rig.egress.buffers_out(), 0);
    }
}

#[test]
fn what_waits_for_the_wan_stays_when_only_the_configuration_changes() {
    let mut rig = shaped_up();
    rig.push_batch(HOME, &vec![upload(5000); 20]);
    assert_eq!(rig.flush().len(), 1);
    rig.publish();
    assert_eq!(rig.push(HOME, &upload(5000)).sent.len(), 0);
    assert_eq!(paced(&mut rig, 30).iter().sum::<usize>(), 20);
}

#[test]
fn what_the_worker_sent_before_it_learns_of_a_lost_address_is_dropped_if_it_is_still_here() {
    let mut rig = Rig::new();
    let release = from(WAN_ADDRESS).udp(ep(WAN_ADDRESS, 68), ep(GATEWAY, 67), b"release");
    rig.push_batch(HOME, &vec![upload(5000); 3]);
    rig.runtime.wan = None;
    rig.publish();
    let mut packet = rig.rings.take().unwrap();
    assert!(packet.copy_from(&release));
    let out = rig.inject(Inject::Send(LinkId::WAN, packet));
    assert_eq!(rig.counters.dropped(DropReason::AddressLost), 3);
    assert_eq!(out.sent, [(LinkId::WAN, release)], "the router's own last word leaves");
}
