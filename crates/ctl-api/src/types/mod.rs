//! Requests and replies: exactly what `--json` prints.
//!
//! Conventions: names are snake_case with the unit last; `_secs` are whole seconds, `_total` and plain
//! packet and byte counters count since the start of `routerd`; enumerations are lower-case words; a
//! value that is not known is `null`, never a made-up zero. Endpoints are `"address:port"`, where the
//! port of an ICMP query is its identifier.

mod explain;
mod flow;
mod forward;
mod host;
mod rule;
mod services;
mod status;

pub use config::{ForwardHost, ForwardProtocol};
pub use explain::{
    Asked, DecidedBy, ExplainRequest, Explanation, FRAME_BYTES_MAX, PacketEnd, PacketFacts,
    ParseEndError, ParseFlagsError, Question, QuestionError, QueueFacts, RouteFacts, TcpFlags,
    TranslationFacts,
};
pub use flow::{Direction, FLOWS_LISTED_MAX, Flow, FlowFilter, Killed, Transport};
pub use forward::{
    Forward, ForwardSource, ForwardSpec, ForwardTarget, ParsePortRangeError, ParseTargetError,
    PortRange, SpecError,
};
pub use host::{Host, Lease, LeaseSource, LeaseState, Reservation};
pub use rule::{Rule, RuleCounts};
pub use services::{ConfigProblem, ConfigReport, Dns, Drop, Reloaded, Upstream};
pub use status::{
    DmzHost, FlowTotals, Lan, Link, LinkRole, LinkState, OneToOne, Shaper, ShaperDirection, Status,
    Wan, WanMode, WanState,
};

/// MAC addresses as text, for `#[serde(with = "mac")]`.
pub(crate) mod mac {
    use packet::MacAddr;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Gives a type that is written as text its serde traits from `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
