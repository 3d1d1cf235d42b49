//! The house's own peers work before any router of ours is in it. Needs root.

#![cfg(target_os = "linux")]

use std::path::Path;

use lab::house::{House, ISP, REMOTE, REMOTE_NAME, REMOTE_PAGE, Stub};

#[test]
fn the_isp_resolves_and_routes_to_the_remote_host() {
    let house = House::new("h").unwrap();
    let server = format!("@{ISP}");
    let answer = house.isp.exec(["dig", "+short", &server, REMOTE_NAME]).unwrap().stdout;
    assert_eq!(answer.trim(), REMOTE);
    let page = house.isp.exec(["curl", "-s", &format!("http://{REMOTE}/")]).unwrap().stdout;
    assert_eq!(page.trim(), REMOTE_PAGE);
}

#[test]
fn hosts_on_an_etherstub_and_the_zone_share_a_link() {
    let house = House::new("h").unwrap();
    house.attach_router().unwrap();
    let (a, b) = (
        house.lan_host("a", Stub::Home, None).unwrap(),
        house.lan_host("b", Stub::Home, None).unwrap(),
    );
    for (host, address) in [(&a, "10.0.0.7/24"), (&b, "10.0.0.8/24")] {
        host.exec(["ip", "address", "add", address, "dev", "eth0"]).unwrap();
    }
    house.router.exec(["ip", "address", "add", "10.0.0.1/24", "dev", "lan0"]).unwrap();
    for address in ["10.0.0.8", "10.0.0.1"] {
        a.exec(["ping", "-c", "1", "-W", "2", address]).unwrap();
    }
}

#[test]
fn a_dropped_house_leaves_no_file() {
    let house = House::new("h").unwrap();
    let folder = house.lab().folder();
    assert!(folder.is_dir());
    drop(house);
    assert!(!folder.exists());
    assert!(!Path::new(&folder.with_extension("")).exists());
}
