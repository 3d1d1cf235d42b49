//! `zone` and `config check`: what needs this host and a file, but no running router.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use config::{Brand, Config};
use control::{
    Attachment, DesiredLink, DesiredZone, LocalHost, Observed, Plan, Platform, ServiceKind, VlanId,
    apply_watched, observe, plan, plan_destroy,
};
use serde::Serialize;

use crate::args::{PlatformWord, ServiceWord, ZoneArgs, ZoneVerb};
use crate::ask::json;
use crate::print;

/// There while systemd runs the host (sd_booted(3)).
const SYSTEMD_RUNNING: &str = "/run/systemd/system";

/// Carries out a verb of `zone`.
pub(crate) fn run(verb: &ZoneVerb, is_json: bool) -> anyhow::Result<()> {
    match verb {
        ZoneVerb::Plan { zone, script } => {
            let desired = desired(zone)?;
            let plan = plan(&desired, &seen_or_fresh(&desired)?)?;
            match (script, is_json) {
                (true, _) => print(&plan.script()),
                (_, true) => print(&json(&plan)?),
                _ => print(&describe(&plan)),
            }
        }
        ZoneVerb::Apply { zone } => {
            let desired = desired(zone)?;
            warn_of_private_mounts();
            let mut host = LocalHost::new();
            let plan = plan(&desired, &observe(&desired, &mut host)?)?;
            carry_out(&plan, &mut host, is_json)?;
            settle(&desired, &mut host)
        }
        ZoneVerb::Destroy { zone } => {
            let desired = desired(zone)?;
            let mut host = LocalHost::new();
            let plan = plan_destroy(&desired, &observe(&desired, &mut host)?)?;
            carry_out(&plan, &mut host, is_json)
        }
        ZoneVerb::Show { zone } => {
            let desired = desired(zone)?;
            let observed = observe(&desired, &mut LocalHost::new())?;
            let shown = Shown::new(&desired, &plan(&desired, &observed)?);
            print(&if is_json { json(&shown)? } else { shown.text() })
        }
    }
}

/// Validates a configuration file.
pub(crate) fn check(file: &Path, is_json: bool) -> anyhow::Result<String> {
    load(file)?;
    if is_json {
        return json(&ctl_api::ConfigReport { valid: true, problems: Vec::new() });
    }
    Ok(format!("{} is valid\n", file.display()))
}

fn load(file: &Path) -> anyhow::Result<Config> {
    config::load(file).map_err(|error| anyhow::anyhow!("{}", error.lines().join("\n")))
}

/// Warns where a network namespace that we make would be lost: mounts of a process with a mount
/// namespace of its own, such as every one below `ip netns exec`, are not seen by others.
fn warn_of_private_mounts() {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    if let (Some(ours), Some(first)) = (namespace("self"), namespace("1"))
        && ours != first
    {
        eprintln!(
            "routerctl: this process has mounts of its own, so others may not see the zone's \
             namespace; to work inside a network namespace, enter it by \
             `nsenter --net=/run/netns/NAME`, not by `ip netns exec`"
        );
    }
}

/// The state of this host; or of a fresh one, if the platform is not this one's.
fn seen_or_fresh(desired: &DesiredZone) -> anyhow::Result<Observed> {
    let is_here = matches!(desired.platform, Platform::Linux) == cfg!(target_os = "linux");
    if is_here {
        return Ok(observe(desired, &mut LocalHost::new())?);
    }
    eprintln!("routerctl: this host is of another platform; the plan is for a fresh one");
    Ok(Observed::fresh(desired))
}

fn carry_out(plan: &Plan, host: &mut LocalHost, is_json: bool) -> anyhow::Result<()> {
    let applied = apply_watched(plan, host, |step| eprintln!("{}", step.reason));
    if let Err(error) = applied {
        let undo = plan.steps[..error.done].iter().rev().filter_map(|step| step.undo.as_ref());
        let lines: Vec<String> = undo.map(|argv| format!("  {}", argv.join(" "))).collect();
        eprintln!(
            "routerctl: {} of {} steps are done; run it again to go on",
            error.done,
            plan.steps.len()
        );
        if !lines.is_empty() {
            eprintln!("routerctl: to take them back instead:\n{}", lines.join("\n"));
        }
        return Err(error.into());
    }
    let text = match (is_json, plan.steps.len()) {
        (true, _) => json(plan)?,
        (false, 0) => format!("{}nothing to do\n", notes(plan)),
        (false, steps) => format!("{}{steps} steps done\n", notes(plan)),
    };
    print(&text)
}

/// Checks that nothing is left to do.
fn settle(desired: &DesiredZone, host: &mut LocalHost) -> anyhow::Result<()> {
    let rest = plan(desired, &observe(desired, host)?)?;
    match rest.steps.first() {
        None => Ok(()),
        Some(step) => bail!("done, but not as wanted: {} ({})", step.reason, step.action.summary()),
    }
}

fn notes(plan: &Plan) -> String {
    plan.notes.iter().map(|note| format!("note: {note}\n")).collect()
}

/// A plan for people.
fn describe(plan: &Plan) -> String {
    let mut text = notes(plan);
    if plan.steps.is_empty() {
        text.push_str("nothing to do\n");
    }
    for (index, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!(
            "{:>3}. {}\n     {}\n",
            index + 1,
            step.reason,
            step.action.summary()
        ));
    }
    text
}

/// What `zone show` prints.
#[derive(Serialize)]
struct Shown {
    name: String,
    links: Vec<ShownLink>,
    /// Whether everything is as wanted.
    settled: bool,
    /// What is not, as the reasons of the steps that would mend it.
    drift: Vec<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct ShownLink {
    name: String,
    over: String,
    mtu: u16,
    vlan: Option<u16>,
}

impl Shown {
    fn new(desired: &DesiredZone, plan: &Plan) -> Self {
        let link = |link: &DesiredLink| ShownLink {
            name: link.name.to_string(),
            over: link.over.to_string(),
            mtu: link.mtu,
            vlan: link.vlan.map(VlanId::number),
        };
        Self {
            name: desired.name.to_string(),
            links: desired.links.iter().map(link).collect(),
            settled: plan.steps.is_empty(),
            drift: plan.steps.iter().map(|step| step.reason.clone()).collect(),
            notes: plan.notes.clone(),
        }
    }

    fn text(&self) -> String {
        let mut table = crate::table::Table::new(&["LINK", "OVER", ">MTU", ">VLAN"]);
        for link in &self.links {
            let vlan = crate::table::known(link.vlan);
            table.row([link.name.clone(), link.over.clone(), link.mtu.to_string(), vlan]);
        }
        let mut text = format!("zone {}\n\n{}\n", self.name, table.render());
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        if self.settled {
            text.push_str("as wanted\n");
        } else {
            text.push_str("not as wanted (routerctl zone apply mends it):\n");
        }
        for reason in &self.drift {
            text.push_str(&format!("  {reason}\n"));
        }
        text
    }
}

/// What the configuration and the command line ask for.
fn desired(args: &ZoneArgs) -> anyhow::Result<DesiredZone> {
    let config = load(&args.config)?;
    let file = std::path::absolute(&args.config).context("find the configuration's folder")?;
    convert(&config, file, args, Path::new(SYSTEMD_RUNNING).is_dir())
}

fn convert(
    config: &Config,
    file: PathBuf,
    args: &ZoneArgs,
    has_systemd: bool,
) -> anyhow::Result<DesiredZone> {
    let zone = config.zone.as_ref().context("the configuration has no [zone]")?;
    let platform = platform(zone, args.platform)?;
    let links: Vec<DesiredLink> =
        zone.links.iter().map(|link| desired_link(zone, link)).collect::<anyhow::Result<_>>()?;
    let etherstubs = zone.etherstubs.iter().map(|stub| stub.parse()).collect::<Result<_, _>>()?;
    let service = match (args.service, &platform) {
        (Some(ServiceWord::None), _) => ServiceKind::None,
        (Some(ServiceWord::Process), _) => ServiceKind::Process,
        (Some(ServiceWord::Systemd), _) => ServiceKind::Systemd,
        (Some(ServiceWord::Smf), _) => ServiceKind::Smf,
        (None, Platform::Linux) if has_systemd => ServiceKind::Systemd,
        (None, Platform::Linux) => ServiceKind::Process,
        (None, Platform::Illumos { .. } | Platform::Smartos { .. }) => ServiceKind::Smf,
    };
    let programs = programs(zone, &platform)?;
    let state = match platform {
        // The configuration's folder is the zone's own; outside, only `/opt` outlives a restart.
        Platform::Smartos { .. } => zone.install.join("state"),
        Platform::Linux | Platform::Illumos { .. } => config.control.state.clone(),
    };
    Ok(DesiredZone {
        name: zone.name.parse()?,
        platform,
        links,
        etherstubs,
        binary: programs.join("routerd"),
        routerctl: programs.join("routerctl"),
        config: file,
        state,
        service,
        caps: zone.caps,
    })
}

/// Where `routerd` is on the host: in the folder that the zone mounts; on Linux, where the zone shares
/// the host's files, beside ourselves.
fn programs(zone: &config::Zone, platform: &Platform) -> anyhow::Result<PathBuf> {
    if !matches!(platform, Platform::Linux) {
        return Ok(zone.install.join("bin"));
    }
    let ours = std::env::current_exe().context("find our own program")?;
    Ok(ours.parent().unwrap_or(Path::new("/")).to_owned())
}

fn platform(zone: &config::Zone, word: Option<PlatformWord>) -> anyhow::Result<Platform> {
    let platform = match word {
        None => zone.platform,
        Some(PlatformWord::Linux) => config::Platform::Linux,
        Some(PlatformWord::Illumos) => config::Platform::Illumos,
        Some(PlatformWord::Smartos) => config::Platform::Smartos,
    };
    let brand = zone.brand.filter(|brand| brand.platform() == platform);
    Ok(match platform {
        config::Platform::Linux => Platform::Linux,
        config::Platform::Illumos => {
            Platform::Illumos { zones: zone.path.clone(), brand: brand.unwrap_or(Brand::Sparse) }
        }
        config::Platform::Smartos => {
            let image = zone.image_uuid.as_ref();
            let image =
                image.context("SmartOS makes a zone from an image: write zone.image_uuid")?;
            Platform::Smartos {
                image: image.parse()?,
                brand: brand.unwrap_or(Brand::JoyentMinimal),
            }
        }
    })
}

fn desired_link(zone: &config::Zone, link: &config::ZoneLink) -> anyhow::Result<DesiredLink> {
    let over = if zone.is_etherstub(&link.over) {
        Attachment::Etherstub(link.over.parse()?)
    } else {
        Attachment::Existing(link.over.parse()?)
    };
    let vlan = link.vlan.map(|number| {
        VlanId::new(number).with_context(|| format!("{number} is not a VLAN (1 to 4094)"))
    });
    Ok(DesiredLink {
        name: link.name.parse()?,
        over,
        mac: link.mac,
        mtu: link.mtu,
        vlan: vlan.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str) -> (PathBuf, Config) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zone-manifests").join(name);
        let config = load(&file).unwrap();
        (file, config)
    }

    fn args(platform: Option<PlatformWord>, service: Option<ServiceWord>) -> ZoneArgs {
        ZoneArgs { config: PathBuf::new(), platform, service }
    }

    /// The steps for the example, with the paths that the committed plans show.
    fn script(name: &str, platform: Option<PlatformWord>, config: &str) -> String {
        let (_, example) = example(name);
        let mut desired = convert(&example, config.into(), &args(platform, None), true).unwrap();
        if matches!(desired.platform, Platform::Linux) {
            desired.binary = "/opt/zone-router/bin/routerd".into();
            desired.routerctl = "/opt/zone-router/bin/routerctl".into();
        }
        plan(&desired, &Observed::fresh(&desired)).unwrap().script()
    }

    fn committed(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zone-manifests");
        std::fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn the_example_configurations_ask_for_the_committed_zones() {
        let etc = "/etc/zone-router/router.toml";
        assert_eq!(script("router.toml", None, etc), committed("linux.sh"));
        let custom = "/opt/custom/zone-router/etc/router.toml";
        let smartos = script("router-smartos.toml", None, custom);
        assert_eq!(smartos, committed("smartos.sh"));
        let omnios = script("router.toml", Some(PlatformWord::Illumos), etc);
        assert_eq!(omnios.replace("enp1s0", "igb0"), committed("omnios.sh"));
    }

    #[test]
    fn without_a_word_the_service_is_what_the_host_has() {
        let (file, config) = example("router.toml");
        let service = |word, has_systemd| {
            convert(&config, file.clone(), &args(None, word), has_systemd).unwrap().service
        };
        assert_eq!(service(None, true), ServiceKind::Systemd);
        assert_eq!(service(None, false), ServiceKind::Process);
        assert_eq!(service(Some(ServiceWord::None), true), ServiceKind::None);
    }

    #[test]
    fn smartos_without_an_image_is_told_to_name_one() {
        let (file, config) = example("router.toml");
        let args = args(Some(PlatformWord::Smartos), None);
        let error = convert(&config, file, &args, false).unwrap_err();
        assert_eq!(error.to_string(), "SmartOS makes a zone from an image: write zone.image_uuid");
    }

    #[test]
    fn a_plan_for_people_counts_its_steps() {
        assert_eq!(describe(&Plan::default()), "nothing to do\n");
        let (file, config) = example("router.toml");
        let desired = convert(&config, file, &args(None, Some(ServiceWord::None)), false).unwrap();
        let text = describe(&plan(&desired, &Observed::fresh(&desired)).unwrap());
        assert!(text.contains("  2. the zone exists\n     ip netns add router\n"), "{text}");
    }
}
