//! The server: a socket, a thread, and as little else as possible.

mod routes;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request as HttpRequest;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::{ControlHandle, Problem};

/// Bounds of what clients may cost.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time: `routerctl`, a metrics collector and some scripts, with room to spare.
    connections: usize,
    /// Time to send a request's head.
    head: Duration,
    /// Time from a request's head to its response's: reading the body, and the control thread's work.
    request: Duration,
    /// Time for one connection; long enough to read the largest list slowly.
    connection: Duration,
}

const LIMITS: Limits = Limits {
    connections: 32,
    head: Duration::from_secs(5),
    request: Duration::from_secs(10),
    connection: Duration::from_secs(60),
};

/// Most bytes of a request's head; the smallest that hyper accepts, and far more than we read.
const HEAD_BYTES_MAX: usize = 8192;

/// How long a server that may be alive has to accept a probing connection.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Time to take the refusal of a connection too many.
const REFUSAL_TIME: Duration = Duration::from_millis(100);

/// What a connection beyond the limit gets.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Only the owner may talk to the router.
const SOCKET_MODE: u32 = 0o600;

/// Why the control socket could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process serves this socket.
    #[error("{} is in use: another routerd is running", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket has this name; it is left alone.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The metrics address can't be listened on.
    #[error(
        "[control] metrics = \"{address}\" can't be listened on; choose a free port on an address of the zone, such as 127.0.0.1:9100"
    )]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The operating system refused one of the steps.
    #[error("{step} {}", path.display())]
    Os {
        /// What was tried.
        step: &'static str,
        /// The socket or its folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A running server; dropping it stops the thread and removes the socket.
#[derive(Debug)]
pub struct ServerHandle {
    path: PathBuf,
    stop: watch::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control socket's thread had panicked");
        }
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "control socket not removed");
        }
    }
}

/// Serves the control socket at `path` from a thread of its own until the handle is dropped.
///
/// Makes the folder if it is missing and replaces a socket that no process listens on.
///
/// # Errors
/// [`ServeError::SocketInUse`] if a live process serves it; otherwise what the system refused.
pub fn serve(path: &Path, control: ControlHandle) -> Result<ServerHandle, ServeError> {
    serve_within(path, None, control, LIMITS)
}

/// Serves the control socket, and `/metrics` alone on a TCP address as well, for a collector that can't reach
/// the socket. Nothing can be changed through it; who may connect is up to whoever chose the address.
///
/// # Errors
/// As [`serve`]; [`ServeError::Metrics`] if the address can't be listened on.
pub fn serve_with_metrics(
    path: &Path,
    metrics: SocketAddr,
    control: ControlHandle,
) -> Result<ServerHandle, ServeError> {
    serve_within(path, Some(metrics), control, LIMITS)
}

fn serve_within(
    path: &Path,
    metrics: Option<SocketAddr>,
    control: ControlHandle,
    limits: Limits,
) -> Result<ServerHandle, ServeError> {
    let os = |step| move |source| ServeError::Os { step, path: path.to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(os("start a runtime for"))?;
    let metrics = match metrics {
        Some(address) => {
            let bound = runtime.block_on(TcpListener::bind(address));
            Some(bound.map_err(|source| ServeError::Metrics { address, source })?)
        }
        None => None,
    };
    let listener = runtime.block_on(listen(path))?;
    let (stop, stopped) = watch::channel(());
    let thread = std::thread::Builder::new()
        .name("ctl-api".into())
        .spawn(move || run(&runtime, (listener, metrics), control, limits, stopped))
        .map_err(os("start a thread for"))?;
    Ok(ServerHandle { path: path.to_owned(), stop, thread: Some(thread) })
}

/// Opens the socket where no live process has it.
async fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let os = |step| move |source| ServeError::Os { step, path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(os("make the folder of"))?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServeError::NotASocket { path: path.to_owned() });
        }
        Ok(_) if is_served(path).await => {
            return Err(ServeError::SocketInUse { path: path.to_owned() });
        }
        Ok(_) => fs::remove_file(path).map_err(os("remove the stale socket"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(os("look at")(error)),
    }
    let listener = UnixListener::bind(path).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::SocketInUse { path: path.to_owned() },
        _ => os("listen on")(source),
    })?;
    let owner_only = fs::Permissions::from_mode(SOCKET_MODE);
    fs::set_permissions(path, owner_only).map_err(os("restrict"))?;
    Ok(listener)
}

/// Whether a process listens on the socket. One that is too busy to accept does.
async fn is_served(path: &Path) -> bool {
    match timeout(PROBE_TIME, UnixStream::connect(path)).await {
        Ok(Ok(_)) | Err(_) => true,
        Ok(Err(error)) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}

fn run(
    runtime: &Runtime,
    (listener, metrics): (UnixListener, Option<TcpListener>),
    control: ControlHandle,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) {
    runtime.block_on(async {
        let pages = routes::metrics_only(control.clone());
        tokio::select! {
            () = accept(Some(listener), routes::router(control), limits) => {}
            () = accept(metrics, pages, limits) => {}
            _ = stopped.changed() => {}
        }
    });
}

/// Accepts for ever; each connection is a task that ends by itself within its limit. Without a listener it
/// waits for ever.
async fn accept<L: Listener>(listener: Option<L>, router: axum::Router, limits: Limits) {
    let Some(mut listener) = listener else { return std::future::pending().await };
    let room = Arc::new(Semaphore::new(limits.connections));
    loop {
        let (mut stream, _) = listener.accept().await;
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            // A fresh socket has room for these bytes; if not, the close says enough.
            let _ = timeout(REFUSAL_TIME, stream.write_all(FULL)).await;
            continue;
        };
        tokio::spawn(converse(stream, router.clone(), limits, permit));
    }
}

/// Serves one connection to its end, or to the end of its time.
async fn converse<S>(
    stream: S,
    router: axum::Router,
    limits: Limits,
    _permit: tokio::sync::OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = tower_service(router, limits.request);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limits.connection, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "control server: connection"),
        Err(_) => tracing::debug!("control server: connection closed, its time is up"),
    }
}

/// The router with a limit on the time to a response.
fn tower_service(
    router: axum::Router,
    limit: Duration,
) -> impl hyper::service::Service<
    HttpRequest<hyper::body::Incoming>,
    Response = Response,
    Error = Infallible,
    Future: Send,
> {
    let bounded = router.layer(axum::middleware::from_fn(
        move |request: HttpRequest<Body>, next: axum::middleware::Next| async move {
            match timeout(limit, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Problem::late(format!("no answer within {} s", limit.as_secs_f32()))
                    .into_response(),
            }
        },
    ));
    TowerToHyperService::new(bounded)
}

#[cfg(test)]
mod tests;
