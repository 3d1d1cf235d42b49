//! The files in `zone-manifests/` are what the plans write, and what the platforms read.

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zone-manifests")
}

fn committed(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// With `ZONE_MANIFESTS_WRITE` set, writes the files instead; `git diff` then shows the change.
#[test]
fn committed_manifests_are_the_generated_ones() {
    for manifest in control::manifests().unwrap() {
        if std::env::var_os("ZONE_MANIFESTS_WRITE").is_some() {
            fs::write(folder().join(manifest.name), &manifest.contents).unwrap();
        }
        assert_eq!(committed(manifest.name), manifest.contents, "{}", manifest.name);
    }
}

/// Words of the zonecfg command language that open a scope, close it, or stand alone.
#[test]
fn zonecfg_scopes_are_closed_and_every_setting_is_one_word() {
    let text = committed("omnios.zonecfg");
    let mut scope: Option<&str> = None;
    for line in text.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("create", "-b") | ("verify" | "commit", "") => assert_eq!(scope, None, "{line}"),
            ("add", what @ ("net" | "fs" | "capped-memory" | "capped-cpu")) => {
                assert_eq!(scope.replace(what), None, "{line}")
            }
            ("add", what) => {
                assert_eq!((what.split(' ').next(), scope), (Some("options"), Some("fs")))
            }
            ("set", setting) => {
                let (name, value) = setting.split_once('=').unwrap();
                assert!(!name.contains(' ') && !value.contains([' ', ';', '=', '(', '[', '"']));
            }
            ("end", "") => assert!(scope.take().is_some()),
            other => panic!("{other:?}"),
        }
    }
    assert!(!text.contains("allowed-address"), "zoneadmd would turn it into link protection");
}

/// `vmadm` refuses unknown names at either level (properties of the brand `joyent-minimal`).
#[test]
fn the_vmadm_payload_has_only_properties_that_its_brand_knows() {
    const TOP: &[&str] = &[
        "alias",
        "autoboot",
        "cpu_cap",
        "brand",
        "customer_metadata",
        "filesystems",
        "firewall_enabled",
        "hostname",
        "image_uuid",
        "limit_priv",
        "max_locked_memory",
        "max_lwps",
        "max_physical_memory",
        "max_swap",
        "nics",
        "quota",
        "tags",
    ];
    const NIC: &[&str] = &[
        "allow_dhcp_spoofing",
        "allow_ip_spoofing",
        "interface",
        "ips",
        "mac",
        "mtu",
        "nic_tag",
        "primary",
        "vlan_id",
    ];
    let payload: serde_json::Value =
        serde_json::from_str(&committed("smartos.vmadm.json")).unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert!(keys(&payload).iter().all(|key| TOP.contains(&key.as_str())));
    for (index, nic) in payload["nics"].as_array().unwrap().iter().enumerate() {
        assert!(keys(nic).iter().all(|key| NIC.contains(&key.as_str())), "{nic}");
        assert_eq!(nic["interface"], format!("net{index}"));
        assert_eq!(nic["ips"], serde_json::json!([]), "the kernel must not plumb it");
    }
    assert!(payload["max_swap"].as_u64() >= payload["max_physical_memory"].as_u64());
}

/// The DTD of service bundles fixes the order of a service's parts.
#[test]
fn the_service_manifest_is_well_formed_and_in_order() {
    const ORDER: &[&str] = &[
        "create_default_instance",
        "single_instance",
        "dependency",
        "dependent",
        "exec_method",
        "property_group",
        "stability",
        "template",
    ];
    let text = committed("zone-router.xml");
    let (mut open, mut last) = (Vec::<String>::new(), 0);
    for tag in text.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
        if tag.starts_with(['?', '!']) {
            continue;
        }
        let name = tag.trim_matches('/').split_whitespace().next().unwrap().to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_ref(), Some(&name));
            continue;
        }
        if open.last().is_some_and(|parent| parent == "service") {
            let at =
                ORDER.iter().position(|part| *part == name).unwrap_or_else(|| panic!("{name}"));
            assert!(at >= last, "{name} comes too late");
            last = at;
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty());
    assert!(text.contains("exec=\"/opt/zone-router/bin/routerd --config %{config/file}\""));
    assert!(text.contains("value=\"/etc/zone-router/router.toml\""));
}
