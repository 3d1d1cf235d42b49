//! The lab builds what it says and leaves nothing behind. Needs root.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::time::Duration;

use lab::{Lab, wait_until};

#[test]
fn two_namespaces_reach_each_other_over_a_veth_pair() {
    let lab = Lab::new("t").unwrap();
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "left", "02:00:00:00:00:01"), (&b, "right")).unwrap();
    a.exec(["ip", "address", "add", "10.0.0.1/24", "dev", "left"]).unwrap();
    b.exec(["ip", "address", "add", "10.0.0.2/24", "dev", "right"]).unwrap();
    a.exec(["ping", "-c", "1", "-W", "2", "10.0.0.2"]).unwrap();
    let neighbours = b.exec(["ip", "neighbour"]).unwrap().stdout;
    assert!(neighbours.contains("02:00:00:00:00:01"), "{neighbours}");
}

#[test]
fn a_bridge_joins_its_ports() {
    let lab = Lab::new("t").unwrap();
    let (a, b, switch) = (
        lab.namespace("a").unwrap(),
        lab.namespace("b").unwrap(),
        lab.namespace("switch").unwrap(),
    );
    lab.veth((&a, "eth0"), (&switch, "p1")).unwrap();
    lab.veth((&b, "eth0"), (&switch, "p2")).unwrap();
    lab.bridge(&switch, "br0", &["p1", "p2"]).unwrap();
    a.exec(["ip", "address", "add", "10.0.0.1/24", "dev", "eth0"]).unwrap();
    b.exec(["ip", "address", "add", "10.0.0.2/24", "dev", "eth0"]).unwrap();
    a.exec(["ping", "-c", "1", "-W", "2", "10.0.0.2"]).unwrap();
}

#[test]
fn ipv6_is_off_in_a_namespace() {
    let lab = Lab::new("t").unwrap();
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "left"), (&b, "right")).unwrap();
    assert_eq!(a.exec(["ip", "-6", "address"]).unwrap().stdout, "");
}

#[test]
fn a_dropped_lab_leaves_no_namespace_and_no_process() {
    let lab = Lab::new("t").unwrap();
    let a = lab.namespace("a").unwrap();
    let name = a.name().to_owned();
    a.exec(["sh", "-c", "setsid sleep 300 & echo $!"]).unwrap();
    let pids = || std::process::Command::new("ip").args(["netns", "pids", &name]).output().unwrap();
    let pid = String::from_utf8(pids().stdout).unwrap().trim().to_owned();
    assert!(!pid.is_empty());
    drop(lab);
    assert!(!Path::new("/run/netns").join(&name).exists());
    assert!(!Path::new("/etc/netns").join(&name).exists());
    wait_until(Duration::from_secs(2), "the stray process ends", || !runs(&pid)).unwrap();
}

#[test]
fn a_panic_removes_the_lab() {
    let name = std::thread::spawn(|| {
        let lab = Lab::new("t").unwrap();
        let a = lab.namespace("a").unwrap();
        std::panic::panic_any(a.name().to_owned());
    })
    .join()
    .unwrap_err();
    let name: &String = name.downcast_ref().unwrap();
    assert!(!Path::new("/run/netns").join(name).exists());
}

#[test]
fn a_dropped_process_takes_its_children_along() {
    let lab = Lab::new("t").unwrap();
    let a = lab.namespace("a").unwrap();
    let process = a.spawn(["sh", "-c", "sleep 300 & echo $!; wait"]).unwrap();
    wait_until(Duration::from_secs(5), "the child is there", || process.log().ends_with('\n'))
        .unwrap();
    let child = process.log().trim().to_owned();
    assert!(runs(&child));
    drop(process);
    wait_until(Duration::from_secs(2), "the child ends", || !runs(&child)).unwrap();
}

#[test]
fn a_process_that_ignores_sigterm_is_killed() {
    let lab = Lab::new("t").unwrap();
    let a = lab.namespace("a").unwrap();
    let mut process = a.spawn(["sh", "-c", "trap '' TERM; echo ready; sleep 300"]).unwrap();
    wait_until(Duration::from_secs(5), "the trap is set", || process.log() == "ready\n").unwrap();
    process.terminate();
    assert!(!process.is_running());
}

#[test]
fn work_in_a_namespace_sees_its_links() {
    let lab = Lab::new("t").unwrap();
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "only-here"), (&b, "right")).unwrap();
    let links = a.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap().unwrap();
    assert!(links.contains("only-here"));
}

#[test]
fn what_a_killed_owner_left_is_removed_by_the_next_lab() {
    let mut owner = std::process::Command::new("true").spawn().unwrap();
    owner.wait().unwrap();
    let name = format!("zr-{}-0-left", owner.id());
    let add = std::process::Command::new("ip").args(["netns", "add", &name]).status().unwrap();
    assert!(add.success());
    let folder = std::env::temp_dir().join("zone-router-lab");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(&name), format!("{} 1\n{name}\n", owner.id())).unwrap();
    let _lab = Lab::new("t").unwrap();
    let gone = || !Path::new("/run/netns").join(&name).exists();
    wait_until(Duration::from_secs(5), "the leftover is removed", gone).unwrap();
}

/// Whether a process runs (a zombie does not).
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
