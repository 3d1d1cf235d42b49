//! What the tables, the mappings in them, quota and journal are together, over all interleavings of two
//! workers with few preemptions. Each of them alone: beside its code.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use flow_table::{Participant, Pass};
use loom::thread;
use packet::{DropReason, Endpoint, External, Instant, Internal, LinkId, Protocol};

use crate::bonds::Bond;
use crate::mapping::MappingKey;
use crate::plan::Planner;
use crate::sync::{Ordering, explore};
use crate::{
    Engine, Forwards, HostFilterings, Policy, Pool, PortJournal, ProtocolQuotas, Rate,
    ReservedPorts, Statics, Tables, Timeouts,
};

const LAN: LinkId = LinkId(1);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const PORT: u16 = 3;
const NOW: Instant = Instant::from_secs(1000);

/// A policy under which an endpoint may have the external ports from `first` to [`PORT`].
fn policy(first: u16) -> Arc<Policy> {
    let reserved = ReservedPorts::none().with(Protocol::Udp, 0..=first - 1);
    Arc::new(Policy {
        generation: 1,
        external: Some(EXTERNAL),
        pool: Pool::default(),
        statics: Statics::default(),
        exemptions: Box::default(),
        filtering: Box::default(),
        host_filterings: HostFilterings::default(),
        forwards: Forwards::default(),
        dmz: None,
        timeouts: Timeouts::default(),
        reserved: reserved.with(Protocol::Udp, PORT + 1..=u16::MAX),
        mappings_per_host_max: 4,
        mappings_per_host_max_of: ProtocolQuotas::NONE,
        ports_at_rest_max: 4,
        sessions_per_host_max: None,
        new_sessions: Rate { per_second: 1, burst: 1 },
    })
}

fn internal(host: u8) -> Internal {
    Internal(Endpoint::new(Ipv4Addr::new(10, 0, 0, host), PORT))
}

/// Tables, two workers and what they take part with.
fn rig() -> (Tables, [(Engine, Participant); 2]) {
    let journal = PortJournal::resume(PortJournal::in_memory(2), Instant::ZERO, Duration::ZERO);
    let (tables, engines) = Tables::with_journal(4, 2, journal, 7);
    let mut engines = engines.into_iter();
    let workers =
        [(); 2].map(|()| (engines.next().unwrap(), tables.domain().participant().unwrap()));
    (tables, workers)
}

/// Maps an endpoint, as the first packet of a session does.
fn map(
    engine: &mut Engine,
    pass: &Pass<'_>,
    host: u8,
    policy: &Policy,
) -> Result<External, DropReason> {
    let mapped = engine.allocate(pass, Protocol::Udp, internal(host), LAN, policy, NOW);
    mapped.map(|(external, _)| external)
}

/// Ends the only session of a mapping.
fn leave(tables: &Tables, pass: &Pass<'_>, host: u8) {
    let external = External(Endpoint::new(EXTERNAL, PORT));
    let bond = Bond { internal: internal(host), external, lan: LAN };
    tables.release_mapping(pass, Protocol::Udp, bond, NOW);
}

/// Removes a mapping if it is at rest, as its owner does.
fn remove(engine: &mut Engine, pass: &Pass<'_>, host: u8) {
    let key = MappingKey::internal(Protocol::Udp, internal(host), EXTERNAL);
    if let Some(id) = engine.tables.mappings.lookup(pass, &key).map(|hit| hit.id()) {
        engine.discard(pass, id);
    }
}

/// Checks that a host has the port, or nobody: in table, quota and journal alike.
fn assert_held_by(tables: &Tables, holder: Option<u8>) {
    let count = u64::from(holder.is_some());
    assert_eq!((tables.stats().mappings as u64, tables.hosts.total()), (count, count));
    assert_eq!(tables.resting.load(Ordering::Relaxed), 0);
    let owner = tables.journal.owner(EXTERNAL, Protocol::Udp, PORT);
    assert_eq!(owner, holder.map(internal));
}

#[test]
fn an_endpoint_that_two_workers_map_at_once_has_one_mapping() {
    // A moment before a mapping has its internal name its external one is taken already: without another port
    // the second worker would have to refuse.
    let policy = policy(PORT - 2);
    explore(2, move || {
        let (tables, [(mut first, mut here), (mut second, mut there)]) = rig();
        let shared = Arc::clone(&policy);
        let other = thread::spawn(move || map(&mut second, &there.pass(), 2, &shared));
        let mapped = map(&mut first, &here.pass(), 2, &policy);
        assert_eq!(Ok(mapped.unwrap()), other.join().unwrap());
        assert_eq!((tables.stats().mappings, tables.hosts.total()), (1, 1));
    });
}

#[test]
fn of_two_endpoints_that_want_the_last_port_one_gets_it() {
    let policy = policy(PORT);
    explore(2, move || {
        let (tables, [(mut first, mut here), (mut second, mut there)]) = rig();
        let shared = Arc::clone(&policy);
        let other = thread::spawn(move || map(&mut second, &there.pass(), 3, &shared));
        let mapped = map(&mut first, &here.pass(), 2, &policy);
        let mapped = [mapped, other.join().unwrap()];
        let holder = if mapped[0].is_ok() { 2 } else { 3 };
        let refused = mapped.iter().filter_map(|mapped| mapped.err());
        assert_eq!(refused.collect::<Vec<_>>(), [DropReason::PortsExhausted]);
        assert_held_by(&tables, Some(holder));
    });
}

#[test]
fn a_port_that_is_freed_while_an_endpoint_takes_it_is_written_down_for_who_has_it() {
    let policy = policy(PORT);
    for next in [2, 3] {
        let policy = Arc::clone(&policy);
        explore(2, move || {
            let (tables, [(mut first, mut here), (mut second, mut there)]) = rig();
            let pass = here.pass();
            map(&mut first, &pass, 2, &policy).unwrap();
            leave(&tables, &pass, 2);
            let shared = Arc::clone(&policy);
            let taking = thread::spawn(move || map(&mut second, &there.pass(), next, &shared));
            remove(&mut first, &pass, 2);
            drop(pass);
            let holder = taking.join().unwrap().ok().map(|_| next);
            assert_held_by(&tables, holder);
        });
    }
}
