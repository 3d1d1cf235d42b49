//! Plans for illumos and SmartOS hosts in several states, from what their commands print.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use config::{Brand, ZoneCaps};
use control::{
    Attachment, DesiredLink, DesiredZone, Host, Output, Plan, PlanError, Platform, ServiceKind,
    observe, plan, plan_destroy,
};

/// A host that answers the reading commands it was given, and has the files it was given.
#[derive(Default)]
struct Recorded {
    answers: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

impl Recorded {
    fn says(mut self, command: &str, answer: &str) -> Self {
        self.answers.insert(command.to_owned(), answer.to_owned());
        self
    }

    fn has(mut self, file: &str, contents: &str) -> Self {
        self.files.insert(file.to_owned(), contents.to_owned());
        self
    }
}

impl Host for Recorded {
    fn run(&mut self, argv: &[String]) -> io::Result<Output> {
        Ok(match self.answers.get(&argv.join(" ")) {
            Some(stdout) => {
                Output { status: Some(0), stdout: stdout.clone(), stderr: String::new() }
            }
            None => {
                Output { status: Some(1), stdout: String::new(), stderr: "not recorded\n".into() }
            }
        })
    }

    fn spawn(&mut self, argv: &[String], _: &Path, _: &Path) -> io::Result<()> {
        panic!("{argv:?}")
    }

    fn read(&mut self, path: &Path) -> io::Result<Option<String>> {
        Ok(self.files.get(path.to_str().unwrap()).cloned())
    }

    fn write(&mut self, path: &Path, _: &str) -> io::Result<()> {
        panic!("{}", path.display())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        panic!("{}", path.display())
    }

    fn has_folder(&mut self, _: &Path) -> bool {
        false
    }
}

const CAPS: ZoneCaps =
    ZoneCaps { memory_mib: 512, swap_mib: 1024, locked_mib: 256, cpu_percent: 150, quota_gib: 5 };

fn desired(platform: Platform, links: [&str; 2], nic: &str) -> DesiredZone {
    let over = [
        Attachment::Existing(nic.parse().unwrap()),
        Attachment::Etherstub("zrstub0".parse().unwrap()),
    ];
    let link = |(name, over): (&str, Attachment)| DesiredLink {
        name: name.parse().unwrap(),
        over,
        mac: None,
        mtu: 1500,
        vlan: None,
    };
    DesiredZone {
        name: "zr0".parse().unwrap(),
        platform,
        links: links.into_iter().zip(over).map(link).collect(),
        etherstubs: vec!["zrstub0".parse().unwrap()],
        binary: "/opt/zone-router/bin/routerd".into(),
        routerctl: "/opt/zone-router/bin/routerctl".into(),
        config: "/etc/zone-router/router.toml".into(),
        state: "/state".into(),
        service: ServiceKind::Smf,
        caps: CAPS,
    }
}

fn omnios() -> DesiredZone {
    let platform = Platform::Illumos { zones: "/zones".into(), brand: Brand::Sparse };
    desired(platform, ["wan0", "lan0"], "igb0")
}

fn smartos() -> DesiredZone {
    let image = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    let platform = Platform::Smartos { image, brand: Brand::JoyentMinimal };
    desired(platform, ["net0", "net1"], "external")
}

/// An OmniOS host on which everything but the zone is made.
fn omnios_host(zones: &str, vnics: &str) -> Recorded {
    Recorded::default()
        .says("dladm show-link -p -o LINK", "igb0\nzrstub0\nwan0\nlan0\n")
        .says("dladm show-etherstub -p -o LINK", "zrstub0\n")
        .says("dladm show-vnic -p -o LINK,OVER,MACADDRESS,VID", vnics)
        .says("zoneadm list -cp", zones)
        .has(
            "/state/zones/zr0.json",
            r#"{"zone":true,"links":["lan0","wan0","zrstub0"],"files":[]}"#,
        )
}

const VNICS: &str =
    "wan0:igb0:2\\:8\\:20\\:aa\\:bb\\:1:0\nlan0:zrstub0:2\\:8\\:20\\:3c\\:9\\:4f:0\n";
const GLOBAL: &str = "0:global:running:/::ipkg:shared:0\n";

fn omnios_zone(state: &str) -> String {
    format!("{GLOBAL}-:zr0:{state}:/zones/zr0:3f1d6d7e-6c5e-4b7e-9a70-0a2b5f4b1c11:sparse:excl:4\n")
}

fn commands(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.action.summary()).collect()
}

fn planned(desired: &DesiredZone, mut host: Recorded) -> Result<Plan, PlanError> {
    plan(desired, &observe(desired, &mut host).unwrap())
}

fn destroyed(desired: &DesiredZone, mut host: Recorded) -> Plan {
    plan_destroy(desired, &observe(desired, &mut host).unwrap()).unwrap()
}

#[test]
fn an_omnios_zone_goes_on_from_the_state_it_is_in() {
    let first =
        |zones: &str| commands(&planned(&omnios(), omnios_host(zones, VNICS)).unwrap())[0].clone();
    assert_eq!(first(GLOBAL), "write /state/zones/zr0.zonecfg");
    assert_eq!(first(&omnios_zone("configured")), "zoneadm -z zr0 verify");
    assert_eq!(first(&omnios_zone("incomplete")), "zoneadm -z zr0 uninstall -F");
    assert_eq!(first(&omnios_zone("installed")), "zoneadm -z zr0 boot");
    assert_eq!(
        first(&omnios_zone("running")),
        "zlogin zr0 svccfg import /opt/zone-router/lib/svc/manifest/zone-router.xml"
    );
    let busy = planned(&omnios(), omnios_host(&omnios_zone("shutting_down"), VNICS)).unwrap_err();
    assert_eq!(busy.to_string(), "zone zr0 is shutting_down; try again when it is done");
}

#[test]
fn a_running_omnios_zone_with_its_service_online_needs_nothing() {
    let host = omnios_host(&omnios_zone("running"), VNICS)
        .says("zlogin zr0 svcs -H -o state network/zone-router", "online\n");
    assert_eq!(commands(&planned(&omnios(), host).unwrap()), [""; 0]);
}

#[test]
fn a_service_in_maintenance_is_cleared_and_enabled() {
    let host = omnios_host(&omnios_zone("running"), VNICS)
        .says("zlogin zr0 svcs -H -o state network/zone-router", "maintenance\n");
    assert_eq!(
        commands(&planned(&omnios(), host).unwrap()),
        [
            "zlogin zr0 svcadm clear network/zone-router",
            "zlogin zr0 svcadm enable -s network/zone-router"
        ]
    );
}

#[test]
fn a_vnic_over_another_link_is_made_again() {
    let vnics = VNICS.replace("wan0:igb0", "wan0:igb1");
    let plan = planned(&omnios(), omnios_host(&omnios_zone("installed"), &vnics)).unwrap();
    assert_eq!(
        commands(&plan)[..2],
        ["dladm delete-vnic wan0", "dladm create-vnic -l igb0 -p mtu=1500 wan0"]
    );
}

#[test]
fn what_others_made_on_illumos_is_refused() {
    let mut host = omnios_host(GLOBAL, VNICS);
    host.files.clear();
    assert_eq!(
        planned(&omnios(), host).unwrap_err(),
        PlanError::ForeignLink { link: "wan0".into() }
    );
    let mut host = omnios_host(&omnios_zone("running"), VNICS);
    host.files.clear();
    let refused = planned(&omnios(), host).unwrap_err();
    assert_eq!(refused, PlanError::ForeignZone { zone: omnios().name });
}

#[test]
fn an_omnios_zone_is_destroyed_from_the_inside_out() {
    let plan = destroyed(&omnios(), omnios_host(&omnios_zone("running"), VNICS));
    assert_eq!(
        commands(&plan),
        [
            "sh -c 'zoneadm -z zr0 shutdown || zoneadm -z zr0 halt'",
            "zoneadm -z zr0 uninstall -F",
            "zonecfg -z zr0 delete -F",
            "dladm delete-vnic wan0",
            "dladm delete-vnic lan0",
            "dladm delete-etherstub zrstub0",
            "rm -f /state/zones/zr0.zonecfg",
            "rm -f /state/zones/zr0.json",
        ]
    );
}

#[test]
fn an_etherstub_with_a_vnic_of_another_zone_stays() {
    let vnics = format!("{VNICS}web0:zrstub0:2\\:8\\:20\\:1\\:1\\:1:0\n");
    let plan = destroyed(&omnios(), omnios_host(GLOBAL, &vnics));
    assert_eq!(plan.notes, ["etherstub zrstub0 stays: web0 is attached to it"]);
    assert_eq!(commands(&plan).last().unwrap(), "write /state/zones/zr0.json");
}

fn smartos_host(zones: &str, users: &str) -> Recorded {
    Recorded::default()
        .says(
            "nictagadm list -p -d ,",
            "admin,00:50:56:00:00:01,e1000g0,normal\nexternal,00:50:56:00:00:02,e1000g1,normal\n\
             zrstub0,-,-,etherstub\n",
        )
        .says("vmadm lookup nics.*.nic_tag=zrstub0", users)
        .says("vmadm lookup alias=zr0", zones)
        .says("imgadm get 00000000-0000-4000-8000-000000000000", "{}")
        .has("/state/zones/zr0.json", r#"{"zone":true,"links":["zrstub0"],"files":[]}"#)
}

#[test]
fn a_smartos_zone_that_runs_needs_nothing_and_one_that_is_missing_is_created() {
    assert_eq!(
        commands(&planned(&smartos(), smartos_host("uuid-1\n", "uuid-1\n")).unwrap()),
        [""; 0]
    );
    assert_eq!(
        commands(&planned(&smartos(), smartos_host("", "")).unwrap()),
        [
            "write /state/zones/zr0.vmadm.json",
            "vmadm validate create -f /state/zones/zr0.vmadm.json",
            "vmadm create -f /state/zones/zr0.vmadm.json",
        ]
    );
}

#[test]
fn a_smartos_zone_is_destroyed_and_its_etherstub_stays_for_others() {
    assert_eq!(
        commands(&destroyed(&smartos(), smartos_host("uuid-1\n", "uuid-1\n"))),
        [
            "vmadm delete uuid-1",
            "nictagadm delete zrstub0",
            "rm -f /state/zones/zr0.vmadm.json",
            "rm -f /state/zones/zr0.json",
        ]
    );
    let plan = destroyed(&smartos(), smartos_host("uuid-1\n", "uuid-1\nuuid-2\n"));
    assert_eq!(plan.notes, ["etherstub zrstub0 stays: zone uuid-2 is attached to it"]);
    assert_eq!(commands(&plan), ["vmadm delete uuid-1", "write /state/zones/zr0.json"]);
}

#[test]
fn smartos_refuses_links_that_it_would_call_otherwise_and_tags_that_it_lacks() {
    let mut wrong = smartos();
    wrong.links[0].name = "wan0".parse().unwrap();
    let error = planned(&wrong, smartos_host("", "")).unwrap_err();
    assert!(error.to_string().starts_with("link wan0 must be called net0"), "{error}");
    let mut wrong = smartos();
    wrong.links[0].over = Attachment::Existing("outside".parse().unwrap());
    let error = planned(&wrong, smartos_host("", "")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "link net0 is attached to outside, which this host does not have"
    );
}

#[test]
fn files_that_the_service_manifest_would_not_find_are_refused() {
    let mut wrong = omnios();
    wrong.config = "/etc/zone-router/home.toml".into();
    let error = planned(&wrong, omnios_host(GLOBAL, VNICS)).unwrap_err();
    assert!(error.to_string().contains("/router.toml"), "{error}");
    let mut wrong = omnios();
    wrong.service = ServiceKind::Systemd;
    let error = planned(&wrong, omnios_host(GLOBAL, VNICS)).unwrap_err();
    assert_eq!(error.to_string(), "this host cannot run the service as Systemd");
}
