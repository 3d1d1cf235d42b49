//! The DHCP client of one link (RFC 2131 §4.4).
//!
//! ```text
//!   Down ──up──► Init ──► Selecting ──► Requesting ──► Probing ──► Bound ──T1──► Renewing
//!    │            ▲           ▲  │          │ NAK        │ used      ▲              │ T2
//!    │            └───────────┼──┼──────────┴────────────┘           ├──── ACK ─────┤
//!    └──up, lease kept──► Rebooting ─── ACK ─────────────────────────┘           Rebinding
//!                          silence: Selecting, then the kept lease again ───────────┘
//! ```
//!
//! A lease in use (`lease()`) outlives the state: it stays while the link flaps and is being verified
//! (DC26), and ends by expiry, NAK, release or a link that stays down. Released stays released until
//! `renew` is called.
//!
//! Limits: at most [`OFFERS_MAX`] offers are compared.

mod accept;
mod config;
mod event;
mod phase;
mod request;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{MessageType, OptionCode};
use packet::{Instant, MacAddr};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::frame;
use crate::lease::{Lease, StoredLease};
use crate::message::{self, Op, Received};
use crate::outbox::{Outbox, Output};
use crate::time::{Now, remaining};

use phase::{AfterSilence, LinkState, Offer, Pace, Phase, Retry, Transaction};

pub use config::{BroadcastFlag, ClientConfig, ClientId, ConflictProbe, StartDelay};
pub use event::{ClientEvent, LostReason, State, StoreRecord};

/// The client machine of one link.
pub struct Client {
    config: ClientConfig,
    rng: StdRng,
    phase: Phase,
    link: LinkState,
    lease: Option<Lease>,
    /// The last lease worth asking for again, in use or not.
    remembered: Option<StoredLease>,
    transaction: Transaction,
    /// Gratuitous ARPs still to be sent for the address in use, and when.
    announcements: Option<(u8, Instant)>,
    /// When a conflict for the address in use was last answered.
    defended_at: Option<Instant>,
    /// Refusals since the last lease: the pause before asking again grows with them.
    refusals: u32,
    out: Outbox<StoreRecord, ClientEvent>,
}

impl Client {
    /// Makes a client whose link is down; `stored` is what storage kept from an earlier run.
    #[must_use]
    pub fn new(config: ClientConfig, stored: Option<StoredLease>, rng: StdRng) -> Self {
        Self {
            config,
            rng,
            phase: Phase::Down { give_up: Instant::NEVER },
            link: LinkState::Down,
            lease: None,
            remembered: stored,
            transaction: Transaction::default(),
            announcements: None,
            defended_at: None,
            refusals: 0,
            out: Outbox::new(),
        }
    }

    /// Where the client stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.phase.state()
    }

    /// The lease in use.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Takes note that the link works: verifies the lease it has (DC9, DC26) or looks for one.
    pub fn handle_link_up(&mut self, now: Now) {
        self.link = LinkState::Up;
        if !matches!(self.phase, Phase::Down { .. }) {
            return;
        }
        if self.known_address(now).is_some() {
            self.start_rebooting(now);
            return;
        }
        let delay = match self.config.start_delay {
            StartDelay::None => Duration::ZERO,
            StartDelay::Random => Duration::from_millis(self.rng.random_range(1_000..=10_000)),
        };
        self.set_phase(Phase::Init { start: now.instant + delay });
        self.handle_timeout(now);
    }

    /// Takes note that the link is down: nothing is sent, the lease is kept for a while (DC26).
    pub fn handle_link_down(&mut self, now: Now) {
        self.link = LinkState::Down;
        if matches!(self.phase, Phase::Down { .. } | Phase::Released) {
            return;
        }
        self.announcements = None;
        self.set_phase(Phase::Down { give_up: now.instant + LINK_FLAP_MAX });
    }

    /// Takes an Ethernet frame from the link; anything but an answer to this client is ignored.
    pub fn handle_frame(&mut self, frame: &[u8], now: Now) {
        let Some(datagram) = frame::parse(frame) else { return };
        if datagram.addressing.dst_port != frame::CLIENT_PORT {
            return;
        }
        let Some(message) = message::decode(datagram.payload) else { return };
        if !self.is_ours(&message) {
            return;
        }
        match message.kind {
            MessageType::Offer => self.handle_offer(&message, now),
            MessageType::Ack => self.handle_ack(&message, datagram.addressing.src_mac, now),
            MessageType::Nak => self.handle_nak(&message, now),
            _ => {}
        }
    }

    /// Takes note of an ARP message with this sender, request or reply (DC4).
    pub fn handle_arp(&mut self, sender: Ipv4Addr, sender_mac: MacAddr, now: Now) {
        if sender_mac == self.config.mac || sender.is_unspecified() {
            return;
        }
        if let Phase::Probing { lease, .. } = &self.phase
            && lease.address() == sender
        {
            let lease = lease.clone();
            self.decline(&lease, sender_mac, now);
        } else if self.lease.as_ref().is_some_and(|lease| lease.address() == sender) {
            self.defend(sender, sender_mac, now);
        }
    }

    /// Does what is due; early or repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        while self.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.fire(now);
        }
    }

    /// Asks for the lease again now, also after a release (DC13).
    pub fn renew(&mut self, now: Now) {
        match self.phase {
            Phase::Bound | Phase::Renewing { .. } => self.start_renewing(now),
            Phase::Rebinding { pace, .. } => self.rebind(pace, now),
            Phase::Released if self.link == LinkState::Down => {
                self.set_phase(Phase::Down { give_up: Instant::NEVER });
            }
            Phase::Init { .. } | Phase::Released => {
                self.set_phase(Phase::Init { start: now.instant });
                self.handle_timeout(now);
            }
            Phase::Down { .. }
            | Phase::Selecting { .. }
            | Phase::Requesting { .. }
            | Phase::Rebooting { .. }
            | Phase::Probing { .. } => {}
        }
    }

    /// Gives the lease back and stays without until [`Self::renew`] (DC13).
    pub fn release(&mut self, now: Now) {
        if let Some(lease) = self.lease.clone() {
            self.transaction = self.new_transaction(now);
            if !matches!(self.phase, Phase::Down { .. }) {
                self.send_release(&lease);
            }
        }
        self.forget();
        self.set_phase(Phase::Released);
        self.lose(LostReason::Released);
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lease = self.lease.as_ref();
        let never = Instant::NEVER;
        let phase = match &self.phase {
            Phase::Released => never,
            Phase::Down { give_up } if lease.is_some() => *give_up,
            Phase::Down { .. } => never,
            Phase::Init { start } => *start,
            Phase::Selecting { retry, decide, .. } => retry.at.min(decide.unwrap_or(never)),
            Phase::Requesting { retry, .. } | Phase::Rebooting { retry, .. } => retry.at,
            Phase::Probing { next, .. } => *next,
            Phase::Bound => lease.map_or(never, |lease| lease.renew_at),
            Phase::Renewing { retry_at, .. } => {
                lease.map_or(never, |lease| lease.rebind_at.min(*retry_at))
            }
            Phase::Rebinding { retry_at, .. } => *retry_at,
        };
        let expiry = lease.map_or(never, |lease| lease.expires_at);
        let announcement = self.announcements.map_or(never, |(_, at)| at);
        let earliest = phase.min(expiry).min(announcement);
        (earliest != never).then_some(earliest)
    }

    /// Writes the next frame into `buffer` and returns its length in bytes. Yields nothing while
    /// [`Self::poll_store`] holds a record.
    ///
    /// # Panics
    /// If the buffer is shorter than [`frame::FRAME_MAX`].
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.out.poll_transmit(buffer)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.out.poll_event()
    }

    /// The next record to be made durable before [`Self::poll_transmit`] is called.
    pub fn poll_store(&mut self) -> Option<StoreRecord> {
        self.out.poll_store()
    }

    /// Drops the frames that wait, after a record could not be stored.
    pub fn discard_transmits(&mut self) {
        self.out.discard_transmits();
    }

    fn set_phase(&mut self, phase: Phase) {
        let (old, new) = (self.phase.state(), phase.state());
        self.phase = phase;
        if old != new {
            tracing::debug!(?old, ?new, "DHCP client");
            self.out.event(ClientEvent::StateChanged(new));
        }
    }

    /// One thing that is due.
    fn fire(&mut self, now: Now) {
        let due = |at: Instant| at <= now.instant;
        if self.lease.as_ref().is_some_and(|lease| due(lease.expires_at)) {
            self.expire(now);
            return;
        }
        if self.announcements.is_some_and(|(_, at)| due(at)) {
            self.announce(now);
            return;
        }
        let rebind = self.lease.as_ref().is_some_and(|lease| due(lease.rebind_at));
        match &self.phase {
            Phase::Down { .. } => self.lose(LostReason::LinkDown),
            Phase::Released => {}
            Phase::Init { .. } => self.start_selecting(AfterSilence::KeepAsking, now),
            Phase::Selecting { decide: Some(at), .. } if due(*at) => self.choose(now),
            Phase::Selecting { .. } => self.rediscover(now),
            Phase::Requesting { .. } => self.rerequest(now),
            Phase::Rebooting { .. } => self.start_selecting(AfterSilence::ResumeLease, now),
            Phase::Probing { .. } => self.probe(now),
            Phase::Bound | Phase::Renewing { .. } if rebind => self.rebind(Pace::Halving, now),
            Phase::Bound | Phase::Renewing { .. } => self.start_renewing(now),
            Phase::Rebinding { pace, .. } => {
                let pace = *pace;
                self.rebind(pace, now);
            }
        }
    }

    fn start_selecting(&mut self, after_silence: AfterSilence, now: Now) {
        self.transaction = self.new_transaction(now);
        self.send_discover(now);
        let retry = self.first_retry(now);
        self.set_phase(Phase::Selecting { retry, offers: Vec::new(), decide: None, after_silence });
    }

    /// Nobody offered anything: asks again, less often each time (DC11).
    fn rediscover(&mut self, now: Now) {
        let Phase::Selecting { retry, after_silence, .. } = &self.phase else { return };
        let (attempt, after_silence) = (retry.attempt + 1, *after_silence);
        if after_silence == AfterSilence::ResumeLease && self.resume(now) {
            return;
        }
        if attempt >= BROADCAST_AFTER {
            self.transaction.broadcast = true;
        }
        self.send_discover(now);
        let mut next = self.retry(attempt, now);
        if self.transaction.rejected {
            next.at = next.at.min(now.instant + REJECTED_RETRY);
        }
        if let Phase::Selecting { retry, .. } = &mut self.phase {
            *retry = next;
        }
    }

    fn handle_offer(&mut self, message: &Received, now: Now) {
        if !matches!(self.phase, Phase::Selecting { .. }) {
            return;
        }
        let Some(offer) = self.read_offer(message) else { return };
        let preferred = self.remembered.as_ref().map(|lease| lease.server) == Some(offer.server);
        let Phase::Selecting { offers, decide, .. } = &mut self.phase else { return };
        if offers.len() < OFFERS_MAX {
            offers.push(offer);
        }
        let at = now.instant + if preferred { Duration::ZERO } else { OFFER_WINDOW };
        *decide = Some(decide.map_or(at, |old| old.min(at)));
        self.handle_timeout(now);
    }

    /// Takes the offer of the previous server, else of the previous address, else the first (DC2).
    fn choose(&mut self, now: Now) {
        let Phase::Selecting { offers, .. } = &self.phase else { return };
        let old = self.remembered.as_ref();
        let same_server = |offer: &&Offer| old.is_some_and(|old| old.server == offer.server);
        let same_address =
            |offer: &&Offer| old.is_some_and(|old| old.settings.address == offer.address);
        let chosen = offers
            .iter()
            .find(same_server)
            .or_else(|| offers.iter().find(same_address))
            .or_else(|| offers.first());
        let Some(&offer) = chosen else { return };
        self.send_request(offer);
        let retry = self.first_retry(now);
        self.set_phase(Phase::Requesting { offer, retry, sent_at: now.instant });
    }

    /// The chosen server does not answer: asks again, then starts over.
    fn rerequest(&mut self, now: Now) {
        let Phase::Requesting { offer, retry, .. } = &self.phase else { return };
        let (offer, attempt) = (*offer, retry.attempt + 1);
        if attempt >= REQUEST_TRIES {
            self.set_phase(Phase::Init { start: now.instant });
            return;
        }
        self.send_request(offer);
        let next = self.retry(attempt, now);
        if let Phase::Requesting { retry, .. } = &mut self.phase {
            *retry = next;
        }
    }

    /// Asks for the lease that it knows. If nobody answers, a DISCOVER finds out whether there is any server:
    /// one that does not know the lease may stay silent on the REQUEST, and that of the lease offers it
    /// again. If that is silent, too, the lease goes on. Each waits about four seconds, so ten at most go by.
    fn start_rebooting(&mut self, now: Now) {
        let Some(address) = self.known_address(now) else { return };
        self.transaction = self.new_transaction(now);
        self.send_verify(address, now);
        let retry = self.first_retry(now);
        self.set_phase(Phase::Rebooting { retry, sent_at: now.instant });
    }

    /// The address to ask for with INIT-REBOOT: that in use, or one stored with time left. A wall clock
    /// behind the start of the stored lease says nothing, but asking does no harm.
    fn known_address(&self, now: Now) -> Option<Ipv4Addr> {
        if let Some(lease) = &self.lease {
            return Some(lease.address());
        }
        let stored = self.remembered.as_ref()?;
        let left = remaining(stored.duration_secs, stored.expires_unix, now.unix_secs);
        let usable = left != Some(Duration::ZERO)
            && !self.is_rejected(stored.server, stored.settings.address);
        usable.then_some(stored.settings.address)
    }

    /// Goes on with an unexpired lease although no server answers (RFC 2131 §3.2 item 4), and keeps asking
    /// every server. Reports whether there is such a lease.
    fn resume(&mut self, now: Now) -> bool {
        if self.lease.is_none() {
            let Some(lease) = self.restore(now) else { return false };
            self.lease = Some(lease.clone());
            self.start_announcing(now);
            self.out.event(ClientEvent::Obtained(lease));
        }
        self.rebind(Pace::Verifying, now);
        true
    }

    fn start_renewing(&mut self, now: Now) {
        let Some(lease) = self.lease.clone() else { return };
        self.transaction = self.new_transaction(now);
        self.send_renew(&lease);
        let retry_at = now.instant + half_of(lease.rebind_at.saturating_since(now.instant));
        self.set_phase(Phase::Renewing { retry_at, sent_at: now.instant });
    }

    fn rebind(&mut self, pace: Pace, now: Now) {
        let Some(lease) = self.lease.clone() else { return };
        self.transaction = self.new_transaction(now);
        self.send_rebind(&lease);
        let pause = match pace {
            Pace::Halving => half_of(lease.expires_at.saturating_since(now.instant)),
            Pace::Verifying => RENEW_RETRY_MIN,
        };
        let retry_at = now.instant + pause;
        self.set_phase(Phase::Rebinding { retry_at, sent_at: now.instant, pace });
    }

    fn handle_ack(&mut self, message: &Received, server_mac: MacAddr, now: Now) {
        let (sent_at, expected) = match &self.phase {
            Phase::Requesting { offer, sent_at, .. } => (*sent_at, Some(offer.server)),
            Phase::Rebooting { sent_at, .. } | Phase::Rebinding { sent_at, .. } => (*sent_at, None),
            Phase::Renewing { sent_at, .. } => {
                (*sent_at, self.lease.as_ref().map(|lease| lease.server))
            }
            _ => return,
        };
        let Some(lease) = self.read_lease(message, expected, server_mac, sent_at) else { return };
        let address_in_use = self.lease.as_ref().map(Lease::address) == Some(lease.address());
        if address_in_use || self.config.conflict_probe.count == 0 {
            self.adopt(lease, now);
            return;
        }
        let probes_left = self.config.conflict_probe.count;
        self.set_phase(Phase::Probing { lease, probes_left, next: now.instant });
        self.handle_timeout(now);
    }

    fn handle_nak(&mut self, message: &Received, now: Now) {
        let server = message.options.address(OptionCode::ServerIdentifier);
        let listens = match &self.phase {
            Phase::Requesting { offer, .. } => server.is_none_or(|server| server == offer.server),
            Phase::Rebooting { .. } | Phase::Renewing { .. } | Phase::Rebinding { .. } => true,
            _ => false,
        };
        if !listens || server.is_some_and(|server| self.config.reject_servers.contains(&server)) {
            return;
        }
        // The first refusal is ordinary (another network); a server that always refuses is not.
        let pause = match self.refusals {
            0 => Duration::ZERO,
            count => Duration::from_secs(1 << count.min(REFUSAL_SHIFT_MAX)),
        };
        self.refusals += 1;
        self.forget();
        self.lose(LostReason::Refused);
        self.set_phase(Phase::Init { start: now.instant + pause });
        self.handle_timeout(now);
    }

    /// Sends the next probe, or takes the lease into use if all went unanswered.
    fn probe(&mut self, now: Now) {
        let Phase::Probing { lease, probes_left, next } = &mut self.phase else { return };
        if *probes_left == 0 {
            let lease = lease.clone();
            self.adopt(lease, now);
            return;
        }
        *probes_left -= 1;
        *next = now.instant + self.config.conflict_probe.interval;
        let target = lease.address();
        self.send_arp(Ipv4Addr::UNSPECIFIED, target);
    }

    fn decline(&mut self, lease: &Lease, mac: MacAddr, now: Now) {
        self.send_decline(lease);
        self.out.event(ClientEvent::Conflict { address: lease.address(), mac });
        self.forget();
        self.set_phase(Phase::Init { start: now.instant + DECLINE_PAUSE });
    }

    /// Tells the link who owns the address, but not so often that two stations shout at each other
    /// (RFC 5227 §2.4).
    fn defend(&mut self, address: Ipv4Addr, mac: MacAddr, now: Now) {
        let recent = |at: Instant| now.instant.saturating_since(at) < DEFEND_INTERVAL;
        if self.defended_at.is_some_and(recent) {
            return;
        }
        self.defended_at = Some(now.instant);
        self.out.event(ClientEvent::Conflict { address, mac });
        self.send_arp(address, address);
    }

    /// Takes an acknowledged lease into use.
    fn adopt(&mut self, lease: Lease, now: Now) {
        let stored = to_stored(&lease, now);
        self.remembered = Some(stored.clone());
        self.out.store(StoreRecord::Keep(stored));
        self.refusals = 0;
        self.set_phase(Phase::Bound);
        let old = self.lease.replace(lease.clone());
        if old.as_ref().map(Lease::address) != Some(lease.address()) {
            self.start_announcing(now);
        }
        self.out.event(match old {
            None => ClientEvent::Obtained(lease),
            Some(old) if old.settings == lease.settings => ClientEvent::Renewed(lease),
            Some(old) => ClientEvent::Changed { old, new: lease },
        });
        self.handle_timeout(now);
    }

    fn start_announcing(&mut self, now: Now) {
        self.defended_at = None;
        self.announcements = Some((ANNOUNCE_COUNT, now.instant));
    }

    fn announce(&mut self, now: Now) {
        let (Some((left, _)), Some(lease)) = (self.announcements, &self.lease) else {
            self.announcements = None;
            return;
        };
        let address = lease.address();
        self.announcements = (left > 1).then(|| (left - 1, now.instant + ANNOUNCE_INTERVAL));
        self.send_arp(address, address);
    }

    fn expire(&mut self, now: Now) {
        self.lose(LostReason::Expired);
        let starts_over = matches!(
            self.phase,
            Phase::Bound
                | Phase::Renewing { .. }
                | Phase::Rebinding { .. }
                | Phase::Rebooting { .. }
        );
        if starts_over {
            self.set_phase(Phase::Init { start: now.instant });
        }
    }

    fn lose(&mut self, reason: LostReason) {
        self.announcements = None;
        if let Some(lease) = self.lease.take() {
            self.out.event(ClientEvent::Lost { lease, reason });
        }
    }

    fn forget(&mut self) {
        if self.remembered.take().is_some() {
            self.out.store(StoreRecord::Forget);
        }
    }

    fn restore(&self, now: Now) -> Option<Lease> {
        let stored = self.remembered.as_ref()?;
        // A clock that runs behind the start of the lease can't tell how much of it is left.
        if now.unix_secs < stored.obtained_unix {
            return None;
        }
        self.known_address(now)?;
        let left = remaining(stored.duration_secs, stored.expires_unix, now.unix_secs);
        let age = Duration::from_secs(now.unix_secs - stored.obtained_unix);
        Some(Lease {
            settings: stored.settings.clone(),
            server: stored.server,
            server_mac: stored.server_mac,
            duration: stored.duration_secs.map(|secs| Duration::from_secs(secs.into())),
            obtained_at: now.instant - age,
            renew_at: now.instant,
            rebind_at: now.instant,
            expires_at: left.map_or(Instant::NEVER, |left| now.instant + left),
        })
    }

    fn new_transaction(&mut self, now: Now) -> Transaction {
        Transaction {
            xid: self.rng.random(),
            started_at: now.instant,
            secs: 0,
            broadcast: self.config.broadcast_flag == BroadcastFlag::Always,
            rejected: false,
        }
    }

    fn first_retry(&mut self, now: Now) -> Retry {
        self.retry(0, now)
    }

    /// 4, 8, 16, 32, 64 s, each give or take one (RFC 2131 §4.1, DC11).
    fn retry(&mut self, attempt: u32, now: Now) -> Retry {
        let millis = 4_000 << attempt.min(4);
        let pause = self.rng.random_range(millis - 1_000..=millis + 1_000);
        Retry { attempt, at: now.instant + Duration::from_millis(pause) }
    }

    fn send_arp(&mut self, sender: Ipv4Addr, target: Ipv4Addr) {
        self.out.transmit(Output::Arp { sender_mac: self.config.mac, sender, target });
    }

    fn is_ours(&self, message: &Received) -> bool {
        let id = message.options.bytes(OptionCode::ClientIdentifier);
        message.op == Op::Reply
            && message.chaddr == self.config.mac
            && message.xid == self.transaction.xid
            && id.is_none_or(|id| self.client_id().as_deref() == Some(id))
    }

    fn is_rejected(&self, server: Ipv4Addr, address: Ipv4Addr) -> bool {
        self.config.reject_servers.contains(&server)
            || self.config.reject_prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

fn to_stored(lease: &Lease, now: Now) -> StoredLease {
    let age = now.instant.saturating_since(lease.obtained_at).as_secs();
    StoredLease {
        settings: lease.settings.clone(),
        server: lease.server,
        server_mac: lease.server_mac,
        duration_secs: lease.duration.map(|span| span.as_secs() as u32),
        obtained_unix: now.unix_secs.saturating_sub(age),
        expires_unix: now.unix_at(lease.expires_at),
    }
}

/// Half of what remains, but not too often (RFC 2131 §4.4.5, DC8).
fn half_of(remaining: Duration) -> Duration {
    (remaining / 2).max(RENEW_RETRY_MIN)
}

/// Most offers compared; a link with more servers than this has another problem.
const OFFERS_MAX: usize = 8;
/// How long after the first offer others are waited for: servers on the link answer within
/// milliseconds, and every start pays this.
const OFFER_WINDOW: Duration = Duration::from_millis(250);
/// REQUESTs before starting over: 4 + 8 + 16 + 32 s, the minute of RFC 2131 §3.1 item 5.
const REQUEST_TRIES: u32 = 4;
/// Unanswered DISCOVERs before the broadcast flag is tried.
const BROADCAST_AFTER: u32 = 2;
/// Pause while only rejected servers answer: a modem that just booted changes its mind soon (DC21).
const REJECTED_RETRY: Duration = Duration::from_secs(15);
/// Shortest pause between renewals (RFC 2131 §4.4.5).
const RENEW_RETRY_MIN: Duration = Duration::from_secs(60);
/// Pause after DECLINE (RFC 2131 §3.1 item 5: at least ten seconds).
const DECLINE_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause after repeated refusals, as a power of two: 64 s, the longest of DC11.
const REFUSAL_SHIFT_MAX: u32 = 6;
/// How long a lease outlives its link: long enough for a modem's restart, short enough that failover to
/// another uplink is not held up (DC26).
const LINK_FLAP_MAX: Duration = Duration::from_secs(30);
/// Announcements and their distance (RFC 5227 §1.1 ANNOUNCE_NUM, ANNOUNCE_INTERVAL).
const ANNOUNCE_COUNT: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// RFC 5227 §1.1 DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
