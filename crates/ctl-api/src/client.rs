//! The client that `routerctl` is made of: one blocking call per request.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::Problem;

/// Time for one request: more than the server gives the control thread, so that its own words arrive.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Most bytes of a reply: the longest list of flows (65,536 of at most some 400 bytes) twice over.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a request brought no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens on the socket, or it may not be opened.
    #[error("no routerd answers on {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The router refused.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// The connection broke off or carried no HTTP.
    #[error("the connection to routerd broke off")]
    Http(#[from] hyper::Error),
    /// The request could not be written as HTTP.
    #[error("{path:?} is not a path")]
    Path {
        /// What was asked for.
        path: String,
    },
    /// No reply in time.
    #[error("routerd did not answer within {} s", REQUEST_TIME.as_secs())]
    TimedOut,
    /// The reply is larger than any that we expect, or ended early.
    #[error("the reply could not be read whole")]
    Truncated,
    /// The reply is not of the expected shape: another version of `routerd`.
    #[error("routerd's reply is not understood")]
    Reply(#[from] serde_json::Error),
}

/// A connection to a running router. Calls block; a call that failed may be repeated.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// Checks that something listens on the socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`] if not.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let connect = |source| ClientError::Connect { path: path.to_owned(), source };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(connect)?;
        let client = Self { path: path.to_owned(), runtime };
        client.runtime.block_on(client.open())?;
        Ok(client)
    }

    /// Reads.
    ///
    /// # Errors
    /// As for every request: the router's [`Problem`], or why there was no reply.
    pub fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.json(Method::GET, path, Bytes::new())
    }

    /// Asks for something to be done or made.
    ///
    /// # Errors
    /// As for every request: the router's [`Problem`], or why there was no reply.
    pub fn post<B: Serialize, T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.json(Method::POST, path, Bytes::from(serde_json::to_vec(body)?))
    }

    /// Asks for something to be done with a text, such as a configuration.
    ///
    /// # Errors
    /// As for every request: the router's [`Problem`], or why there was no reply.
    pub fn post_text<T: DeserializeOwned>(
        &mut self,
        path: &str,
        text: String,
    ) -> Result<T, ClientError> {
        self.json(Method::POST, path, Bytes::from(text))
    }

    /// Removes.
    ///
    /// # Errors
    /// As for every request: the router's [`Problem`], or why there was no reply.
    pub fn delete<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.json(Method::DELETE, path, Bytes::new())
    }

    /// Reads a reply that is not JSON, such as `/metrics`.
    ///
    /// # Errors
    /// As for every request: the router's [`Problem`], or why there was no reply.
    pub fn text(&mut self, path: &str) -> Result<String, ClientError> {
        let body = self.request(Method::GET, path, Bytes::new())?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn json<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        Ok(serde_json::from_slice(&self.request(method, path, body)?)?)
    }

    fn request(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        // The timer has to be made on the runtime that drives it, hence inside the block.
        let exchanged = self
            .runtime
            .block_on(async { timeout(REQUEST_TIME, self.exchange(method, path, body)).await });
        let (status, body) = exchanged.map_err(|_| ClientError::TimedOut)??;
        if status.is_success() {
            return Ok(body);
        }
        Err(serde_json::from_slice::<Problem>(&body).unwrap_or_else(|_| unexplained(status)).into())
    }

    /// One request over a connection of its own: the server may close an idle one at any time.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = self.open().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; its errors reach us through the request.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| ClientError::Path { path: path.to_owned() })?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), REPLY_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|_| ClientError::Truncated)?.to_bytes()))
    }

    async fn open(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.path)
            .await
            .map_err(|source| ClientError::Connect { path: self.path.clone(), source })
    }
}

/// What a refusal without words means.
fn unexplained(status: StatusCode) -> Problem {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Problem::busy("too many connections"),
        _ => Problem::failed(format!("the router answered {status}")),
    }
}
