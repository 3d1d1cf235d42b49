//! The control socket: what can be asked of a running router, and what it answers.
//!
//! A Unix stream socket, mode 0600, that speaks HTTP/1.1 and JSON, so that `curl --unix-socket` works
//! as well as `routerctl`. The types in [`types`] are exactly what `routerctl --json` prints; their field
//! names are stable: a release may add fields, it does not rename or remove them below the same `/vN`.
//!
//! | method and path | request | reply |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/forwards` | | array of [`Forward`] |
//! | `POST /v1/forwards` | [`ForwardSpec`] | [`Forward`] |
//! | `DELETE /v1/forwards/{protocol}/{port}` | | [`Forward`], the one removed |
//! | `GET /v1/leases` | | array of [`Lease`] |
//! | `POST /v1/reservations` | [`Reservation`] | [`Lease`] |
//! | `DELETE /v1/leases/{address}` | | [`Lease`], the one released (a runtime reservation goes with it) |
//! | `GET /v1/flows?protocol=&host=&remote=&port=&limit=` | [`FlowFilter`] | array of [`Flow`] |
//! | `DELETE /v1/flows?...` | [`FlowFilter`], not empty | [`Killed`] |
//! | `GET /v1/hosts` | | array of [`Host`] |
//! | `GET /v1/wan`, `POST /v1/wan/renew`, `POST /v1/wan/release` | | [`Wan`] |
//! | `POST /v1/explain` | [`ExplainRequest`] | [`Explanation`]; changes nothing |
//! | `GET /v1/drops` | | array of [`Drop`] |
//! | `GET /v1/rules` | | array of [`Rule`] |
//! | `GET /v1/dns`, `POST /v1/dns/flush` | | [`Dns`] |
//! | `GET /v1/qos` | | array of [`Shaper`] |
//! | `POST /v1/config/check` | TOML text | [`ConfigReport`] |
//! | `POST /v1/config/reload` | | [`Reloaded`] |
//! | `GET /metrics` | | Prometheus text |
//!
//! Everything that went wrong is a [`Problem`] (RFC 9457) with the HTTP status inside.
//!
//! **Threads.** The server runs on a current-thread runtime in a thread of its own and holds no router
//! state. Each request becomes one [`Request`] in a bounded channel to the control thread, which answers
//! through the [`Answer`] inside; a full channel is refused at once (503), a late answer given up (504).
//! [`ControlHandle`] is the sending end together with the call that wakes the control thread's poll loop.
//!
//! **Limits.** Connections, header size and time, body size, time per request and per connection are
//! constants of `server`; so a client that is slow or hostile costs its own connection only.
//!
//! Non-goals: no authentication beyond the file mode, no TCP listener, no streaming.

mod client;
mod metrics;
mod problem;
mod request;
mod server;
pub mod types;

pub use client::{Client, ClientError};
pub use problem::Problem;
pub use request::{Answer, ControlHandle, REQUESTS_QUEUED_MAX, Request, Requests};
pub use server::{ServeError, ServerHandle, serve, serve_with_metrics};
pub use types::*;
