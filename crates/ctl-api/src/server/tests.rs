use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdStream;

use super::*;
use crate::types::{
    Asked, ExplainRequest, Explanation, ForwardSource, ForwardSpec, Killed, TcpFlags, Transport,
};
use crate::{Client, ClientError, Forward, Request, Requests};

/// Short enough to wait for in a test, long enough for a busy machine.
const SHORT: Limits = Limits {
    connections: 4,
    head: Duration::from_millis(300),
    request: Duration::from_millis(600),
    connection: Duration::from_secs(20),
};

struct Fixture {
    socket: PathBuf,
    _server: ServerHandle,
    _folder: tempfile::TempDir,
}

/// A server whose control thread is `answer`, called for each request.
fn fixture(mut answer: impl FnMut(Request) + Send + 'static) -> Fixture {
    let (control, requests) = ControlHandle::new(|| {});
    std::thread::spawn(move || requests.into_iter().for_each(&mut answer));
    start(control)
}

fn start(control: ControlHandle) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/control.sock");
    let server = serve_within(&socket, None, control, SHORT).unwrap();
    Fixture { socket, _server: server, _folder: folder }
}

/// A server whose control thread never reads.
fn deaf() -> (Fixture, Requests) {
    let (control, requests) = ControlHandle::new(|| {});
    (start(control), requests)
}

fn forward_of(spec: ForwardSpec) -> Forward {
    Forward {
        id: Forward::id_of(spec.protocol, spec.port),
        protocol: spec.protocol,
        address: None,
        port: spec.port,
        to: spec.to,
        source: ForwardSource::Runtime,
        enabled: true,
        resolved: None,
        from: spec.from,
        hairpin: spec.hairpin,
    }
}

fn spec() -> ForwardSpec {
    serde_json::from_str(r#"{"protocol":"udp","port":"27000-27015","to":"minecraft"}"#).unwrap()
}

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Problem {
    match result.unwrap_err() {
        ClientError::Refused(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_reaches_the_control_thread_and_its_answer_the_client() {
    let fixture = fixture(|request| match request {
        Request::ForwardAdd(spec, answer) => answer.send(Ok(forward_of(spec))),
        Request::ForwardRemove(protocol, port, answer) => {
            answer
                .send(Err(Problem::not_found(format!("no forward {} {port}", protocol.as_str()))));
        }
        Request::FlowKill(filter, answer) => {
            assert_eq!(filter.host.as_deref(), Some("a b"));
            answer.send(Ok(Killed { killed: 3 }));
        }
        other => panic!("{other:?}"),
    });
    let mut client = Client::connect(&fixture.socket).unwrap();
    let forward: Forward = client.post("/v1/forwards", &spec()).unwrap();
    assert_eq!(forward, forward_of(spec()));
    let refused = problem(client.delete::<Forward>("/v1/forwards/tcp/80"));
    assert_eq!((refused.status, refused.detail.as_str()), (404, "no forward tcp 80"));
    let killed: Killed = client.delete("/v1/flows?host=a%20b").unwrap();
    assert_eq!(killed.killed, 3);
}

/// What a router says that drops all.
fn told() -> Explanation {
    serde_json::from_str(
        r#"{"from":"wan0","packet":null,"flow":"none","direction":null,"session":null,
        "translation":null,"decided_by":null,"route":{"prefix":"10.0.0.0/24","link":"lan0",
        "next_hop":"10.0.0.7","mac":"02:08:20:0a:0b:01"},"mss":null,"fragment_bytes_max":null,
        "queue":null,"verdict":"drop","reason":"no-mapping","sentence":"Nobody asked for it."}"#,
    )
    .unwrap()
}

#[test]
fn a_question_about_a_packet_reaches_the_control_thread_complete() {
    let fixture = fixture(|request| match request {
        Request::Explain(question, answer) => {
            let ends = ("10.0.0.7:40000".parse().unwrap(), "203.0.113.10:443".parse().unwrap());
            assert_eq!(question.packet, Asked::Tcp(ends.0, ends.1, TcpFlags::default()));
            assert_eq!(question.from.as_deref(), Some("home"));
            answer.send(Ok(told()));
        }
        other => panic!("{other:?}"),
    });
    let mut client = Client::connect(&fixture.socket).unwrap();
    let asked = ExplainRequest {
        from: Some("home".into()),
        protocol: Some(Transport::Tcp),
        source: Some("10.0.0.7:40000".parse().unwrap()),
        destination: Some("203.0.113.10:443".parse().unwrap()),
        ..ExplainRequest::default()
    };
    let answer: Explanation = client.post("/v1/explain", &asked).unwrap();
    assert_eq!(answer, told());
    let half = ExplainRequest { destination: None, ..asked };
    let refused = problem(client.post::<_, Explanation>("/v1/explain", &half));
    assert_eq!(refused.status, 400);
    assert_eq!(refused.detail, "give protocol, source and destination, or a frame");
}

#[test]
fn malformed_requests_never_reach_the_control_thread() {
    let fixture = fixture(|request| panic!("{request:?}"));
    let mut client = Client::connect(&fixture.socket).unwrap();
    for path in ["/v1/flows?port=65536", "/v1/flows?colour=red", "/v1/flows?protocol=ah"] {
        assert_eq!(problem(client.get::<Vec<u8>>(path)).status, 400, "{path}");
    }
    for path in ["/v1/flows", "/v1/leases/10.0.0", "/v1/forwards/tcp/0", "/v1/flows?limit=1"] {
        assert_eq!(problem(client.delete::<u8>(path)).status, 400, "{path}");
    }
    assert_eq!(problem(client.post::<_, u8>("/v1/forwards", &"text")).status, 400);
    assert_eq!(problem(client.get::<u8>("/v2/status")).kind, "not-found");
    assert_eq!(problem(client.delete::<u8>("/v1/status")).kind, "method");
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let fixture = fixture(|request| panic!("{request:?}"));
    let mut client = Client::connect(&fixture.socket).unwrap();
    let text = "#".repeat(300 * 1024);
    assert_eq!(problem(client.post_text::<u8>("/v1/config/check", text)).status, 413);
}

#[test]
fn an_answer_that_does_not_come_is_given_up() {
    let (fixture, _requests) = deaf();
    let mut client = Client::connect(&fixture.socket).unwrap();
    assert_eq!(problem(client.get::<u8>("/v1/status")).kind, "late");
}

#[test]
fn a_request_dropped_unanswered_and_a_stopped_control_thread_are_told() {
    let dropping = fixture(drop);
    let mut client = Client::connect(&dropping.socket).unwrap();
    assert_eq!(problem(client.get::<u8>("/v1/status")).kind, "busy");
    let (gone, requests) = deaf();
    drop(requests);
    let mut client = Client::connect(&gone.socket).unwrap();
    assert_eq!(problem(client.get::<u8>("/v1/status")).kind, "busy");
}

#[test]
fn a_full_channel_refuses_at_once() {
    let (control, _requests) = ControlHandle::new(|| {});
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for _ in 0..crate::REQUESTS_QUEUED_MAX {
            let asked = control.ask(Request::Status);
            tokio::select! { biased; _ = asked => panic!(), () = std::future::ready(()) => {} }
        }
        assert_eq!(control.ask(Request::Status).await.unwrap_err().kind, "busy");
    });
}

#[test]
fn a_client_that_sends_half_a_head_is_cut_off_and_holds_up_nobody() {
    let fixture = fixture(|request| match request {
        Request::ForwardList(answer) => answer.send(Ok(Vec::new())),
        other => panic!("{other:?}"),
    });
    let mut slow = StdStream::connect(&fixture.socket).unwrap();
    slow.write_all(b"GET /v1/forwards HTTP/1.1\r\nHost:").unwrap();
    let mut client = Client::connect(&fixture.socket).unwrap();
    assert_eq!(client.get::<Vec<Forward>>("/v1/forwards").unwrap(), []);
    slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).expect("the server closes the connection");
}

#[test]
fn a_connection_beyond_the_limit_is_told_to_go() {
    let fixture = fixture(drop);
    let _held: Vec<_> =
        (0..SHORT.connections).map(|_| StdStream::connect(&fixture.socket).unwrap()).collect();
    let mut late = StdStream::connect(&fixture.socket).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reply = String::new();
    late.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
}

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_server() {
    let fixture = fixture(drop);
    let mode = fs::metadata(&fixture.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = fixture.socket.clone();
    drop(fixture);
    assert!(!socket.exists());
}

#[test]
fn a_second_server_on_the_socket_of_a_live_one_is_refused() {
    let fixture = fixture(drop);
    let (control, _requests) = ControlHandle::new(|| {});
    let error = serve(&fixture.socket, control).unwrap_err();
    assert!(matches!(error, ServeError::SocketInUse { .. }), "{error}");
    assert!(fixture.socket.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (control, _requests) = ControlHandle::new(|| {});
    drop(serve(&socket, control.clone()).unwrap());
    fs::write(&socket, "precious").unwrap();
    let error = serve(&socket, control).unwrap_err();
    assert!(matches!(error, ServeError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn without_a_server_the_client_names_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::connect(&folder.path().join("none.sock")).unwrap_err();
    assert!(error.to_string().starts_with("no routerd answers on "), "{error}");
}

#[test]
fn the_metrics_address_serves_metrics_and_nothing_else() {
    use std::io::{Read, Write};
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (control, requests) = ControlHandle::new(|| {});
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let refused = serve_with_metrics(&socket, address, control.clone()).unwrap_err();
    assert!(refused.to_string().contains("choose a free port"), "{refused}");
    drop(taken);
    let _server = serve_with_metrics(&socket, address, control).unwrap();
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(ask("/v1/forwards").starts_with("HTTP/1.1 404"));
    // The page asks the control thread, which is gone.
    drop(requests);
    assert!(ask("/metrics").starts_with("HTTP/1.1 503"));
}
