//! Zones: from what the operator wants and what the host has to the steps in between.
//!
//! [`observe`] reads the host with commands whose output is made for programs; [`plan`] is a pure
//! function of [`DesiredZone`] and [`Observed`], so every plan can be shown, tested and kept as a script
//! before anything is done; [`apply`] carries it out through one trait, [`Host`]. A plan is empty when
//! nothing drifted. [`apply`] stops at the first step that fails and takes nothing back: planning again
//! finds what exists and goes on. [`plan_destroy`] removes what was made, and only that.
//!
//! **Ownership.** A [`Record`] in the state folder is written before the first thing is made and removed
//! after the last is gone. On Linux, links also carry the alias `zone-router:ZONE`. What has neither is
//! somebody else's: an etherstub of that name is used and left alone, anything else in the way is a
//! [`PlanError`].
//!
//! **Platforms.** [`linux`] converges: it repairs what drifted, link by link. [`illumos`] and [`smartos`]
//! create and destroy; of what exists they compare what the listing commands show.
//!
//! Limits: names are checked when they are read ([`LinkName`], [`ZoneName`], ...) and paths when a plan
//! is made, so no word of a command needs more quoting than [`Plan::script`] gives it.
//!
//! Non-goals: the addresses and routes of the host, links of other zones, the router's own
//! configuration.

mod desired;
mod host;
pub mod illumos;
pub mod linux;
mod manifests;
mod record;
pub mod smartos;
mod step;

use std::path::PathBuf;

pub use desired::{
    Attachment, DesiredLink, DesiredZone, HostLink, ImageUuid, LinkName, NameError, Platform,
    ServiceKind, VlanId, ZoneName,
};
pub use host::{ApplyError, Failure, Host, LocalHost, ObserveError, Output, apply, apply_watched};
pub use manifests::{Manifest, manifests};
pub use record::Record;
pub use step::{Action, Plan, Step};

/// What a host has, as far as a zone is concerned.
#[derive(Clone, PartialEq, Debug)]
pub enum Observed {
    /// A Linux host.
    Linux(linux::Observed),
    /// An illumos host.
    Illumos(illumos::Observed),
    /// A SmartOS host.
    Smartos(smartos::Observed),
}

impl Observed {
    /// A host on which nothing was made yet and that has what the zone's links are attached to: for a
    /// plan that is read on another machine.
    #[must_use]
    pub fn fresh(desired: &DesiredZone) -> Self {
        let lower = desired.links.iter().filter_map(|link| match &link.over {
            Attachment::Existing(lower) => Some((lower.to_string(), link.mtu)),
            Attachment::Etherstub(_) => None,
        });
        match desired.platform {
            Platform::Linux => Self::Linux(linux::Observed::with_nics(lower)),
            Platform::Illumos { .. } => Self::Illumos(illumos::Observed {
                links: lower.map(|(name, _)| name).collect(),
                ..illumos::Observed::default()
            }),
            Platform::Smartos { .. } => Self::Smartos(smartos::Observed {
                tags: lower.map(|(name, _)| (name, "normal".to_owned())).collect(),
                ..smartos::Observed::default()
            }),
        }
    }
}

/// Reads what the plan for a zone depends on; changes nothing.
///
/// # Errors
/// A command or file that could not be read.
pub fn observe(desired: &DesiredZone, host: &mut dyn Host) -> Result<Observed, ObserveError> {
    Ok(match desired.platform {
        Platform::Linux => Observed::Linux(linux::observe(desired, host)?),
        Platform::Illumos { .. } => Observed::Illumos(illumos::observe(desired, host)?),
        Platform::Smartos { .. } => Observed::Smartos(smartos::observe(desired, host)?),
    })
}

/// The steps from what the host has to what is wanted; none if nothing drifted.
///
/// # Errors
/// If a step would touch the work of others or could not succeed.
pub fn plan(desired: &DesiredZone, observed: &Observed) -> Result<Plan, PlanError> {
    match observed {
        Observed::Linux(observed) => linux::plan(desired, observed),
        Observed::Illumos(observed) => illumos::plan(desired, observed),
        Observed::Smartos(observed) => smartos::plan(desired, observed),
    }
}

/// The steps that remove what was made for a zone, and nothing else.
///
/// # Errors
/// If the zone's paths cannot be written in commands.
pub fn plan_destroy(desired: &DesiredZone, observed: &Observed) -> Result<Plan, PlanError> {
    match observed {
        Observed::Linux(observed) => linux::plan_destroy(desired, observed),
        Observed::Illumos(observed) => illumos::plan_destroy(desired, observed),
        Observed::Smartos(observed) => smartos::plan_destroy(desired, observed),
    }
}

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// A zone of that name exists and is not ours.
    #[error("zone {zone} exists and was not made by zone-router; choose another name or remove it")]
    ForeignZone {
        /// Its name.
        zone: ZoneName,
    },
    /// A link of that name exists and is not ours.
    #[error("link {link} exists and was not made by zone-router")]
    ForeignLink {
        /// Its name.
        link: String,
    },
    /// Something else has the name of a bridge that is wanted.
    #[error("{link} exists and is not a bridge")]
    NotABridge {
        /// Its name.
        link: String,
    },
    /// Two links have one name.
    #[error("there are two links called {link}")]
    Twice {
        /// The name.
        link: LinkName,
    },
    /// A link is attached to an etherstub that is not declared.
    #[error(
        "link {link} is attached to etherstub {stub}, which is not one of the zone's etherstubs"
    )]
    NoSuchStub {
        /// The etherstub.
        stub: LinkName,
        /// The link.
        link: LinkName,
    },
    /// A link is attached to something that the host does not have.
    #[error("link {link} is attached to {lower}, which this host does not have")]
    NoSuchLink {
        /// The lower link.
        lower: HostLink,
        /// The link.
        link: LinkName,
    },
    /// A link cannot have a larger MTU than the one below.
    #[error("link {link} cannot have MTU {mtu}: the link below has {lower_mtu}")]
    Mtu {
        /// The link.
        link: LinkName,
        /// What is wanted.
        mtu: u16,
        /// What the lower link has.
        lower_mtu: u32,
    },
    /// The platform calls its links otherwise.
    #[error("link {link} must be called {wanted}: SmartOS names a zone's links in their order")]
    LinkName {
        /// The link.
        link: LinkName,
        /// What it will be called.
        wanted: String,
    },
    /// The host cannot run the service in this way.
    #[error("this host cannot run the service as {service:?}")]
    Service {
        /// The way.
        service: ServiceKind,
    },
    /// A path is not absolute, or has characters that a unit or command file cannot carry.
    #[error("{} is not an absolute path of plain characters", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A file is not where the service manifest expects it.
    #[error("{} has to be called .../{wanted}: the service manifest names it so", path.display())]
    Layout {
        /// The path.
        path: PathBuf,
        /// How it has to end.
        wanted: &'static str,
    },
    /// The zone is in the middle of something.
    #[error("zone {zone} is {state}; try again when it is done")]
    ZoneState {
        /// Its name.
        zone: ZoneName,
        /// Its state.
        state: String,
    },
}

#[cfg(test)]
mod fake;
