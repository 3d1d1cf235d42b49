//! Everything that can be wrong with a file: each fault with its sentence and its remedy.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use miette::Diagnostic;
use packet::MacAddr;
use thiserror::Error;

use crate::{ParseForwardError, ParseRateError};

/// One thing that is wrong with a configuration. `help()` is the remedy and never `None`.
#[derive(Debug, Clone, PartialEq, Error, Diagnostic)]
#[expect(missing_docs, reason = "the sentence of each variant is its documentation")]
pub enum Fault {
    // The file as a whole
    #[error("the file cannot be read: {reason}")]
    #[diagnostic(help("check the path and that this user may read it"))]
    Unreadable { reason: std::io::ErrorKind },
    #[error("the file is longer than {max} bytes")]
    #[diagnostic(help("give a configuration file; one with every limit used up is shorter"))]
    FileTooLong { max: u64 },
    #[error("the file is not UTF-8 from here on")]
    #[diagnostic(help("save the file as UTF-8 text"))]
    NotUtf8,
    #[error("this is not TOML: {message}")]
    #[diagnostic(help("a line reads `key = value`, texts stand in double quotes: {expected}"))]
    Syntax { message: String, expected: String },
    #[error("this key or table is there twice")]
    #[diagnostic(help("keep one; a list of tables is written with double brackets: `[[lan]]`"))]
    DuplicateKey,

    // Keys and kinds of value
    #[error("`{key}` is not a key of {section}")]
    #[diagnostic(help("{remedy}"))]
    UnknownKey { key: String, section: String, remedy: String },
    #[error("{section} lacks `{key}`")]
    #[diagnostic(help("add `{example}`"))]
    MissingKey { section: String, key: &'static str, example: String },
    #[error("`{key}` must be {expected}, and this is {found}")]
    #[diagnostic(help("write it like `{example}`"))]
    WrongKind { key: String, expected: &'static str, found: &'static str, example: String },
    #[error("`{key}` lies between {min} and {max}")]
    #[diagnostic(help("give a whole number in that range: {why}"))]
    OutOfRange { key: String, min: i64, max: i64, why: &'static str },
    #[error("more than {max} of `{key}`")]
    #[diagnostic(help("take some out; the limit is {max}"))]
    TooMany { key: String, max: usize },
    #[error("`{key}` is an empty list, which says nothing")]
    #[diagnostic(help("name something, or leave `{key}` out"))]
    EmptyList { key: String },
    #[error("`{given}` is not a value of `{key}`")]
    #[diagnostic(help("{remedy}"))]
    UnknownWord { given: String, key: String, remedy: String },

    // Values
    #[error("`{given}` is not an IPv4 address")]
    #[diagnostic(help("write four numbers from 0 to 255, such as `198.51.100.53`"))]
    NotAddress { given: String },
    #[error("`{given}` is not an address and port")]
    #[diagnostic(help("write it like `127.0.0.1:9100`"))]
    NotSocketAddress { given: String },
    #[error("`{given}` is not an IPv4 server")]
    #[diagnostic(help("write `ADDRESS` or `ADDRESS:PORT`, such as `198.51.100.53`"))]
    NotServer { given: String },
    #[error("`{given}` is not an IPv4 address with a prefix length")]
    #[diagnostic(help("write the address, a slash and the prefix length: `{example}`"))]
    NotNet { given: String, example: String },
    #[error("`{given}` has bits set behind its prefix length")]
    #[diagnostic(help("write the network itself: `{network}`"))]
    HostBits { given: Ipv4Net, network: Ipv4Net },
    #[error("`{given}` is not a range of addresses")]
    #[diagnostic(help("write first and last address: `10.0.0.100-10.0.0.199`"))]
    NotPool { given: String },
    #[error("the pool runs backwards")]
    #[diagnostic(help("write the lower address first: `{last}-{first}`"))]
    PoolBackwards { first: Ipv4Addr, last: Ipv4Addr },
    #[error("`{given}` is neither an IPv4 address nor a range of them")]
    #[diagnostic(help("write `198.51.100.3`, or first and last: `198.51.100.8-198.51.100.11`"))]
    NotAddressRange { given: String },
    #[error("the range runs backwards")]
    #[diagnostic(help("write the lower address first: `{last}-{first}`"))]
    RangeBackwards { first: Ipv4Addr, last: Ipv4Addr },
    #[error("`{given}` is not a MAC address")]
    #[diagnostic(help("write six octets in hexadecimal: `02:08:20:0a:0b:01`"))]
    NotMac { given: String },
    #[error("{mac} belongs to a group or to nobody")]
    #[diagnostic(help("give the address of one network card: its first octet is even"))]
    NotUnicastMac { mac: MacAddr },
    #[error("`{given}` is not a duration")]
    #[diagnostic(help("write a number with its unit, such as `30s`, `5m` or `12h`"))]
    NotDuration { given: String },
    #[error("`{key}` lies between {min} and {max}")]
    #[diagnostic(help("give a duration in that range"))]
    DurationOutOfRange { key: &'static str, min: String, max: String },
    #[error("{cause}")]
    #[diagnostic(help("{remedy}"))]
    Rate { cause: ParseRateError, remedy: String },
    #[error("`{given}` is not a usable path")]
    #[diagnostic(help("write an absolute path of at most {max} bytes, such as `{example}`"))]
    Path { given: String, max: usize, example: &'static str },
    #[error("`{given}` is not a name that a link can have")]
    #[diagnostic(help("use 1 to 15 letters, digits, `_`, `-` or `.`, such as `wan0`"))]
    LinkName { given: String },
    #[error("`{given}` is not a name that a link can have on {platform}")]
    #[diagnostic(help(
        "use 3 to 15 letters, digits and `_`, a letter first and a number without leading zero \
         last, such as `wan0`"
    ))]
    PortableLinkName { given: String, platform: &'static str },
    #[error("`{given}` is not a name that {platform} can attach a link to")]
    #[diagnostic(help("give a device, tag or etherstub of the host, such as `{example}`"))]
    Over { given: String, platform: &'static str, example: &'static str },
    #[error("`{given}` is not a host name")]
    #[diagnostic(help(
        "use one label of 1 to 63 letters, digits and inner hyphens, such as `web`; `localhost` \
         is taken"
    ))]
    HostName { given: String },
    #[error("`{given}` is not a domain name")]
    #[diagnostic(help(
        "use labels of letters, digits and inner hyphens between dots, such as `home.arpa`"
    ))]
    DomainName { given: String },
    #[error("`{given}` is not a name for a LAN, a zone, a set or a rule")]
    #[diagnostic(help(
        "use 1 to 32 letters, digits, `_` and `-`, a letter first; `wan`, `router` and `anywhere` \
         are taken"
    ))]
    LanName { given: String },
    #[error("`{given}` is not a name for a zone")]
    #[diagnostic(help(
        "use 1 to 63 letters, digits, `.`, `_` and `-`, a letter or digit first; `global` and \
         names that begin with `SUNW` are taken"
    ))]
    ZoneName { given: String },
    #[error("`{given}` is not a UUID")]
    #[diagnostic(help("copy it from `imgadm list`: 8, 4, 4, 4 and 12 hexadecimal digits"))]
    Uuid { given: String },
    #[error("`{given}` is not a client id")]
    #[diagnostic(help(
        "use `none`, `mac`, `duid`, `text:` and up to 254 characters, or `hex:` and 2 to 255 \
         octets such as `hex:0102082000aabb`"
    ))]
    ClientId { given: String },
    #[error("an MSS lies between {min} and {max}")]
    #[diagnostic(help("use `\"auto\"`, `\"off\"` or a number of bytes in that range"))]
    Mss { min: u16, max: u16 },

    // Addresses and subnets
    #[error("{address} is {what} and belongs to no single host")]
    #[diagnostic(help("give the address of one host"))]
    Unusable { address: Ipv4Addr, what: &'static str },
    #[error("{address} is the {what} address of {net}, not the router's own")]
    #[diagnostic(help("give an address inside, such as `{example}`"))]
    NotHostOfNet { address: Ipv4Addr, what: &'static str, net: Ipv4Net, example: Ipv4Net },
    #[error("the prefix length of a LAN lies between {min} and {max}")]
    #[diagnostic(help("choose a subnet that holds at least two hosts, such as `10.0.0.1/24`"))]
    LanPrefix { min: u8, max: u8 },
    #[error("the gateway {gateway} is outside the WAN subnet {subnet}")]
    #[diagnostic(help(
        "give a gateway inside {subnet}, or write the address as `{address}/32` if the provider \
         puts the gateway elsewhere"
    ))]
    GatewayOutside { gateway: Ipv4Addr, subnet: Ipv4Net, address: Ipv4Addr },
    #[error("the gateway {gateway} is the router itself")]
    #[diagnostic(help("give the address of the provider's router"))]
    GatewayIsRouter { gateway: Ipv4Addr },
    #[error("the subnet {subnet} of `{lan}` overlaps {other}")]
    #[diagnostic(help("give each side a subnet of its own, such as `{example}`"))]
    SubnetOverlap { subnet: Ipv4Net, lan: String, other: String, example: Ipv4Net },

    // LANs
    #[error("there is no LAN")]
    #[diagnostic(help(
        "add `[[lan]]` with `name = \"home\"`, `link = \"lan0\"` and `address = \"10.0.0.1/24\"`"
    ))]
    NoLan,
    #[error("the LAN name `{name}` is there twice")]
    #[diagnostic(help("give this LAN another name"))]
    DuplicateLan { name: String },
    #[error("the link `{link}` is used twice")]
    #[diagnostic(help("give each of `wan` and `lan` a link of its own"))]
    DuplicateLink { link: String },
    #[error("there is no LAN named `{name}`")]
    #[diagnostic(help("{remedy}"))]
    UnknownLan { name: String, remedy: String },
    #[error("`{name}` reaches itself without the router")]
    #[diagnostic(help("take `{name}` out; hosts of one LAN talk directly"))]
    ReachItself { name: String },
    #[error("the pool {pool} is not inside the subnet {subnet}")]
    #[diagnostic(help("keep the pool between {first} and {last}"))]
    PoolOutside { pool: String, subnet: Ipv4Net, first: Ipv4Addr, last: Ipv4Addr },
    #[error("the pool contains {address}, the router's own address")]
    #[diagnostic(help("begin the pool behind {address}, or end it before"))]
    PoolHasRouter { address: Ipv4Addr },
    #[error("the pool holds {count} addresses, more than {max}")]
    #[diagnostic(help("make the pool smaller: at most {max} addresses"))]
    PoolTooLarge { count: u64, max: u64 },
    #[error("the reservation {address} is outside the subnet {subnet} of `{lan}`")]
    #[diagnostic(help("give an address between {first} and {last}"))]
    ReservationOutside {
        address: Ipv4Addr,
        subnet: Ipv4Net,
        lan: String,
        first: Ipv4Addr,
        last: Ipv4Addr,
    },
    #[error("{address} is the router's own address")]
    #[diagnostic(help("reserve another address of the subnet"))]
    ReservationIsRouter { address: Ipv4Addr },
    #[error("{mac} has a reservation already")]
    #[diagnostic(help("keep one reservation per MAC address and LAN"))]
    DuplicateMac { mac: MacAddr },
    #[error("{address} is reserved already")]
    #[diagnostic(help("give each reservation an address of its own"))]
    DuplicateAddress { address: Ipv4Addr },
    #[error("the name `{name}` is taken already")]
    #[diagnostic(help("give each reservation and DNS host a name of its own"))]
    DuplicateName { name: String },

    // WAN
    #[error("a shaper without a rate shapes nothing")]
    #[diagnostic(help("add `upload = \"20Mbit/s\"` or `download`, or take `[wan.shaper]` out"))]
    ShaperWithoutRate,
    #[error("`{key}` has no effect with mode = \"{mode}\"")]
    #[diagnostic(help("take `{key}` out, or set mode = \"{other}\""))]
    WrongMode { key: &'static str, mode: &'static str, other: &'static str },

    #[error("{count} external addresses, more than {max}")]
    #[diagnostic(help("give at most {max} addresses in all"))]
    ExternalsTooMany { count: u64, max: usize },
    #[error("the external address {address} is {owner}")]
    #[diagnostic(help("leave {address} out, or give one that the provider assigned to you"))]
    ExternalTaken { address: Ipv4Addr, owner: &'static str },
    #[error("the external address {address} is inside {subnet}, the subnet of `{lan}`")]
    #[diagnostic(help("give an address that the provider assigned to you"))]
    ExternalInLan { address: Ipv4Addr, subnet: Ipv4Net, lan: String },
    #[error("the external address {address} is there twice")]
    #[diagnostic(help("keep one of the two"))]
    DuplicateExternal { address: Ipv4Addr },

    #[error("`bogons_allow` has no effect with bogons = \"pass\"")]
    #[diagnostic(help("take `bogons_allow` out, or set bogons = \"drop\""))]
    AllowWithoutDrop,

    // DNS, NAT
    #[error("`{host}` is there twice")]
    #[diagnostic(help("keep one `[[nat.{table}]]` for each host"))]
    DuplicateNatHost { host: String, table: &'static str },
    #[error("{address} is in no LAN")]
    #[diagnostic(help("give an address inside {subnets}"))]
    HostOutside { address: Ipv4Addr, subnets: String },
    #[error("{address} is {what}, not a host")]
    #[diagnostic(help("give the address of a host on a LAN"))]
    HostIsNone { address: Ipv4Addr, what: &'static str },
    #[error("no reservation is named `{name}`")]
    #[diagnostic(help("{remedy}"))]
    HostUnknown { name: String, remedy: String },
    #[error("`{given}` is neither an IPv4 address nor a host name")]
    #[diagnostic(help("write an address such as `10.0.0.9`, or the name of a reservation"))]
    NotHost { given: String },
    #[error("{address} is the router itself, which would ask itself forever")]
    #[diagnostic(help("give a server outside, or leave `upstream` out to use the WAN lease's"))]
    UpstreamIsRouter { address: Ipv4Addr },
    #[error("`rebinding_allow` has no effect with rebinding = \"pass\"")]
    #[diagnostic(help("take `rebinding_allow` out, or set rebinding = \"filter\""))]
    AllowWithoutFilter,
    #[error("`{key}` is below {floor}, the floor of {source_text}")]
    #[diagnostic(help(
        "raise it to `{floor}`, or set `allow_short_timeouts = true` in `[nat]` if connections \
         may break"
    ))]
    TimeoutBelowFloor { key: &'static str, floor: String, source_text: &'static str },

    // Forwards and policy
    #[error("{cause}")]
    #[diagnostic(help("{remedy}"))]
    Forward { cause: ParseForwardError, remedy: String },
    #[error("the forward leads nowhere: {address} is in no LAN")]
    #[diagnostic(help("give an address inside {subnets}"))]
    ForwardOutside { address: Ipv4Addr, subnets: String },
    #[error("the forward leads to {address}, which is {what}")]
    #[diagnostic(help("give the address of a host on a LAN"))]
    ForwardToNoHost { address: Ipv4Addr, what: &'static str },
    #[error("the forward leads nowhere: no reservation is named `{name}`")]
    #[diagnostic(help("{remedy}"))]
    ForwardToUnknown { name: String, remedy: String },
    #[error("an earlier forward has {ports} already")]
    #[diagnostic(help("choose other ports, or take one of the two out"))]
    ForwardConflict { ports: String },
    #[error("the router has no external address {address}")]
    #[diagnostic(help(
        "add it to `addresses` in `[wan]`, or leave `address` out to use the WAN link's own"
    ))]
    ForwardAddressUnknown { address: Ipv4Addr },
    #[error("{protocol} port {port} belongs to {owner}")]
    #[diagnostic(help("leave {protocol} port {port} out of the forward"))]
    ForwardReserved { protocol: &'static str, port: u16, owner: &'static str },
    #[error("`{given}` is no host that can get what nothing else takes")]
    #[diagnostic(help("{remedy}"))]
    DmzNoHost { given: String, remedy: String },
    #[error("`port` needs a `protocol` that has ports")]
    #[diagnostic(help("add `protocol = \"tcp\"`, `\"udp\"` or `\"both\"`"))]
    ExemptPortWithoutProtocol,
    #[error("`port` and `source_port` need a `protocol` that has ports")]
    #[diagnostic(help(
        "add `protocol = \"tcp\"`, `\"udp\"`, `\"both\"`, `\"sctp\"` or `\"udplite\"`"
    ))]
    PortWithoutProtocol,
    #[error("`{given}` is neither addresses nor a name")]
    #[diagnostic(help(
        "write an address, a prefix such as `10.0.0.0/24`, a range such as `10.0.0.5-10.0.0.9`, a \
         host name, or `@` and the name of a set"
    ))]
    NotAddresses { given: String },
    #[error("no set of `[policy.set]` is named `{name}`")]
    #[diagnostic(help("{remedy}"))]
    UnknownSet { name: String, remedy: String },
    #[error("the set `{name}` contains itself")]
    #[diagnostic(help("take `@{name}` out of the sets that it names"))]
    SetLoop { name: String },
    #[error("no reservation and no `[[dns.host]]` is named `{name}`")]
    #[diagnostic(help("{remedy}"))]
    UnknownHost { name: String, remedy: String },
    #[error("the name `{name}` is taken by a LAN or another zone")]
    #[diagnostic(help("give each `[[policy.zone]]` a name of its own"))]
    DuplicatePolicyZone { name: String },
    #[error("`{given}` is no LAN and no zone of LANs")]
    #[diagnostic(help("{remedy}"))]
    UnknownRuleEnd { given: String, remedy: String },
    #[error("what comes from the WAN never leaves by the WAN")]
    #[diagnostic(help("name a LAN, a zone, `router` or `anywhere` in `to`"))]
    RuleNowhere,
    #[error("the router's answers to hosts inside are no flows of its own")]
    #[diagnostic(help(
        "with from = \"router\" use to = \"wan\"; what hosts may ask of it is `to = \"router\"`"
    ))]
    RouterInside,
    #[error("`{given}` is no IP protocol")]
    #[diagnostic(help(
        "use `any`, `both` (tcp and udp), `tcp`, `udp`, `icmp`, `igmp`, `ipip`, `gre`, `esp`, `ah`, \
         `sctp`, `udplite` or a number from 0 to 255"
    ))]
    NotProtocol { given: String },
    #[error("`{given}` is no code point")]
    #[diagnostic(help("{remedy}, or a number from 0 to 63"))]
    NotDscp { given: String, remedy: String },
    #[error("`{given}` is no schedule")]
    #[diagnostic(help(
        "write days and hours, such as `mon-fri 08:00-17:00`, `sat,sun 00:00-24:00` or `daily \
         22:00-06:00`"
    ))]
    NotSchedule { given: String },
    #[error("`{given}` is no distance from UTC")]
    #[diagnostic(help("write sign, hours and minutes, such as `+01:00`"))]
    NotUtcOffset { given: String },
    #[error("`{given}` is no rate of new flows")]
    #[diagnostic(help("write a number from 1 to 1000000 and a time: `20/s`, `100/m` or `1000/h`"))]
    NotFlowRate { given: String },
    #[error("`rate` limits what is allowed, and this rule allows nothing")]
    #[diagnostic(help(
        "take `rate` out, or set action = \"allow\" and refuse the rest by a rule behind"
    ))]
    RateWithoutAllow,
    #[error("`burst` needs a `rate`")]
    #[diagnostic(help("add `rate = \"20/s\"`"))]
    BurstWithoutRate,

    // Zone
    #[error("the brand `{brand}` does not exist on {platform}")]
    #[diagnostic(help("{remedy}"))]
    BrandOfOther { brand: &'static str, platform: &'static str, remedy: String },
    #[error("`{key}` has no effect on {platform}")]
    #[diagnostic(help("take `{key}` out"))]
    WrongPlatform { key: &'static str, platform: &'static str },
    #[error("neither `wan` nor a `lan` uses the link `{link}`")]
    #[diagnostic(help("{remedy}"))]
    ZoneLinkUnused { link: String, remedy: String },
    #[error("the WAN link `{link}` has nothing to be attached to")]
    #[diagnostic(help("add `[[zone.link]]` with `name = \"{link}\"` and `over = \"igb0\"`"))]
    WanLinkDetached { link: String },
    #[error("`{name}` is there twice")]
    #[diagnostic(help("keep one `[[{section}]]` of that name"))]
    DuplicateZonePart { name: String, section: &'static str },
    #[error("`{link}` is on the same network as `{other}`: both are over `{over}`")]
    #[diagnostic(help("give one of them another `over` or a `vlan` of its own"))]
    SharedNetwork { link: String, other: String, over: String },
    #[error("the MAC address differs from {other}, the one in `[wan]`")]
    #[diagnostic(help("write it once, in `[wan]`"))]
    MacDiffers { other: MacAddr },
    #[error("the MTU {mtu} of the vNIC is below {other}, the one in `[wan]`")]
    #[diagnostic(help("raise it to {other}, or take it out"))]
    MtuBelowWan { mtu: u16, other: u16 },
    #[error("{key} must be at {bound} `memory_mib`")]
    #[diagnostic(help("set `{key} = {example}`"))]
    CapOrder { key: &'static str, bound: &'static str, example: u32 },
}

impl From<ParseRateError> for Fault {
    fn from(cause: ParseRateError) -> Self {
        Fault::Rate { remedy: cause.remedy(), cause }
    }
}

impl From<ParseForwardError> for Fault {
    fn from(cause: ParseForwardError) -> Self {
        Fault::Forward { remedy: cause.remedy(), cause }
    }
}

impl Fault {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.help().map(|help| help.to_string()).unwrap_or_default()
    }
}
