//! The program as its users call it: what it prints, where, and with which exit status.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ctl_api::{ControlHandle, Forward, ForwardSource, Problem, Request, ServerHandle, WanState};

/// A router that has one answer for each request.
struct Router {
    socket: PathBuf,
    _server: ServerHandle,
    _folder: tempfile::TempDir,
}

impl Router {
    fn start() -> Self {
        let (control, requests) = ControlHandle::new(|| {});
        std::thread::spawn(move || requests.into_iter().for_each(answer));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let server = ctl_api::serve(&socket, control).unwrap();
        Self { socket, _server: server, _folder: folder }
    }

    fn ctl(&self, line: &str) -> Output {
        routerctl(Some(&self.socket), line)
    }
}

fn answer(request: Request) {
    match request {
        Request::ForwardAdd(spec, answer) if spec.port.first() == 80 => {
            answer.send(Err(Problem::conflict("port 80 leads to web already")));
        }
        Request::ForwardAdd(spec, answer) => {
            let forward = spec.to_config().unwrap();
            let source = ForwardSource::Runtime;
            answer.send(Ok(Forward::new(&forward, source, None, WanState::Bound)));
        }
        Request::DropList(answer) => answer.send(Ok(Vec::new())),
        Request::Explain(question, answer) => {
            answer.send(Ok(ctl_api::Explanation {
                from: question.from.unwrap_or_else(|| "lan0".to_owned()),
                packet: None,
                flow: "none".to_owned(),
                direction: None,
                session: None,
                translation: None,
                decided_by: None,
                route: None,
                mss: None,
                fragment_bytes_max: None,
                queue: None,
                verdict: "drop".to_owned(),
                reason: Some("no-route".to_owned()),
                sentence: "No route leads to the destination.".to_owned(),
            }));
        }
        Request::RuleList(answer) => answer.send(Ok(Vec::new())),
        other => panic!("{other:?}"),
    }
}

fn routerctl(socket: Option<&Path>, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routerctl"));
    command.args(socket.iter().flat_map(|socket| [Path::new("--socket"), socket]));
    command.args(line.split(' ')).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_is_done_is_printed_with_status_0() {
    let router = Router::start();
    let output = router.ctl("forward add udp 27000-27015 minecraft");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "open: udp 27000-27015 to minecraft:27000\n");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&router.ctl("drops").stdout), "nothing was dropped\n");
    assert_eq!(text(&router.ctl("rule list").stdout), "no rules\n");
    let output = router.ctl("forward add tcp 81 web --from @office --no-hairpin --json");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["from"][0], &value["hairpin"]), (&"@office".into(), &false.into()));
}

#[test]
fn a_packet_is_explained_in_words_and_in_json() {
    let router = Router::start();
    let output = router.ctl("explain tcp 10.0.0.7:40000 203.0.113.10:443");
    assert_eq!(output.status.code(), Some(0));
    let expected = "\
packet    not one that could have a flow, from lan0
verdict   drop (no-route): No route leads to the destination.
";
    assert_eq!(text(&output.stdout), expected);
    let output = router.ctl("--json explain --frame 02:08:20 --from wan");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["from"], &value["verdict"]), (&"wan".into(), &"drop".into()));
    assert_eq!(router.ctl("explain --frame 0").status.code(), Some(1));
}

#[test]
fn json_is_what_the_api_gave() {
    let output = Router::start().ctl("forward add tcp 8080 10.0.0.5:80 --json");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!({
        "id": "tcp/8080", "protocol": "tcp", "port": "8080", "to": "10.0.0.5:80",
        "source": "runtime", "enabled": false, "resolved": null, "from": [], "hairpin": true,
    });
    assert_eq!(value, expected);
}

#[test]
fn a_refusal_is_one_line_on_standard_error_with_status_1() {
    let output = Router::start().ctl("forward add tcp 80 10.0.0.5");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "routerctl: The request contradicts what exists: port 80 leads to web already\n"
    );
}

#[test]
fn without_a_router_the_socket_is_named_with_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let output = routerctl(Some(&folder.path().join("none")), "status");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("routerctl: no routerd answers on "));
}

#[test]
fn a_wrong_command_line_has_status_2() {
    assert_eq!(routerctl(None, "forward add sctp 80 web").status.code(), Some(2));
    assert_eq!(routerctl(None, "no-such-noun").status.code(), Some(2));
}

#[test]
fn a_configuration_is_checked_without_a_router() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zone-manifests");
    for name in ["router.toml", "router-smartos.toml"] {
        let output = routerctl(None, &format!("config check {}", manifests.join(name).display()));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("router.toml");
    std::fs::write(&file, "[wan]\nlink = \"wan0\"\ncolour = \"red\"\n").unwrap();
    let output = routerctl(None, &format!("config check {}", file.display()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("router.toml:3:"), "{}", text(&output.stderr));
}
