//! `routerd` in its zone: a background process, or a systemd unit.

use std::path::{Path, PathBuf};

use super::observe::Observed;
use crate::host::{Host, ObserveError, query, read};
use crate::record::{Record, file};
use crate::step::{Action, Plan};
use crate::{DesiredZone, PlanError, ServiceKind};

/// There while systemd runs the host (sd_booted(3)).
const SYSTEMD_RUNNING: &str = "/run/systemd/system";

/// Where an administrator's units live (systemd.unit(5)).
const UNITS: &str = "/etc/systemd/system";

/// Seconds that `routerd` has to give its lease back and stop, before it is killed.
const STOP_SECS: &str = "10";

/// Seconds after which a service that has not entered its zone did not start.
const START_SECS: &str = "5";

/// What runs now.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ServiceSeen {
    /// The background process, if its file names one that is ours.
    pub process: Option<ProcessSeen>,
    /// Whether systemd runs the host.
    pub systemd: bool,
    /// Texts of our units that exist, in the order of [`unit_paths`].
    pub units: Vec<Option<String>>,
    /// Whether the service unit starts at boot.
    pub is_enabled: bool,
    /// Whether it runs.
    pub is_active: bool,
}

/// A background process of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessSeen {
    /// Its id.
    pub pid: u32,
    /// Whether it runs what is wanted, in the zone that exists now.
    pub is_current: bool,
}

pub(super) fn observe(
    desired: &DesiredZone,
    zone_exists: bool,
    host: &mut dyn Host,
) -> Result<ServiceSeen, ObserveError> {
    let systemd = host.has_folder(Path::new(SYSTEMD_RUNNING));
    let mut units = Vec::new();
    for path in unit_paths(desired) {
        units.push(read(host, &path)?);
    }
    let mut ask = |verb: &str| {
        let argv = ["systemctl", verb, "--quiet", &service_unit(desired)].map(str::to_owned);
        // The exit status is the answer.
        systemd && host.run(&argv).is_ok_and(|output| output.is_success())
    };
    let (is_enabled, is_active) = (ask("is-enabled"), ask("is-active"));
    let process = observe_process(desired, zone_exists, host)?;
    Ok(ServiceSeen { process, systemd, units, is_enabled, is_active })
}

/// The process in the file, unless the id belongs to somebody else by now.
fn observe_process(
    desired: &DesiredZone,
    zone_exists: bool,
    host: &mut dyn Host,
) -> Result<Option<ProcessSeen>, ObserveError> {
    let Some(text) = read(host, &file(desired, "pid"))? else { return Ok(None) };
    let Ok(pid) = text.trim().parse::<u32>() else { return Ok(None) };
    let command = read(host, &PathBuf::from(format!("/proc/{pid}/cmdline")))?.unwrap_or_default();
    let words: Vec<&str> = command.split_terminator('\0').collect();
    let runs_ours = words.ends_with(&routerd(desired).each_ref().map(String::as_str));
    let in_zone = zone_exists && {
        let pids = query(host, &["ip", "netns", "pids", desired.name.as_str()])?;
        pids.lines().any(|line| line.trim() == pid.to_string())
    };
    let is_ours = runs_ours || (in_zone && !words.is_empty());
    Ok(is_ours.then_some(ProcessSeen { pid, is_current: runs_ours && in_zone }))
}

/// Files of the service outside the state folder.
pub(super) fn files(desired: &DesiredZone) -> Vec<PathBuf> {
    match desired.service {
        ServiceKind::Systemd => unit_paths(desired).to_vec(),
        ServiceKind::None | ServiceKind::Process | ServiceKind::Smf => Vec::new(),
    }
}

/// Stops what runs in the wrong place or with other arguments. Comes before the zone is touched.
pub(super) fn plan_stop_stale(desired: &DesiredZone, observed: &Observed, plan: &mut Plan) {
    let Some(process) = observed.service.process else { return };
    let is_wanted = match desired.service {
        ServiceKind::Process => process.is_current,
        ServiceKind::None => true,
        ServiceKind::Systemd | ServiceKind::Smf => false,
    };
    if !is_wanted {
        stop_process(desired, process.pid, plan);
    }
}

/// Starts what does not run. Comes after the zone is complete.
pub(super) fn plan_start(
    desired: &DesiredZone,
    observed: &Observed,
    plan: &mut Plan,
) -> Result<(), PlanError> {
    match desired.service {
        ServiceKind::None => {}
        ServiceKind::Process => start_process(desired, observed, plan),
        ServiceKind::Systemd => start_units(desired, observed, plan)?,
        ServiceKind::Smf => return Err(PlanError::Service { service: desired.service }),
    }
    Ok(())
}

/// Waits until the process of a pid file is in a zone, and then for as long as one needs that ends at once, because
/// its configuration or its links are wrong.
const STAYS_IN_ZONE: &str = r#"seen() { ip netns pids "$1" | grep -qx "$(cat "$2")"; }
until seen "$@"; do sleep 0.1; done; sleep 0.5; seen "$@""#;

fn start_process(desired: &DesiredZone, observed: &Observed, plan: &mut Plan) {
    if observed.service.process.is_some_and(|process| process.is_current) {
        return;
    }
    let (pid_file, log_file) = (file(desired, "pid"), file(desired, "log"));
    let zone = desired.name.as_str();
    let mut argv = ["setsid", "ip", "netns", "exec", zone].map(str::to_owned).to_vec();
    argv.extend(routerd(desired));
    let wait = [
        "timeout",
        START_SECS,
        "sh",
        "-c",
        STAYS_IN_ZONE,
        "wait",
        zone,
        &pid_file.to_string_lossy(),
    ]
    .map(str::to_owned);
    let reason = format!("routerd runs in the zone (its log: {})", log_file.display());
    plan.push("start routerd in the zone", Action::Spawn { argv, pid_file, log_file });
    plan.run(reason, wait);
}

fn stop_process(desired: &DesiredZone, pid: u32, plan: &mut Plan) {
    let stop = format!(
        "kill {pid} && timeout {STOP_SECS} tail --pid={pid} -f /dev/null || kill -KILL {pid}"
    );
    plan.run("stop routerd", ["sh", "-c", &stop]);
    plan.push("routerd is stopped", Action::Remove(file(desired, "pid")));
}

fn routerd(desired: &DesiredZone) -> [String; 3] {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    [text(&desired.binary), "--config".to_owned(), text(&desired.config)]
}

fn start_units(
    desired: &DesiredZone,
    observed: &Observed,
    plan: &mut Plan,
) -> Result<(), PlanError> {
    let seen = &observed.service;
    if !seen.systemd {
        return Err(PlanError::Service { service: desired.service });
    }
    let texts = unit_texts(desired);
    let mut is_changed = false;
    for (index, (path, contents)) in unit_paths(desired).into_iter().zip(texts).enumerate() {
        if seen.units.get(index).and_then(Option::as_ref) == Some(&contents) {
            continue;
        }
        is_changed = true;
        plan.push("the unit is as the zone needs it", Action::Write { path, contents });
    }
    let unit = service_unit(desired);
    if is_changed {
        plan.run("systemd reads the units", ["systemctl", "daemon-reload"]);
    }
    if !seen.is_enabled {
        let undo = ["systemctl", "disable", &unit];
        plan.run("routerd starts at boot", ["systemctl", "enable", &unit]).undo(undo);
    }
    if !seen.is_active {
        let undo = ["systemctl", "stop", &unit];
        plan.run("routerd runs", ["systemctl", "start", &unit]).undo(undo);
    } else if is_changed {
        plan.run("routerd runs by the new unit", ["systemctl", "restart", &unit]);
    }
    Ok(())
}

/// Stops the service and removes its units.
pub(super) fn plan_remove(
    desired: &DesiredZone,
    observed: &Observed,
    record: &Record,
    plan: &mut Plan,
) {
    if let Some(process) = observed.service.process {
        stop_process(desired, process.pid, plan);
    }
    let units: Vec<_> =
        unit_paths(desired).into_iter().filter(|path| record.files.contains(path)).collect();
    if units.is_empty() {
        return;
    }
    if observed.service.is_active || observed.service.is_enabled {
        let unit = service_unit(desired);
        plan.run("stop routerd for good", ["systemctl", "disable", "--now", &unit]);
    }
    for path in units {
        plan.push("the unit was ours", Action::Remove(path));
    }
    if observed.service.systemd {
        plan.run("systemd forgets the units", ["systemctl", "daemon-reload"]);
    }
}

fn service_unit(desired: &DesiredZone) -> String {
    format!("zone-router-{}.service", desired.name)
}

fn links_unit(desired: &DesiredZone) -> String {
    format!("zone-router-{}-links.service", desired.name)
}

/// Paths of the two units: links, then `routerd`.
fn unit_paths(desired: &DesiredZone) -> [PathBuf; 2] {
    [links_unit(desired), service_unit(desired)].map(|unit| Path::new(UNITS).join(unit))
}

/// Texts of the two units. Links are a unit of their own because `routerd`'s unit enters the zone,
/// which has to exist by then.
pub(crate) fn unit_texts(desired: &DesiredZone) -> [String; 2] {
    let DesiredZone { name, binary, routerctl, config, .. } = desired;
    let (service, links_name) = (service_unit(desired), links_unit(desired));
    let (binary, routerctl, config) = (binary.display(), routerctl.display(), config.display());
    let links = format!(
        "[Unit]\n\
         Description=Links of router zone {name}\n\
         Before={service}\n\
         After=network-pre.target systemd-udev-settle.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={routerctl} zone apply --service none --config {config}\n"
    );
    let service = format!(
        "[Unit]\n\
         Description=Router zone {name}\n\
         Requires={links_name}\n\
         After={links_name}\n\
         \n\
         [Service]\n\
         NetworkNamespacePath=/run/netns/{name}\n\
         ExecStart={binary} --config {config}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=always\n\
         RestartSec=1\n\
         CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_NICE\n\
         NoNewPrivileges=yes\n\
         ProtectSystem=full\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    );
    [links, service]
}
