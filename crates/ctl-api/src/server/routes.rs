//! Paths, and what each asks the control thread.

use std::net::Ipv4Addr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{Request as HttpRequest, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use config::ParseForwardError;
use serde::de::DeserializeOwned;

use crate::types::{
    ConfigReport, Dns, Drop, ExplainRequest, Explanation, Flow, FlowFilter, Forward,
    ForwardProtocol, ForwardSpec, Host, Killed, Lease, PortRange, Reloaded, Reservation, Rule,
    Shaper, Status, Wan,
};
use crate::{ControlHandle, Problem, Request, metrics};

/// Most bytes of a request's body. The largest is a configuration to check: a few thousand lines.
const BODY_BYTES_MAX: usize = 256 * 1024;

type Control = State<ControlHandle>;
type Reply<T> = Result<Json<T>, Problem>;

pub(super) fn router(control: ControlHandle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/forwards", get(forward_list).post(forward_add))
        .route("/v1/forwards/{protocol}/{port}", delete(forward_remove))
        .route("/v1/leases", get(lease_list))
        .route("/v1/leases/{address}", delete(lease_release))
        .route("/v1/reservations", post(lease_reserve))
        .route("/v1/flows", get(flow_list).delete(flow_kill))
        .route("/v1/hosts", get(host_list))
        .route("/v1/wan", get(wan_show))
        .route("/v1/wan/renew", post(wan_renew))
        .route("/v1/wan/release", post(wan_release))
        .route("/v1/explain", post(explain))
        .route("/v1/drops", get(drop_list))
        .route("/v1/rules", get(rule_list))
        .route("/v1/dns", get(dns_show))
        .route("/v1/dns/flush", post(dns_flush))
        .route("/v1/qos", get(qos_show))
        .route("/v1/config/check", post(config_check))
        .route("/v1/config/reload", post(config_reload))
        .route("/metrics", get(metrics_text))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(control)
}

/// The page for collectors alone.
pub(super) fn metrics_only(control: ControlHandle) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(control)
}

async fn status(State(control): Control) -> Reply<Status> {
    control.ask(Request::Status).await.map(Json)
}

async fn forward_list(State(control): Control) -> Reply<Vec<Forward>> {
    control.ask(Request::ForwardList).await.map(Json)
}

async fn forward_add(
    State(control): Control,
    Input(spec): Input<ForwardSpec>,
) -> Result<(StatusCode, Json<Forward>), Problem> {
    let forward = control.ask(|answer| Request::ForwardAdd(spec, answer)).await?;
    Ok((StatusCode::CREATED, Json(forward)))
}

async fn forward_remove(
    State(control): Control,
    InPath((protocol, port)): InPath<(String, PortRange)>,
) -> Reply<Forward> {
    let protocol: ForwardProtocol = protocol.parse().map_err(|error: ParseForwardError| {
        Problem::invalid(format!("{error}: {}", error.remedy()))
    })?;
    control.ask(|answer| Request::ForwardRemove(protocol, port, answer)).await.map(Json)
}

async fn lease_list(State(control): Control) -> Reply<Vec<Lease>> {
    control.ask(Request::LeaseList).await.map(Json)
}

async fn lease_reserve(
    State(control): Control,
    Input(reservation): Input<Reservation>,
) -> Result<(StatusCode, Json<Lease>), Problem> {
    let lease = control.ask(|answer| Request::LeaseReserve(reservation, answer)).await?;
    Ok((StatusCode::CREATED, Json(lease)))
}

async fn lease_release(State(control): Control, InPath(address): InPath<Ipv4Addr>) -> Reply<Lease> {
    control.ask(|answer| Request::LeaseRelease(address, answer)).await.map(Json)
}

async fn flow_list(
    State(control): Control,
    InQuery(filter): InQuery<FlowFilter>,
) -> Reply<Vec<Flow>> {
    control.ask(|answer| Request::FlowList(filter, answer)).await.map(Json)
}

async fn flow_kill(State(control): Control, InQuery(filter): InQuery<FlowFilter>) -> Reply<Killed> {
    if filter.is_empty() {
        return Err(Problem::invalid("say which flows: protocol, host, remote or port"));
    }
    control.ask(|answer| Request::FlowKill(filter, answer)).await.map(Json)
}

async fn host_list(State(control): Control) -> Reply<Vec<Host>> {
    control.ask(Request::HostList).await.map(Json)
}

async fn wan_show(State(control): Control) -> Reply<Wan> {
    control.ask(Request::WanShow).await.map(Json)
}

async fn wan_renew(State(control): Control) -> Reply<Wan> {
    control.ask(Request::WanRenew).await.map(Json)
}

async fn wan_release(State(control): Control) -> Reply<Wan> {
    control.ask(Request::WanRelease).await.map(Json)
}

async fn explain(
    State(control): Control,
    Input(request): Input<ExplainRequest>,
) -> Reply<Explanation> {
    let question = request.question().map_err(|error| Problem::invalid(error.to_string()))?;
    control.ask(|answer| Request::Explain(question, answer)).await.map(Json)
}

async fn drop_list(State(control): Control) -> Reply<Vec<Drop>> {
    control.ask(Request::DropList).await.map(Json)
}

async fn rule_list(State(control): Control) -> Reply<Vec<Rule>> {
    control.ask(Request::RuleList).await.map(Json)
}

async fn dns_show(State(control): Control) -> Reply<Dns> {
    control.ask(Request::DnsShow).await.map(Json)
}

async fn dns_flush(State(control): Control) -> Reply<Dns> {
    control.ask(Request::DnsFlush).await.map(Json)
}

async fn qos_show(State(control): Control) -> Reply<Vec<Shaper>> {
    control.ask(Request::QosShow).await.map(Json)
}

async fn config_check(State(control): Control, body: InBody) -> Reply<ConfigReport> {
    let text = String::from_utf8(body.0.to_vec())
        .map_err(|_| Problem::invalid("the configuration is not UTF-8 text"))?;
    control.ask(|answer| Request::ConfigCheck(text, answer)).await.map(Json)
}

async fn config_reload(State(control): Control) -> Reply<Reloaded> {
    control.ask(Request::ConfigReload).await.map(Json)
}

async fn metrics_text(State(control): Control) -> Result<Response, Problem> {
    let status = control.ask(Request::Status).await?;
    let drops = control.ask(Request::DropList).await?;
    let text = metrics::render(&status, &drops);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn no_such_path(request: HttpRequest<axum::body::Body>) -> Problem {
    Problem::not_found(format!("{} is not a path of this API", request.uri().path()))
}

async fn no_such_method(request: HttpRequest<axum::body::Body>) -> Problem {
    Problem::method(format!("{} {}", request.method(), request.uri().path()))
}

/// A whole body of at most [`BODY_BYTES_MAX`].
struct InBody(Bytes);

impl<S: Send + Sync> FromRequest<S> for InBody {
    type Rejection = Problem;

    async fn from_request(
        request: HttpRequest<axum::body::Body>,
        state: &S,
    ) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state).await;
        body.map(Self).map_err(|rejection: BytesRejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::too_large(format!("a body may have {BODY_BYTES_MAX} bytes"))
            }
            _ => Problem::invalid(rejection.body_text()),
        })
    }
}

/// A JSON body, whatever its content type says.
struct Input<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(
        request: HttpRequest<axum::body::Body>,
        state: &S,
    ) -> Result<Self, Problem> {
        let InBody(bytes) = InBody::from_request(request, state).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::invalid(error.to_string()))
    }
}

/// The query string.
struct InQuery<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|r| Problem::invalid(r.body_text()))
    }
}

/// The variable parts of the path.
struct InPath<T>(T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value)).map_err(|r| Problem::invalid(r.body_text()))
    }
}
