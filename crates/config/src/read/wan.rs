//! `[wan]`

use std::ops::Range;

use ipnet::Ipv4Net;
use toml::de::DeValue;

use crate::defaults;
use crate::document::{At, Section, choose};
use crate::fault::Fault;
use crate::model::{
    Bogons, ClientId, Overhead, ParseRateError, Ping, Rate, Shaper, Wan, WanDhcp, WanMode,
};
use crate::{name, value};

/// The WAN, and the places that later checks point to.
pub(crate) struct WanRead {
    pub(crate) wan: Wan,
    pub(crate) link_at: Range<usize>,
    /// The static subnet.
    pub(crate) subnet: Option<(Ipv4Net, Range<usize>)>,
    /// Where each range of further addresses stands.
    pub(crate) addresses_at: Vec<Range<usize>>,
}

pub(crate) fn wan(mut section: Section<'_>) -> Option<WanRead> {
    let link = section.required("link", "wan0", name::link);
    let mode = mode(&mut section);
    let max = defaults::WAN_ADDRESSES_MAX;
    let addresses = section.list("addresses", max, value::addresses);
    let ping = section
        .flag("ping")
        .map_or(defaults::PING, |flag| if flag.value { Ping::Answer } else { Ping::Silent });
    let words = [Bogons::Drop, Bogons::Pass];
    let bogons = section.choice("bogons", &words, Bogons::as_str);
    let bogons = bogons.map_or(defaults::BOGONS, |bogons| bogons.value);
    let bogons_allow_at = section.place_of("bogons_allow");
    let bogons_allow = section.list("bogons_allow", defaults::BOGONS_ALLOW_MAX, value::prefix);
    if let (Some(at), Bogons::Pass) = (bogons_allow_at, bogons) {
        section.problems.note(&at, Fault::AllowWithoutDrop);
    }
    let range = defaults::MTU_MIN..=defaults::MTU_MAX;
    let mtu = section.number_u16("mtu", range, "every host takes 576, an etherstub 9000");
    let mac = section.text("mac", value::mac);
    let shaper = section.section_if_present("shaper").and_then(shaper);
    section.finish();
    let (link, (mode, subnet)) = (link?, mode?);
    let wan = Wan {
        link: link.value,
        mode,
        addresses: addresses.iter().map(|range| range.value).collect(),
        ping,
        bogons,
        bogons_allow: bogons_allow.into_iter().map(|net| net.value).collect(),
        shaper,
        mtu: mtu.map(|mtu| mtu.value),
        mac: mac.map(|mac| mac.value),
    };
    let addresses_at = addresses.into_iter().map(|range| range.at).collect();
    Some(WanRead { wan, link_at: link.at, subnet, addresses_at })
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Dhcp,
    Static,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Mode::Dhcp => "dhcp",
            Mode::Static => "static",
        }
    }
}

type ModeRead = (WanMode, Option<(Ipv4Net, Range<usize>)>);

fn mode(section: &mut Section<'_>) -> Option<ModeRead> {
    let given = section.place_of("mode").is_some();
    let mode = section.choice("mode", &[Mode::Dhcp, Mode::Static], Mode::as_str);
    let mode = match (mode, given) {
        (Some(mode), _) => mode.value,
        (None, false) => Mode::Dhcp,
        (None, true) => {
            // Asked for, so that they are not reported as unknown next to the wrong mode.
            for key in ["hostname", "client_id", "reject", "address", "gateway"] {
                section.place_of(key);
            }
            return None;
        }
    };
    let (other, foreign) = match mode {
        Mode::Dhcp => (Mode::Static, &["address", "gateway"][..]),
        Mode::Static => (Mode::Dhcp, &["hostname", "client_id", "reject"][..]),
    };
    for key in foreign {
        if let Some(at) = section.place_of(key) {
            let (mode, other) = (mode.as_str(), other.as_str());
            section.problems.note(&at, Fault::WrongMode { key, mode, other });
        }
    }
    match mode {
        Mode::Dhcp => Some((WanMode::Dhcp(dhcp(section)), None)),
        Mode::Static => fixed(section),
    }
}

fn dhcp(section: &mut Section<'_>) -> WanDhcp {
    let hostname = section.text("hostname", name::host);
    let client_id = section.text("client_id", value::client_id);
    let reject = section.list("reject", defaults::REJECT_MAX, value::prefix);
    WanDhcp {
        hostname: hostname.map(|name| name.value),
        client_id: client_id.map_or(ClientId::None, |id| id.value),
        reject: reject.into_iter().map(|net| net.value).collect(),
    }
}

fn fixed(section: &mut Section<'_>) -> Option<ModeRead> {
    let address = section.required("address", "198.51.100.2/24", value::interface);
    let gateway = section.required("gateway", "198.51.100.1", value::address);
    let (address, At { value: gateway, at: gateway_at }) = (address?, gateway?);
    let (own, subnet) = (address.value.addr(), address.value.trunc());
    let outside = subnet.prefix_len() < 32 && !subnet.contains(&gateway);
    let fault = if gateway == own {
        Some(Fault::GatewayIsRouter { gateway })
    } else if outside {
        Some(Fault::GatewayOutside { gateway, subnet, address: own })
    } else if subnet.prefix_len() < 31 && gateway == subnet.network() {
        Some(Fault::Unusable { address: gateway, what: "the network address of the WAN subnet" })
    } else if subnet.prefix_len() < 31 && gateway == subnet.broadcast() {
        Some(Fault::Unusable { address: gateway, what: "the broadcast address of the WAN subnet" })
    } else {
        None
    };
    if let Some(fault) = fault {
        section.problems.note_both(&gateway_at, (&address.at, "the WAN address"), fault);
    }
    let mode = WanMode::Static { address: address.value, gateway };
    Some((mode, Some((subnet, address.at))))
}

fn shaper(mut section: Section<'_>) -> Option<Shaper> {
    let given = ["download", "upload"].map(|key| section.place_of(key).is_some());
    let [download, upload] = ["download", "upload"].map(|key| rate(&mut section, key));
    let overhead = overhead(&mut section).unwrap_or(defaults::OVERHEAD);
    if given == [false, false] {
        section.problems.note(&section.at, Fault::ShaperWithoutRate);
    }
    section.finish();
    (download.is_some() || upload.is_some()).then_some(Shaper { download, upload, overhead })
}

/// A number without quotes gets the same answer as one with them: say the unit.
fn rate(section: &mut Section<'_>, key: &'static str) -> Option<Rate> {
    let digits = match section.kind_of(key)? {
        DeValue::Integer(digits) => digits.as_str(),
        DeValue::Float(digits) => digits.as_str(),
        _ => {
            let read = section.text(key, |text| text.parse::<Rate>().map_err(Fault::from));
            return read.map(|rate| rate.value);
        }
    };
    let fault = ParseRateError::NoUnit { number: digits.to_owned() };
    section.problems.note(&section.place_of(key)?, fault.into());
    None
}

fn overhead(section: &mut Section<'_>) -> Option<Overhead> {
    if !matches!(section.kind_of("overhead"), Some(DeValue::Table(_))) {
        let read = |text: &str| choose("overhead", text, &Overhead::PRESETS, Overhead::as_str);
        return section.text("overhead", read).map(|overhead| overhead.value);
    }
    let mut custom = section.section("overhead");
    custom.require("bytes", "bytes = 22");
    let range = defaults::OVERHEAD_BYTES_MIN..=defaults::OVERHEAD_BYTES_MAX;
    let bytes = custom.number_i16("bytes", range, "no line adds more to a packet");
    let range = 0..=defaults::OVERHEAD_MPU_MAX;
    let mpu = custom.number_u16("mpu", range, "no minimum is larger than a full packet");
    custom.finish();
    Some(Overhead::Custom { bytes: bytes?.value, mpu: mpu.map_or(0, |mpu| mpu.value) })
}
