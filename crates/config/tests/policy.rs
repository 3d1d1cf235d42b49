//! `[policy]`, and what forwards and the WAN say about addresses: what a file may ask for, and how each slip is
//! reported.
//!
//! `# HERE` marks the line that the report must name.

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use config::{
    Action, AddressTerm, Bogons, Config, Fault, Forward, ForwardHost, Hairpinning, Logging, Rule,
    RuleEnd, RuleProtocol, parse,
};
use support::refused;

const HOUSE: &str = r#"
[wan]
link = "wan0"
[[lan]]
name = "home"
link = "lan0"
address = "10.0.0.1/24"
[lan.dhcp]
pool = "10.0.0.100-10.0.0.199"
[[lan.dhcp.reservation]]
mac = "02:08:20:0a:0b:01"
address = "10.0.0.5"
name = "web"
[[lan]]
name = "guest"
link = "lan1"
address = "10.0.1.1/24"
[[dns.host]]
name = "printer"
address = "10.0.0.9"
"#;

const SETS: &str = r#"
[policy.set]
office = ["203.0.113.0/24", "198.51.100.7-198.51.100.9"]
friends = ["@office", "web", "192.0.2.1"]
"#;

fn house(tail: &str) -> String {
    format!("{HOUSE}{tail}\n")
}

fn rule(lines: &str) -> String {
    house(&format!("{SETS}[[policy.rule]]\naction = \"refuse\"\n{lines}"))
}

fn read(text: &str) -> Config {
    parse("router.toml", text).unwrap_or_else(|error| panic!("{}", error.lines().join("\n")))
}

fn one_rule(lines: &str) -> Rule {
    let mut rules = read(&rule(lines)).policy.rules;
    assert_eq!(rules.len(), 1);
    rules.remove(0)
}

#[test]
fn a_rule_with_every_condition_means_what_it_says() {
    let file = house(&format!(
        r#"
[policy]
utc_offset = "+01:00"
[[policy.zone]]
name = "inside"
lans = ["home", "guest"]
{SETS}
[[policy.rule]]
name = "calls"
action = "allow"
from = "wan"
to = "inside"
protocol = "udp"
port = [5060, "10000-20000"]
source_port = 5060
source = ["@friends", "10.9.0.0/16"]
destination = "web"
dscp = ["ef", 8]
schedule = "mon-fri 08:00-17:00"
rate = "20/s"
burst = 40
log = true
"#
    ));
    let config = read(&file);
    assert_eq!(config.policy.utc_offset.to_string(), "+01:00");
    assert!(config.policy.is_scheduled());
    let rule = &config.policy.rules[0];
    assert_eq!((rule.name.as_deref(), rule.action), (Some("calls"), Action::Allow));
    let when = &rule.when;
    assert_eq!((&when.from, &when.to), (&RuleEnd::Wan, &RuleEnd::Zone("inside".to_owned())));
    assert_eq!(when.protocol, RuleProtocol::UDP);
    assert_eq!(
        (&when.ports[..], &when.source_ports[..]),
        (&[5060..=5060, 10000..=20000][..], &[5060..=5060][..])
    );
    assert_eq!(when.destination, [AddressTerm::Name("web".to_owned())]);
    assert_eq!(when.dscp, [46, 8]);
    let rate = rule.rate.unwrap();
    assert_eq!((rate.flows, rate.per, rate.burst), (20, Duration::from_secs(1), 40));
    assert_eq!(rule.logging, Logging::On);
}

#[test]
fn what_a_rule_leaves_out_matches_everything() {
    let expected =
        Rule::between(Action::Refuse, RuleEnd::Lan("home".to_owned()), RuleEnd::Anywhere);
    assert_eq!(one_rule("from = \"home\""), expected);
    let any = "from = \"home\"\nto = \"anywhere\"\nprotocol = \"any\"\nlog = false";
    assert_eq!(one_rule(any), expected);
}

#[test]
fn sets_and_names_resolve_to_addresses() {
    let config = read(&house(SETS));
    let friends = [AddressTerm::Set("friends".to_owned()), AddressTerm::Name("printer".to_owned())];
    let set = config.addresses(&friends);
    for (address, expected) in [
        ([203, 0, 113, 200], true),
        ([198, 51, 100, 6], false),
        ([198, 51, 100, 7], true),
        ([198, 51, 100, 10], false),
        ([192, 0, 2, 1], true),
        ([10, 0, 0, 5], true),
        ([10, 0, 0, 9], true),
        ([10, 0, 0, 6], false),
    ] {
        assert_eq!(set.contains(Ipv4Addr::from(address)), expected, "{address:?}");
    }
}

#[test]
fn a_rule_names_ends_that_exist() {
    for end in ["guest", "wan", "router", "anywhere"] {
        assert!(parse("x", &rule(&format!("from = \"home\"\nto = \"{end}\""))).is_ok(), "{end}");
    }
    refused(&rule("from = \"gest\" # HERE"), "`gest` is no LAN and no zone", "mean `guest`?");
    refused(&rule("from = \"guest\"\nto = \"dmz\" # HERE"), "`dmz` is no LAN", "`router`");
    refused(&rule("from = \"wan\"\nto = \"wan\" # HERE"), "never leaves by the WAN", "a LAN");
    refused(
        &rule("from = \"router\"\nto = \"home\" # HERE"),
        "no flows of its own",
        "to = \"wan\"",
    );
    assert!(parse("x", &rule("from = \"router\"\nto = \"wan\"")).is_ok());
}

#[test]
fn a_zone_has_a_name_of_its_own_and_lans_that_exist() {
    let zone = |lines: &str| house(&format!("[[policy.zone]]\n{lines}"));
    refused(
        &zone("name = \"inside\"\nlans = [\"hme\"] # HERE"),
        "no LAN named `hme`",
        "mean `home`?",
    );
    refused(
        &zone("name = \"home\" # HERE\nlans = [\"guest\"]"),
        "the name `home` is taken",
        "of its own",
    );
    let twice =
        "name = \"a\"\nlans = [\"home\"]\n[[policy.zone]]\nname = \"a\" # HERE\nlans = [\"guest\"]";
    refused(&zone(twice), "the name `a` is taken", "of its own");
    refused(&zone("name = \"wan\" # HERE\nlans = [\"home\"]"), "not a name", "`wan`");
    refused(&zone("name = \"a\"\nlans = [] # HERE"), "empty list", "leave `lans` out");
    let without = house("[[policy.zone]] # HERE\nname = \"a\"");
    refused(&without, "lacks `lans`", "lans = [");
}

#[test]
fn sets_are_lists_without_loops_of_things_that_exist() {
    let set = |lines: &str| house(&format!("[policy.set]\n{lines}"));
    refused(
        &set("a = [\"@branches\"] # HERE"),
        "no set of `[policy.set]` is named `branches`",
        "add `branches = [",
    );
    refused(&set("office = [\"@ofice\"] # HERE"), "named `ofice`", "did you mean `@office`?");
    refused(&set("a = [\"nobody\"] # HERE"), "is named `nobody`", "reserve `nobody`");
    refused(&set("a = [\"wbe\"] # HERE"), "is named `wbe`", "did you mean `web`?");
    refused(&set("a = [] # HERE"), "`a` is an empty list", "name something");
    refused(&set("a = \"10.0.0.0/24\" # HERE"), "must be a list of texts", "a = [");
    refused(&set("a = [5] # HERE"), "must be a list of texts", "a = [");
    refused(&set("a = [\"a b\"] # HERE"), "neither addresses nor a name", "`10.0.0.0/24`");
    refused(&set("wan = [\"10.0.0.1\"] # HERE"), "not a name", "`wan`");
    refused(&set("a = [\"@a\"] # HERE"), "the set `a` contains itself", "take `@a` out");
    let error =
        parse("x", &set("a = [\"@b\"]\nb = [\"@c\"]\nc = [\"@b\", \"10.0.0.1\"]")).unwrap_err();
    let named: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(named[0].contains("the set `b`") && named[1].contains("the set `c`"), "{named:?}");
}

#[test]
fn a_rule_names_hosts_and_sets_that_exist() {
    for good in ["\"web\"", "\"printer\"", "[\"@office\", \"10.0.0.0/8\"]", "\"10.0.0.5-10.0.0.9\""]
    {
        assert!(parse("x", &rule(&format!("from = \"home\"\nsource = {good}"))).is_ok(), "{good}");
    }
    let source = |text: &str| rule(&format!("from = \"home\"\nsource = {text} # HERE"));
    refused(&source("\"nobody\""), "is named `nobody`", "reserve `nobody`");
    refused(&source("[\"@ofice\"]"), "named `ofice`", "`@office`");
    refused(&source("[]"), "empty list", "leave `source` out");
    refused(&source("\"10.0.0.5/24\""), "bits set", "`10.0.0.0/24`");
    refused(&source("\"10.0.0.9-10.0.0.5\""), "backwards", "`10.0.0.5-10.0.0.9`");
}

#[test]
fn a_rule_with_ports_has_a_protocol_that_has_them() {
    let with = |protocol: &str, key: &str| {
        rule(&format!("from = \"guest\"\nprotocol = \"{protocol}\"\n{key} = 25 # HERE"))
    };
    for key in ["port", "source_port"] {
        for good in ["tcp", "udp", "both", "sctp", "132", "udplite"] {
            assert!(parse("x", &with(good, key)).is_ok(), "{good}");
        }
        for bad in ["any", "icmp", "esp", "89"] {
            refused(&with(bad, key), "need a `protocol` that has ports", "\"tcp\"");
        }
        refused(&rule(&format!("from = \"guest\"\n{key} = 25 # HERE")), "need a `protocol`", "udp");
    }
}

#[test]
fn each_word_of_a_rule_is_refused_where_it_stands() {
    let with = |line: &str| rule(&format!("from = \"home\"\n{line} # HERE"));
    let tcp = |line: &str| with(&format!("protocol = \"tcp\"\n{line}"));
    refused(&with("protocol = \"ospf\""), "`ospf` is no IP protocol", "a number from 0 to 255");
    refused(&with("protocol = \"256\""), "`256` is no IP protocol", "a number");
    refused(&tcp("port = 0"), "`0` is no port", "1 to 65535");
    refused(&tcp("port = [80, \"90-80\"]"), "runs backwards", "`80-90`");
    refused(&tcp("port = []"), "empty list", "leave `port` out");
    refused(&tcp("port = true"), "must be a number, a text or a list", "port = [80");
    refused(&with("dscp = \"eff\""), "`eff` is no code point", "`ef`");
    refused(&with("dscp = 64"), "`64` is no code point", "0 to 63");
    refused(&with("schedule = \"monday 8-17\""), "is no schedule", "`mon-fri 08:00-17:00`");
    refused(&with("log = \"yes\""), "must be `true` or `false`", "log = true");
    refused(&with("name = \"a b\""), "not a name", "1 to 32 letters");
    refused(&with("colour = \"red\""), "`colour` is not a key", "take it out");
    refused(&with("rate = \"20/s\""), "this rule allows nothing", "action = \"allow\"");
    let allow = |lines: &str| with(lines).replace("\"refuse\"", "\"allow\"");
    refused(&allow("rate = \"20\""), "no rate of new flows", "`20/s`");
    refused(&allow("rate = \"0/s\""), "no rate of new flows", "from 1");
    refused(&allow("burst = 9"), "`burst` needs a `rate`", "20/s");
    refused(&allow("rate = \"20/s\"\nburst = 0"), "`burst` lies between 1 and", "back to back");
    refused(&house("[policy]\nutc_offset = \"CET\" # HERE"), "no distance from UTC", "`+01:00`");
    refused(
        &rule("from = \"home\"").replace("\"refuse\"", "\"reject\" # HERE"),
        "not a value",
        "`drop`",
    );
}

#[test]
fn rules_and_sets_have_limits() {
    let rules = "[[policy.rule]]\naction = \"drop\"\nfrom = \"wan\"\n".repeat(257);
    let error = parse("x", &house(&rules)).unwrap_err();
    assert!(error.problems().iter().any(|p| p.to_string().contains("more than 256")));
    let list = vec!["\"10.0.0.1\""; 4097].join(", ");
    refused(&house(&format!("[policy.set]\na = [{list}] # HERE")), "more than 4096", "4096");
}

#[test]
fn a_forward_has_source_limits_and_says_whether_it_hairpins() {
    let forward = |lines: &str| {
        house(&format!("{SETS}[[forward]]\nprotocol = \"tcp\"\nport = 80\nto = \"web\"\n{lines}"))
    };
    let config = read(&forward("from = [\"@office\", \"192.0.2.0/24\"]\nhairpin = false"));
    let [limited] = &config.forwards[..] else { panic!("{:?}", config.forwards) };
    assert_eq!((limited.from.len(), limited.hairpin), (2, Hairpinning::Off));
    assert_eq!(limited.to_string(), "tcp 80 to web:80 from @office, 192.0.2.0/24, not from inside");
    let open = read(&forward("")).forwards.remove(0);
    assert_eq!((open.from.len(), open.hairpin), (0, Hairpinning::On));
    refused(&forward("from = [\"@ofice\"] # HERE"), "named `ofice`", "`@office`");
    refused(&forward("from = \"nobody\" # HERE"), "is named `nobody`", "reserve");
    refused(&forward("from = [] # HERE"), "empty list", "leave `from` out");
    refused(&forward("hairpin = \"no\" # HERE"), "`true` or `false`", "hairpin = true");
}

#[test]
fn a_forward_added_while_running_names_sets_and_hosts_that_exist() {
    let config = read(&house(SETS));
    let check = |from: &str| {
        let from = vec![AddressTerm::parse(from).unwrap()];
        config.check_forward(&Forward { from, ..Forward::parse("tcp", "80", "web").unwrap() })
    };
    assert_eq!(check("@office"), Ok(()));
    assert_eq!(check("printer"), Ok(()));
    assert!(matches!(check("@ofice"), Err(Fault::UnknownSet { .. })));
    assert!(matches!(check("nobody"), Err(Fault::UnknownHost { .. })));
}

#[test]
fn a_dmz_host_is_a_host_of_a_lan() {
    let dmz = |host: &str| house(&format!("[nat]\ndmz_host = \"{host}\" # HERE"));
    let config = read(&dmz("web"));
    assert_eq!(config.nat.dmz_host, Some(ForwardHost::Name("web".to_owned())));
    assert!(parse("x", &dmz("10.0.1.77")).is_ok());
    refused(&dmz("nobody"), "`nobody` is no host", "reserve `nobody`");
    refused(&dmz("203.0.113.9"), "`203.0.113.9` is no host", "10.0.0.0/24");
    refused(&dmz("10.0.0.1"), "`10.0.0.1` is no host", "host on a LAN");
    refused(&dmz("a b"), "not a host name", "one label");
}

#[test]
fn ports_of_the_router_itself_are_refused_with_their_owner() {
    let file = |wan: &str, metrics: &str, protocol: &str, port: u16| {
        format!("[control]\nmetrics = \"{metrics}\"\n{HOUSE}\n[[forward]]\nprotocol = \"{protocol}\"\nport = {port} # HERE\nto = \"web\"\n")
            .replace("link = \"wan0\"", &format!("link = \"wan0\"\n{wan}"))
    };
    let fixed = "mode = \"static\"\naddress = \"198.51.100.2/24\"\ngateway = \"198.51.100.1\"";
    refused(
        &file("", "0.0.0.0:9100", "tcp", 9100),
        "TCP port 9100 belongs to the metrics",
        "leave",
    );
    refused(
        &file(fixed, "198.51.100.2:9100", "both", 9100),
        "TCP port 9100",
        "leave TCP port 9100",
    );
    assert!(parse("x", &file("", "127.0.0.1:9100", "tcp", 9100)).is_ok());
    assert!(parse("x", &file("", "0.0.0.0:9100", "udp", 9100)).is_ok());
    refused(
        &file("", "127.0.0.1:1", "udp", 67),
        "UDP port 67 belongs to the router's DHCP server",
        "67",
    );
}

#[test]
fn bogons_are_dropped_unless_told() {
    assert_eq!(read(HOUSE).wan.bogons, Bogons::Drop);
    let wan = |lines: &str| HOUSE.replace("link = \"wan0\"", &format!("link = \"wan0\"\n{lines}"));
    assert_eq!(read(&wan("bogons = \"pass\"")).wan.bogons, Bogons::Pass);
    let allow = read(&wan("bogons_allow = [\"192.168.100.0/24\"]")).wan.bogons_allow;
    assert_eq!(allow, ["192.168.100.0/24".parse().unwrap()]);
    refused(&wan("bogons = \"dorp\" # HERE"), "not a value of `bogons`", "mean `drop`?");
    refused(&wan("bogons_allow = [\"10.0.0.1/8\"] # HERE"), "bits set", "`10.0.0.0/8`");
    refused(
        &wan("bogons = \"pass\"\nbogons_allow = [\"10.0.0.0/8\"] # HERE"),
        "no effect with bogons = \"pass\"",
        "bogons = \"drop\"",
    );
}

#[test]
fn a_policy_is_shown_in_the_words_of_the_file() {
    let json = serde_json::to_value(one_rule(
        "from = \"home\"\nprotocol = \"tcp\"\nport = [25, \"1-9\"]\nsource = \"@office\"\nschedule = \"daily 22:00-06:00\"",
    ))
    .unwrap();
    for (path, value) in [
        ("/from", "home"),
        ("/to", "anywhere"),
        ("/protocol", "tcp"),
        ("/ports/1", "1-9"),
        ("/source/0", "@office"),
        ("/schedule", "daily 22:00-06:00"),
        ("/action", "refuse"),
    ] {
        assert_eq!(json.pointer(path).and_then(|v| v.as_str()), Some(value), "{path} in {json}");
    }
}
