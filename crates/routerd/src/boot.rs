//! From a configuration to the parts of a running router.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use arc_swap::ArcSwap;
use config::{Config, WanMode};
use dhcp::client::StoreRecord;
use link::{Link, LinkState};
use local_stack::{LocalStack, Settings};
use nat::PortJournal;
use packet::LinkId;
use pipeline::{
    Egress, EgressLink, LinkFacts, PolicyState, Rings, Runtime, Shapers, Snapshot, WanAddress,
    Worker,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use store::Store;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::control;
use crate::forwards::ForwardBook;
use crate::places;
use crate::shared::{Mailbox, Shared};
use crate::wake::Waker;
use crate::worker::WorkerThread;

/// Receive buffers: two batches for each of a few links. Each is 64 KiB of address space, touched as used.
const LARGE_BUFFERS: usize = 4 * packet::BATCH_MAX;

/// Sessions if the configuration leaves it open and memory can't be asked for.
const SESSIONS_DEFAULT: usize = 262_144;

/// Bytes of one session with its share of the indices, for sizing by memory.
const SESSION_BYTES: u64 = 320;

/// The port journal in the state directory.
const JOURNAL_NAME: &str = "ports.journal";

/// External addresses in the port journal, those of the recent past included: 1.5 MiB of disk each, and
/// memory only for those in use.
const JOURNAL_ADDRESSES: usize = 8;

/// A router, about to run.
pub struct Parts {
    pub worker: WorkerThread,
    pub shared: Arc<Shared>,
    pub mailbox: Mailbox,
    pub stack: LocalStack,
    pub store: Store,
    pub forwards: ForwardBook,
    pub runtime: Runtime,
}

/// Opens the links, the state and everything between them.
pub fn assemble(config: &Config, path: &Path, clock: Clock) -> Result<Parts> {
    let links = open_links(config, path)?;
    let state = &config.control.state;
    let opened =
        Store::open(state).with_context(|| places::of(path, "state", &state.to_string_lossy()))?;
    if let Some(moved) = &opened.moved_aside {
        warn!(file = %moved.path.display(), reason = %moved.reason, "state was unusable and is kept aside; starting without it");
    }
    let store = opened.store;
    let mut rng = seeded_rng()?;
    let facts = link_facts(config, &links);
    let stack = make_stack(config, &facts, &store, StdRng::from_rng(&mut rng), clock)?;
    let forwards = ForwardBook::new(config, &store)?;
    let mut policy = PolicyState::default();
    policy.book.adopt(config);
    policy.advance(config, control::week_minute(config, clock));
    let runtime = Runtime {
        generation: 1,
        links: facts,
        wan: WanAddress::of_static(config),
        forwards: forwards.resolved(config, &stack),
        policy,
    };
    let snapshot = Snapshot::build(config, &runtime).context("port forwards")?;
    let sessions = config.nat.sessions_max.unwrap_or_else(sessions_by_memory);
    let sizes = nat::Sizes::new(sessions, 1 + config.further_addresses().len());
    let journal = port_journal(config, &store, clock);
    let (tables, engines) = nat::Tables::sized(sizes, 1, journal, rng.random());
    let rings = Arc::new(Rings::new());
    let engine = engines.into_iter().next().context("an engine for the worker")?;
    let worker = Worker::new(engine, stack.neighbours(), Arc::clone(&rings)).context("worker")?;
    let egress = Egress::new(
        links.iter().map(|link| EgressLink { offloads: link.offloads() }).collect(),
        Shapers::of(config, clock.now()),
        LARGE_BUFFERS,
        Arc::clone(&rings),
    );
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::from_pointee(snapshot),
        tables,
        counters: worker.counters(),
        rings,
        worker: Waker::new().context("pipe")?,
        control: Waker::new().context("pipe")?,
    });
    let mailbox = Mailbox::new();
    let ends = (mailbox.commands.1.clone(), mailbox.events.0.clone());
    let worker =
        WorkerThread::new(links, worker, egress, Arc::clone(&shared), ends, clock, open_link);
    Ok(Parts { worker, shared, mailbox, stack, store, forwards, runtime })
}

/// The names of all links by [`LinkId`].
pub fn link_names(config: &Config) -> impl Iterator<Item = &str> {
    std::iter::once(config.wan.link.as_str()).chain(config.lans.iter().map(|lan| lan.link.as_str()))
}

fn open_links(config: &Config, path: &Path) -> Result<Vec<Box<dyn Link>>> {
    link_names(config)
        .enumerate()
        .map(|(index, name)| {
            let opened = open_link(name, LinkId(index as u8));
            opened.with_context(|| places::of(path, "link", name))
        })
        .collect()
}

/// Opens a link with the best backend of the platform.
#[cfg(target_os = "linux")]
fn open_link(name: &str, id: LinkId) -> Result<Box<dyn Link>> {
    let link = link::AfPacket::open(name, id).map_err(|error| anyhow!("{error}"))?;
    Ok(Box::new(link))
}

/// Opens a link with the portable backend, at the MTU of Ethernet.
#[cfg(not(target_os = "linux"))]
fn open_link(name: &str, id: LinkId) -> Result<Box<dyn Link>> {
    const ETHERNET_MTU: usize = 1500;
    let link = link::PnetLink::open(name, id, ETHERNET_MTU).map_err(|error| anyhow!("{error}"))?;
    Ok(Box::new(link))
}

fn link_facts(config: &Config, links: &[Box<dyn Link>]) -> Vec<LinkFacts> {
    links
        .iter()
        .enumerate()
        .map(|(index, link)| {
            let configured = if index == 0 { config.wan.mtu } else { None };
            let mtu = u16::try_from(link.mtu()).unwrap_or(u16::MAX);
            info!(link = link.name(), mac = %link.mac(), mtu, "link open");
            LinkFacts {
                name: link.name().to_owned(),
                mac: link.mac(),
                mtu: configured.map_or(mtu, |configured| configured.min(mtu)),
                address: None,
            }
        })
        .collect()
}

fn make_stack(
    config: &Config,
    facts: &[LinkFacts],
    store: &Store,
    rng: StdRng,
    clock: Clock,
) -> Result<LocalStack> {
    let macs = facts.iter().map(|link| link.mac).collect();
    let mut settings = Settings::new(config, macs)?;
    for (link, server) in &mut settings.servers {
        let lan = &config.lans[link.index() - 1];
        add_reservations(&mut server.reservations, store.reservations(&lan.name)?);
    }
    let stored_wan = match config.wan.mode {
        WanMode::Dhcp(_) => store.wan_lease(&config.wan.link)?,
        WanMode::Static { .. } => None,
    };
    let mut failed = None;
    let stack = LocalStack::new(
        settings,
        stored_wan,
        |link| {
            let lan = &config.lans[link.index() - 1];
            store.bindings(&lan.name).unwrap_or_else(|error| {
                failed = Some(error);
                Vec::new()
            })
        },
        rng,
        clock.both(),
    );
    match failed {
        Some(error) => Err(error).context("read the stored leases"),
        None => Ok(stack),
    }
}

/// The journal of external ports. Without one the router works as well; its ports are only not held after a
/// crash.
fn port_journal(config: &Config, store: &Store, clock: Clock) -> PortJournal {
    let words = PortJournal::words_for(JOURNAL_ADDRESSES);
    let opened = match store.open_words(JOURNAL_NAME, PortJournal::FORMAT, words) {
        Ok(opened) => opened,
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            let reason = error.source().map(ToString::to_string);
            warn!(%error, reason, "no port journal; after a crash ports in use are not held");
            return PortJournal::none();
        }
    };
    if let Some(file) = &opened.moved_aside {
        warn!(file = %file.display(), "the port journal was unusable and is kept aside; ports in use before this start may be given to others at once");
    }
    let rest = config.nat.timeouts.port_rest;
    let journal = PortJournal::resume(Arc::new(opened.words), clock.now(), rest);
    let ports = journal.held(clock.now());
    if ports > 0 {
        info!(ports, ?rest, "external ports from before the start are held");
    }
    journal
}

/// Adds the reservations of the day to those of the configuration, which win.
pub fn add_reservations(
    configured: &mut Vec<dhcp::server::Reservation>,
    runtime: Vec<dhcp::server::Reservation>,
) {
    for reservation in runtime {
        let taken = configured
            .iter()
            .any(|known| known.mac == reservation.mac || known.address == reservation.address);
        if !taken {
            configured.push(reservation);
        }
    }
}

/// Secrets of this run come from the operating system.
fn seeded_rng() -> Result<StdRng> {
    StdRng::try_from_rng(&mut rand::rngs::SysRng).map_err(|error| anyhow!("no entropy: {error}"))
}

/// One session per 320 bytes of a sixteenth of the memory, within what a house and a large office use.
fn sessions_by_memory() -> usize {
    const SHARE: u64 = 16;
    let Some(bytes) = memory_bytes() else { return SESSIONS_DEFAULT };
    usize::try_from(bytes / SHARE / SESSION_BYTES).unwrap_or(usize::MAX).clamp(65_536, 1_048_576)
}

#[cfg(target_os = "linux")]
fn memory_bytes() -> Option<u64> {
    let info = rustix::system::sysinfo();
    Some(info.totalram as u64 * u64::from(info.mem_unit))
}

#[cfg(not(target_os = "linux"))]
fn memory_bytes() -> Option<u64> {
    None
}

/// Refuses what only a restart can change, naming it.
pub fn check_reloadable(old: &Config, new: &Config) -> Result<()> {
    let same_mode = matches!(
        (&old.wan.mode, &new.wan.mode),
        (WanMode::Dhcp(a), WanMode::Dhcp(b)) if a == b
    ) || matches!(
        (&old.wan.mode, &new.wan.mode),
        (WanMode::Static { .. }, WanMode::Static { .. })
    );
    let same_lans = old.lans.len() == new.lans.len()
        && old.lans.iter().zip(&new.lans).all(|(a, b)| {
            (&a.name, &a.link, a.address, a.dhcp.is_some())
                == (&b.name, &b.link, b.address, b.dhcp.is_some())
        });
    let fixed = [
        (old.control == new.control, "[control]"),
        (old.wan.link == new.wan.link && same_mode, "the link or the mode of [wan]"),
        (old.wan.mtu == new.wan.mtu, "[wan] mtu"),
        (same_lans, "name, link, address or dhcp of a [[lan]]"),
        (old.nat.sessions_max == new.nat.sessions_max, "[nat] sessions_max"),
    ];
    for (same, what) in fixed {
        if !same {
            bail!("{what} changed, which a reload can't do; restart the router to apply it");
        }
    }
    Ok(())
}

/// What to do with a record of the stack.
pub fn push_record(batch: &mut store::Batch, config: &Config, record: &local_stack::StoreRecord) {
    match record {
        local_stack::StoreRecord::Wan(record) => {
            if let StoreRecord::Keep(lease) = record {
                info!(address = %lease.settings.address, server = %lease.server, "WAN lease stored");
            }
            batch.push_wan(&config.wan.link, record);
        }
        local_stack::StoreRecord::Lan(link, record) => {
            batch.push_lan(&config.lans[link.index() - 1].name, record);
        }
    }
}

/// Reads a configuration, or says on standard error what is wrong with it.
pub fn load(path: &Path) -> Result<Config, config::LoadError> {
    config::load(path)
}

/// The carrier of a link in the words of the stack.
pub fn carrier(state: LinkState) -> local_stack::LinkCarrier {
    match state {
        LinkState::Up => local_stack::LinkCarrier::Up,
        LinkState::Down | LinkState::Gone => local_stack::LinkCarrier::Down,
    }
}
