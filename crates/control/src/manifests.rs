//! Files for `zone-manifests/`: what the plans write, for one example each.

use std::path::PathBuf;

use config::{Brand, ZoneCaps, defaults};

use crate::{
    Attachment, DesiredLink, DesiredZone, Observed, PlanError, Platform, ServiceKind, illumos,
    linux, plan, smartos,
};

/// A generated file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Its name in `zone-manifests/`.
    pub name: &'static str,
    /// Its text.
    pub contents: String,
}

/// The generated files of `zone-manifests/`. All show the same router: the WAN on a NIC, one LAN on an
/// etherstub.
///
/// # Errors
/// If an example is not a zone that can be planned.
pub fn manifests() -> Result<Vec<Manifest>, PlanError> {
    let omnios = example(
        Platform::Illumos { zones: "/zones".into(), brand: Brand::Sparse },
        ["wan0", "lan0"],
        "igb0",
    );
    let image = "00000000-0000-4000-8000-000000000000".parse().expect("a UUID of zeros is one");
    let mut smart = example(
        Platform::Smartos { image, brand: Brand::JoyentMinimal },
        ["net0", "net1"],
        "external",
    );
    smart.binary = "/opt/custom/zone-router/bin/routerd".into();
    smart.routerctl = "/opt/custom/zone-router/bin/routerctl".into();
    smart.config = "/opt/custom/zone-router/etc/router.toml".into();
    smart.state = "/opt/custom/zone-router/state".into();
    let debian = example(Platform::Linux, ["wan0", "lan0"], "enp1s0");
    let [links_unit, service_unit] = linux::unit_texts(&debian);
    let manifest = |name, contents| Manifest { name, contents };
    Ok(vec![
        manifest("omnios.zonecfg", illumos::zonecfg(&omnios)?),
        manifest("omnios.sh", plan(&omnios, &Observed::fresh(&omnios))?.script()),
        manifest("smartos.vmadm.json", smartos::payload(&smart)?),
        manifest("smartos.sh", plan(&smart, &Observed::fresh(&smart))?.script()),
        manifest("zone-router-router-links.service", links_unit),
        manifest("zone-router-router.service", service_unit),
        manifest("linux.sh", plan(&debian, &Observed::fresh(&debian))?.script()),
    ])
}

/// What the example may use: the defaults of a configuration.
const CAPS: ZoneCaps = ZoneCaps {
    memory_mib: defaults::MEMORY_MIB,
    swap_mib: defaults::MEMORY_MIB * 2,
    locked_mib: defaults::MEMORY_MIB / 2,
    cpu_percent: defaults::CPU_PERCENT,
    quota_gib: defaults::QUOTA_GIB,
};

/// The example: names in order WAN, LAN.
pub(crate) fn example(platform: Platform, links: [&str; 2], nic: &str) -> DesiredZone {
    let service = match platform {
        Platform::Linux => ServiceKind::Systemd,
        Platform::Illumos { .. } | Platform::Smartos { .. } => ServiceKind::Smf,
    };
    let stub = || "zrstub0".parse().expect("a letter first, a number last");
    let over = [
        Attachment::Existing(nic.parse().expect("names of the examples are names")),
        Attachment::Etherstub(stub()),
    ];
    let link = |(name, over): (&str, Attachment)| DesiredLink {
        name: name.parse().expect("names of the examples are names"),
        over,
        mac: None,
        mtu: 1500,
        vlan: None,
    };
    DesiredZone {
        name: "router".parse().expect("letters"),
        platform,
        links: links.into_iter().zip(over).map(link).collect(),
        etherstubs: vec![stub()],
        binary: PathBuf::from("/opt/zone-router/bin/routerd"),
        routerctl: PathBuf::from("/opt/zone-router/bin/routerctl"),
        config: PathBuf::from("/etc/zone-router/router.toml"),
        state: PathBuf::from("/var/lib/zone-router"),
        service,
        caps: CAPS,
    }
}
