//! What a client takes from offers and acknowledgements.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::OptionCode;
use ipnet::Ipv4Net;
use packet::{Instant, MacAddr};
use rand::RngExt;

use super::{Client, ClientEvent, Offer};
use crate::lease::{Lease, LeaseSettings, Route};
use crate::message::{Options, ROUTES_MAX, Received, is_host};

impl Client {
    /// Reads an offer; `None` if it is incomplete or rejected.
    pub(super) fn read_offer(&mut self, message: &Received) -> Option<Offer> {
        let server = message.options.address(OptionCode::ServerIdentifier)?;
        let address = message.yiaddr;
        let complete = is_host(address) && duration_of(&message.options).is_some();
        if !complete || self.refuses(server, address) {
            return None;
        }
        Some(Offer { server, address })
    }

    /// Reads the lease out of an ACK; `None` if it is incomplete, rejected or not of the server that
    /// was asked.
    pub(super) fn read_lease(
        &mut self,
        message: &Received,
        expected: Option<Ipv4Addr>,
        server_mac: MacAddr,
        sent_at: Instant,
    ) -> Option<Lease> {
        let server = message.options.address(OptionCode::ServerIdentifier).or(expected)?;
        let address = message.yiaddr;
        let asked = expected.is_none_or(|expected| expected == server);
        if !asked || !is_host(address) || self.refuses(server, address) {
            return None;
        }
        let duration = duration_of(&message.options)?;
        let (renew, rebind) = self.renewal_times(&message.options, duration);
        Some(Lease {
            settings: settings_of(address, &message.options),
            server,
            server_mac,
            duration: (duration != Duration::MAX).then_some(duration),
            obtained_at: sent_at,
            renew_at: sent_at + renew,
            rebind_at: sent_at + rebind,
            expires_at: sent_at + duration,
        })
    }

    /// T1 and T2 from the start of the lease: as given if they make sense, else the default fractions,
    /// shifted a little so that not all clients come at once (RFC 2131 §4.4.5, DC5).
    fn renewal_times(&mut self, options: &Options, duration: Duration) -> (Duration, Duration) {
        if duration == Duration::MAX {
            return (Duration::MAX, Duration::MAX);
        }
        let given = |code| options.seconds(code).map(|secs| Duration::from_secs(secs.into()));
        let mut renew = given(OptionCode::Renewal).unwrap_or(duration / 2);
        let mut rebind = given(OptionCode::Rebinding).unwrap_or(duration / 8 * 7);
        if renew >= rebind || rebind >= duration || renew.is_zero() {
            (renew, rebind) = (duration / 2, duration / 8 * 7);
        }
        // Each may move by a fraction of the smallest gap, so their order can't change.
        let gap = renew.min(rebind - renew).min(duration - rebind);
        (self.fuzz(renew, gap), self.fuzz(rebind, gap))
    }

    fn fuzz(&mut self, time: Duration, gap: Duration) -> Duration {
        let reach = (gap.as_millis() as u64) / FUZZ_DIVISOR;
        let shift = self.rng.random_range(0..=2 * reach);
        time + Duration::from_millis(shift) - Duration::from_millis(reach)
    }

    /// Whether the reject lists name this server or address (DC21); the operator is told once in
    /// each exchange.
    fn refuses(&mut self, server: Ipv4Addr, address: Ipv4Addr) -> bool {
        if !self.is_rejected(server, address) {
            return false;
        }
        if !std::mem::replace(&mut self.transaction.rejected, true) {
            self.out.event(ClientEvent::Rejected { server, address });
        }
        true
    }
}

/// Option 51; [`Duration::MAX`] for a lease without end, `None` for one of no length.
fn duration_of(options: &Options) -> Option<Duration> {
    match options.seconds(OptionCode::AddressLeaseTime)? {
        0 => None,
        u32::MAX => Some(Duration::MAX),
        secs => Some(Duration::from_secs(secs.into())),
    }
}

fn settings_of(address: Ipv4Addr, options: &Options) -> LeaseSettings {
    LeaseSettings {
        address,
        prefix: prefix_of(address, options),
        routes: routes_of(options),
        dns: options.addresses(OptionCode::DomainNameServer),
        domain: options.text(OptionCode::DomainName),
        ntp: options.addresses(OptionCode::NtpServers),
        mtu: options.number16(OptionCode::InterfaceMtu).filter(|mtu| *mtu >= MTU_MIN),
    }
}

/// The network of the link; without a usable mask the address alone, with every gateway on the link
/// (DC23).
fn prefix_of(address: Ipv4Addr, options: &Options) -> Ipv4Net {
    let mask = options.address(OptionCode::SubnetMask).unwrap_or(Ipv4Addr::BROADCAST);
    match Ipv4Net::with_netmask(address, mask) {
        Ok(prefix) if prefix.prefix_len() > 0 => prefix.trunc(),
        _ => Ipv4Net::from(address),
    }
}

/// Option 121 alone, or else options 33 and 3 (RFC 3442, DC17).
fn routes_of(options: &Options) -> Vec<Route> {
    if let Some(classless) = options.classless_routes() {
        return classless
            .into_iter()
            .map(|(destination, gateway)| Route {
                destination,
                gateway: (!gateway.is_unspecified()).then_some(gateway),
            })
            .collect();
    }
    // Only host routes of option 33: its classful networks left the Internet in 1993.
    let pairs = options.bytes(OptionCode::StaticRoutingTable).unwrap_or_default();
    let hosts =
        pairs.as_chunks::<8>().0.iter().take(ROUTES_MAX).map(|[a, b, c, d, gateway @ ..]| {
            let destination = Ipv4Net::from(Ipv4Addr::new(*a, *b, *c, *d));
            Route { destination, gateway: Some(Ipv4Addr::from(*gateway)) }
        });
    let hosts = hosts.filter(|route| is_host(route.destination.addr()));
    let default = options
        .addresses(OptionCode::Router)
        .first()
        .map(|gateway| Route { destination: Ipv4Net::default(), gateway: Some(*gateway) });
    hosts.chain(default).collect()
}

/// T1 and T2 move by at most a tenth of the smallest gap around them.
const FUZZ_DIVISOR: u64 = 10;
/// Smallest MTU believed: every IPv4 host must take 576 bytes (RFC 791 §3.1); smaller values come from
/// broken servers.
const MTU_MIN: u16 = 576;
