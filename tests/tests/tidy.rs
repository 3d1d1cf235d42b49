//! What neither compiler nor clippy checks: which crate may know which, and what no file may contain.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Which of our crates each may depend on: the table of `crates/README.md`, whose words stand beside.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("packet", &[]),
    ("config", &["packet"]),
    ("flow-table", &[]),
    ("nat", &["packet", "flow-table"]),
    ("firewall", &["packet"]),
    ("qos", &["packet"]),
    ("forwarding", &["packet"]),
    ("dhcp", &["packet"]),
    ("dns", &["packet"]),
    // L0, L1
    ("pipeline", &["packet", "config", "flow-table", "nat", "firewall", "qos", "forwarding"]),
    ("local-stack", &["packet", "config", "forwarding", "dhcp", "dns"]),
    ("link", &["packet"]),
    ("store", &["packet", "dhcp"]),
    ("control", &["packet", "config"]),
    ("ctl-api", &["packet", "config"]),
    // all but control, lab, sim
    (
        "routerd",
        &[
            "packet",
            "config",
            "flow-table",
            "nat",
            "firewall",
            "qos",
            "forwarding",
            "dhcp",
            "dns",
            "pipeline",
            "local-stack",
            "link",
            "store",
            "ctl-api",
        ],
    ),
    ("routerctl", &["control", "ctl-api", "config", "packet"]),
    // packet, config, pipeline, link and L1
    (
        "replay",
        &[
            "packet",
            "config",
            "pipeline",
            "link",
            "flow-table",
            "nat",
            "firewall",
            "qos",
            "forwarding",
            "dhcp",
            "dns",
        ],
    ),
    // L0-L2, link
    (
        "sim",
        &[
            "packet",
            "config",
            "flow-table",
            "nat",
            "firewall",
            "qos",
            "forwarding",
            "dhcp",
            "dns",
            "pipeline",
            "local-stack",
            "link",
        ],
    ),
    ("lab", &[]),
    ("xtask", &["lab"]),
    ("tests", &["lab", "link", "packet"]),
    ("benches", &[]),
];

/// Crates for development: any crate's tests may use them.
const FOR_TESTS: &[&str] = &["sim", "lab"];

/// Packages that only drive tests: what they test, they may know.
const TEST_PACKAGES: &[&str] = &["tests", "benches"];

/// The packages that have to do real work, and where (`design.md` §3).
const REQUIRED: &[(&str, &[&str])] = &[
    ("pnet", &["link"]),
    ("smoltcp", &["local-stack"]),
    ("crossbeam", &["flow-table", "pipeline"]),
    ("bytes", &["local-stack"]),
    ("ipnet", &["config", "forwarding", "firewall"]),
    ("etherparse", &["sim"]),
    ("hashbrown", &["dhcp", "dns"]),
    ("criterion", &["benches"]),
    ("tracing", &["routerd", "link", "local-stack"]),
];

/// Crates that may contain `unsafe`.
const MAY_BE_UNSAFE: &[&str] = &["flow-table", "link", "store"];

/// What the root holds besides files that begin with a dot.
const ROOT: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "crates",
    "benches",
    "zone-manifests",
    "tests",
];

/// What the root may hold besides: `fuzz` is a workspace of its own.
const ROOT_OPTIONAL: &[&str] = &["fuzz", "target"];

/// What the root has to hold among the files that begin with a dot.
const ROOT_HIDDEN: &[&str] = &[".clippy.toml", ".rustfmt.toml", ".cargo/config.toml", ".ci/run"];

/// Longest file, in lines.
const LINES_MAX: usize = 800;

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo knows the workspace")
}

fn root() -> PathBuf {
    metadata().workspace_root.into_std_path_buf()
}

fn folder(package: &Package) -> &Path {
    package.manifest_path.as_std_path().parent().expect("a manifest is in a folder")
}

/// Every file below `folder` with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of the repository").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every source file of the workspace with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let paths = packages.iter().flat_map(|package| files(folder(package), "rs"));
    paths.map(|path| (path.clone(), fs::read_to_string(path).expect("source is UTF-8"))).collect()
}

#[test]
fn crates_depend_only_on_what_the_table_allows() {
    let metadata = metadata();
    let ours: Vec<_> = metadata.workspace_packages();
    let is_ours = |name: &str| ours.iter().any(|package| package.name.as_str() == name);
    let mut wrong = Vec::new();
    for package in &ours {
        let name = package.name.as_str();
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(listed, _)| *listed == name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| is_ours(&dependency.name))
        {
            let in_tests = dependency.kind == DependencyKind::Development
                && FOR_TESTS.contains(&&*dependency.name);
            let drives = TEST_PACKAGES.contains(&name);
            if !in_tests && !drives && !allowed.contains(&&*dependency.name) {
                wrong.push(format!("{name} must not depend on {}", dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_has_a_row_in_the_architecture_page() {
    let page = fs::read_to_string(root().join("crates/README.md")).expect("the page is there");
    for (name, _) in MAY_DEPEND_ON.iter().filter(|(name, _)| !TEST_PACKAGES.contains(name)) {
        assert!(page.contains(&format!("\n| {name} | ")), "{name} has no row in crates/README.md");
    }
}

#[test]
fn the_required_packages_are_used_where_the_design_says() {
    let metadata = metadata();
    for (required, users) in REQUIRED {
        for user in *users {
            let package = metadata.packages.iter().find(|package| package.name.as_str() == *user);
            let package = package.unwrap_or_else(|| panic!("there is no crate {user}"));
            let depends = package.dependencies.iter().any(|dependency| {
                dependency.name == *required && dependency.kind == DependencyKind::Normal
            });
            assert!(depends, "{user} does not depend on {required}");
            let is_used = files(folder(package), "rs").iter().any(|path| {
                let text = fs::read_to_string(path).expect("source is UTF-8");
                text.contains(&format!("{required}::"))
            });
            assert!(is_used, "{user} depends on {required} but does not use it");
        }
    }
}

#[test]
fn only_three_crates_may_be_unsafe() {
    let root_manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the root manifest");
    assert!(root_manifest.contains("unsafe_code = \"forbid\""));
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).expect("a manifest");
        let follows = manifest.contains("[lints]\nworkspace = true");
        let may = MAY_BE_UNSAFE.contains(&package.name.as_str());
        assert!(follows != may, "{}: [lints] workspace = true, unless it is unsafe", package.name);
    }
}

#[test]
fn nothing_is_unfinished_and_no_test_is_ignored() {
    // Put together here, so that this file does not contain them.
    let words = ["todo", "unimplemented"].map(|word| format!("{word}!"));
    let ignore = format!("#[{}", "ignore");
    for (path, text) in sources() {
        for word in words.iter().chain([&ignore]) {
            assert!(!text.contains(word.as_str()), "{} contains {word}", path.display());
        }
    }
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn every_crate_opens_with_its_theory_of_operation() {
    for package in metadata().workspace_packages() {
        for target in &package.targets {
            let text = fs::read_to_string(&target.src_path).expect("source is UTF-8");
            assert!(text.starts_with("//! "), "{} opens without a word", target.src_path);
        }
    }
}

#[test]
fn the_root_holds_what_it_has_to_and_nothing_else() {
    let root = root();
    for name in ROOT.iter().chain(ROOT_HIDDEN) {
        assert!(root.join(name).exists(), "{name} is missing");
    }
    for entry in fs::read_dir(&root).expect("the root") {
        let name = entry.expect("an entry of the root").file_name().into_string();
        let name = name.expect("names are UTF-8");
        let is_known = ROOT.contains(&&*name) || ROOT_OPTIONAL.contains(&&*name);
        assert!(is_known || name.starts_with('.'), "{name} does not belong into the root");
    }
}
