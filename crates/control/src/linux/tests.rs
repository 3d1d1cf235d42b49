use super::*;
use crate::fake::FakeHost;
use crate::{Host, ServiceKind, VlanId, apply, manifests};

/// WAN on a NIC, one LAN on an etherstub, one on a VLAN of a second etherstub.
fn desired() -> DesiredZone {
    let mut desired = manifests::example(crate::Platform::Linux, ["wan0", "lan0"], "eth1");
    desired.service = ServiceKind::Process;
    desired.etherstubs.push("zrstub1".parse().unwrap());
    desired.links.push(DesiredLink {
        name: "dmz0".parse().unwrap(),
        over: Attachment::Etherstub("zrstub1".parse().unwrap()),
        mac: Some("02:08:20:0a:0b:01".parse().unwrap()),
        mtu: 1400,
        vlan: VlanId::new(20),
    });
    desired
}

fn planned(desired: &DesiredZone, host: &mut FakeHost) -> Plan {
    let observed = observe(desired, host).unwrap();
    plan(desired, &observed).unwrap()
}

fn applied(desired: &DesiredZone) -> FakeHost {
    let mut host = FakeHost::with_nic("eth1");
    apply(&planned(desired, &mut host), &mut host).unwrap();
    host
}

fn destroy(desired: &DesiredZone, host: &mut FakeHost) -> Plan {
    let observed = observe(desired, host).unwrap();
    let plan = plan_destroy(desired, &observed).unwrap();
    apply(&plan, host).unwrap();
    plan
}

fn assert_settled(desired: &DesiredZone, host: &mut FakeHost) {
    let rest = planned(desired, host);
    assert_eq!(rest.steps, [], "drift is left");
}

#[test]
fn an_applied_zone_needs_nothing_more() {
    assert_settled(&desired(), &mut applied(&desired()));
}

#[test]
fn a_run_that_broke_off_anywhere_is_finished_by_the_next() {
    let steps = planned(&desired(), &mut FakeHost::with_nic("eth1")).steps.len();
    for broken in 0..steps {
        let mut host = FakeHost::with_nic("eth1");
        host.fail_after = Some(broken);
        let error = apply(&planned(&desired(), &mut host), &mut host).unwrap_err();
        assert_eq!(error.done, broken);
        host.fail_after = None;
        apply(&planned(&desired(), &mut host), &mut host).unwrap();
        assert_settled(&desired(), &mut host);
    }
}

#[test]
fn destroying_takes_back_everything_wherever_the_making_broke_off() {
    let before = FakeHost::with_nic("eth1").footprint();
    let steps = planned(&desired(), &mut FakeHost::with_nic("eth1")).steps.len();
    for broken in 0..=steps {
        let mut host = FakeHost::with_nic("eth1");
        host.fail_after = Some(broken);
        assert_eq!(apply(&planned(&desired(), &mut host), &mut host).is_ok(), broken == steps);
        host.fail_after = None;
        destroy(&desired(), &mut host);
        assert_eq!(host.footprint(), before, "broken off after {broken} steps");
        assert_eq!(destroy(&desired(), &mut host).steps, []);
    }
}

#[test]
fn a_destruction_that_broke_off_anywhere_is_finished_by_the_next() {
    let before = FakeHost::with_nic("eth1").footprint();
    let steps = destroy(&desired(), &mut applied(&desired())).steps.len();
    for broken in 0..steps {
        let mut host = applied(&desired());
        let observed = observe(&desired(), &mut host).unwrap();
        host.fail_after = Some(broken);
        apply(&plan_destroy(&desired(), &observed).unwrap(), &mut host).unwrap_err();
        host.fail_after = None;
        destroy(&desired(), &mut host);
        assert_eq!(host.footprint(), before, "broken off after {broken} steps");
    }
}

#[test]
fn a_failed_step_is_reported_with_command_status_and_words() {
    let mut host = FakeHost::with_nic("eth1");
    host.fail_after = Some(1);
    let error = apply(&planned(&desired(), &mut host), &mut host).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the zone exists: ip netns add router: exit status 2: \
         RTNETLINK answers: Operation not permitted"
    );
}

#[test]
fn each_link_that_disappears_is_made_again_and_nothing_else_is_touched() {
    let places = [
        (None, "router-lan0"),
        (None, "router-dmz0"),
        (Some("router"), "lan0"),
        (Some("router"), "wan0"),
    ];
    for (zone, name) in places {
        let mut host = applied(&desired());
        host.delete(zone, name);
        let plan = planned(&desired(), &mut host);
        assert!(plan.steps.iter().all(|step| !step.action.summary().contains(" del ")), "{name}");
        apply(&plan, &mut host).unwrap();
        assert_settled(&desired(), &mut host);
    }
}

#[test]
fn an_etherstub_that_disappears_is_made_again_with_its_ports() {
    let mut host = applied(&desired());
    host.delete(None, "zrstub0");
    let plan = planned(&desired(), &mut host);
    apply(&plan, &mut host).unwrap();
    assert!(plan.script().contains("ip link set dev router-lan0 master zrstub0"));
    assert_settled(&desired(), &mut host);
}

#[test]
fn changed_settings_of_a_link_are_put_right_one_by_one() {
    let mut host = applied(&desired());
    let words = "ip -n router link set dev lan0 address 02:00:00:00:00:99";
    let argv: Vec<String> = words.split(' ').map(str::to_owned).collect();
    host.run(&argv).unwrap();
    host.addresses.insert("wan0".into());
    let plan = planned(&desired(), &mut host);
    let summaries: Vec<String> = plan.steps.iter().map(|step| step.action.summary()).collect();
    assert_eq!(summaries.len(), 2, "{summaries:?}");
    assert_eq!(summaries[0], "ip -n router addr flush dev wan0");
    assert!(summaries[1].starts_with("ip -n router link set dev lan0 address 02:"));
}

#[test]
fn a_link_that_is_not_wanted_any_more_goes_and_the_record_with_it() {
    let mut host = applied(&desired());
    let mut smaller = desired();
    smaller.links.pop();
    smaller.etherstubs.pop();
    let plan = planned(&smaller, &mut host);
    apply(&plan, &mut host).unwrap();
    assert!(plan.script().contains("ip link del dev router-dmz0"));
    assert!(plan.script().contains("ip link del dev zrstub1"));
    assert_settled(&smaller, &mut host);
}

#[test]
fn a_service_that_died_is_started_and_one_with_other_arguments_is_replaced() {
    let mut host = applied(&desired());
    host.kill_all();
    host.files.retain(|path, _| !path.starts_with("/proc"));
    let plan = planned(&desired(), &mut host);
    assert!(plan.script().contains("setsid ip netns exec router /opt/zone-router/bin/routerd"));
    assert!(!plan.script().contains("kill"));
    apply(&plan, &mut host).unwrap();
    let mut other = desired();
    other.config = "/etc/zone-router/other.toml".into();
    let plan = planned(&other, &mut host);
    assert!(plan.script().contains("kill "), "{}", plan.script());
    apply(&plan, &mut host).unwrap();
    assert_settled(&other, &mut host);
}

#[test]
fn links_only_leaves_the_service_alone() {
    let mut host = applied(&desired());
    let mut links_only = desired();
    links_only.service = ServiceKind::None;
    assert_settled(&links_only, &mut host);
    host.kill_all();
    assert_settled(&links_only, &mut host);
}

#[test]
fn a_bridge_that_was_there_is_used_and_survives() {
    let mut host = FakeHost::with_nic("eth1");
    host.add("zrstub0", "bridge", None);
    let before = host.footprint();
    let plan = planned(&desired(), &mut host);
    assert_eq!(plan.notes.len(), 1);
    apply(&plan, &mut host).unwrap();
    assert_settled(&desired(), &mut host);
    destroy(&desired(), &mut host);
    assert_eq!(host.footprint(), before);
}

#[test]
fn an_etherstub_that_others_use_stays_until_they_are_gone() {
    let mut host = applied(&desired());
    host.add("web0", "veth", Some("zrstub0"));
    let plan = destroy(&desired(), &mut host);
    assert_eq!(plan.notes, ["etherstub zrstub0 stays: web0 is attached to it"]);
    assert_eq!(destroy(&desired(), &mut host).steps, []);
    host.delete(None, "web0");
    destroy(&desired(), &mut host);
    assert_eq!(host.footprint(), FakeHost::with_nic("eth1").footprint());
}

#[test]
fn what_others_made_is_refused_not_touched() {
    let refusal = |host: &mut FakeHost| {
        let observed = observe(&desired(), host).unwrap();
        plan(&desired(), &observed).unwrap_err()
    };
    let mut host = FakeHost::with_nic("eth1");
    host.run(&["ip", "netns", "add", "router"].map(str::to_owned)).unwrap();
    assert_eq!(refusal(&mut host), PlanError::ForeignZone { zone: desired().name });
    let mut host = FakeHost::with_nic("eth1");
    host.add("router-lan0", "veth", None);
    assert_eq!(refusal(&mut host), PlanError::ForeignLink { link: "router-lan0".into() });
    let mut host = FakeHost::with_nic("eth1");
    host.add("zrstub1", "veth", None);
    assert_eq!(refusal(&mut host), PlanError::NotABridge { link: "zrstub1".into() });
}

#[test]
fn what_cannot_succeed_is_refused_before_anything_is_done() {
    let refusal = |change: fn(&mut DesiredZone)| {
        let mut wrong = desired();
        change(&mut wrong);
        let observed = observe(&wrong, &mut FakeHost::with_nic("eth1")).unwrap();
        plan(&wrong, &observed).unwrap_err().to_string()
    };
    let no_nic = refusal(|zone| zone.links[0].over = Attachment::Existing("eth9".parse().unwrap()));
    assert_eq!(no_nic, "link wan0 is attached to eth9, which this host does not have");
    let mtu = refusal(|zone| zone.links[0].mtu = 9000);
    assert_eq!(mtu, "link wan0 cannot have MTU 9000: the link below has 1500");
    let stub = refusal(|zone| zone.etherstubs.clear());
    assert!(stub.contains("not one of the zone's etherstubs"), "{stub}");
    let twice = refusal(|zone| zone.links[1].name = "wan0".parse().unwrap());
    assert_eq!(twice, "there are two links called wan0");
    let path = refusal(|zone| zone.config = "router.toml".into());
    assert!(path.contains("not an absolute path"), "{path}");
    let systemd = refusal(|zone| zone.service = ServiceKind::Systemd);
    assert_eq!(systemd, "this host cannot run the service as Systemd");
}

#[test]
fn names_outside_fit_the_kernel_and_stay_apart() {
    let mut desired = desired();
    desired.name = "a-rather-long-zone".parse().unwrap();
    let names: BTreeSet<_> =
        desired.links.iter().map(|link| outside_name(&desired, link)).collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.len() <= NAME_BYTES_MAX && name.starts_with("a-rath-")));
}

#[test]
fn a_derived_mac_is_stable_and_differs_by_machine_zone_and_link() {
    let desired = desired();
    let mac = |machine: &str, link: usize| derived_mac(machine, &desired, &desired.links[link]);
    assert_eq!(mac("m", 0).to_string(), "02:28:70:34:43:f7");
    assert!(mac("m", 0).is_unicast());
    assert_ne!(mac("m", 0), mac("m", 1));
    assert_ne!(mac("m", 0), mac("n", 0));
}

#[test]
fn a_link_over_a_bridge_of_the_host_becomes_its_port() {
    let mut host = FakeHost::with_nic("eth1");
    host.add("br-home", "bridge", None);
    let mut bridged = desired();
    bridged.links[0].over = Attachment::Existing("br-home".parse().unwrap());
    let plan = planned(&bridged, &mut host);
    assert!(plan.script().contains("ip link set dev router-wan0 master br-home"));
    apply(&plan, &mut host).unwrap();
    assert_settled(&bridged, &mut host);
}

#[test]
fn an_etherstub_that_is_not_wanted_but_used_by_others_stays_without_unrest() {
    let mut host = applied(&desired());
    host.add("web0", "veth", Some("zrstub1"));
    let mut smaller = desired();
    smaller.links.pop();
    smaller.etherstubs.pop();
    let plan = planned(&smaller, &mut host);
    assert_eq!(plan.notes, ["etherstub zrstub1 stays: web0 is attached to it"]);
    apply(&plan, &mut host).unwrap();
    assert_settled(&smaller, &mut host);
    host.delete(None, "web0");
    destroy(&smaller, &mut host);
    assert_eq!(host.footprint(), FakeHost::with_nic("eth1").footprint());
}
