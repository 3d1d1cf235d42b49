//! The way of a request from the server's thread to the control thread and back.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::Problem;
use crate::types::{
    ConfigReport, Dns, Drop, Explanation, Flow, FlowFilter, Forward, ForwardProtocol, ForwardSpec,
    Host, Killed, Lease, PortRange, Question, Reloaded, Reservation, Rule, Shaper, Status, Wan,
};

/// Most requests that wait for the control thread. It drains them at every turn of its loop; more than
/// this means that it is stuck, and then a refusal is more use than a queue.
pub const REQUESTS_QUEUED_MAX: usize = 64;

/// One question to the control thread, with the way back for its answer.
#[derive(Debug)]
pub enum Request {
    /// One screen of everything.
    Status(Answer<Status>),
    /// All forwards, of the configuration and of the operator.
    ForwardList(Answer<Vec<Forward>>),
    /// Open a forward; it must be on stable storage before it is answered.
    ForwardAdd(ForwardSpec, Answer<Forward>),
    /// Close a runtime forward; one of the configuration is refused.
    ForwardRemove(ForwardProtocol, PortRange, Answer<Forward>),
    /// All leases and reservations.
    LeaseList(Answer<Vec<Lease>>),
    /// Tie an address to a MAC; it must be on stable storage before it is answered.
    LeaseReserve(Reservation, Answer<Lease>),
    /// Forget the lease and runtime reservation of an address.
    LeaseRelease(Ipv4Addr, Answer<Lease>),
    /// Sessions that match.
    FlowList(FlowFilter, Answer<Vec<Flow>>),
    /// End the sessions that match; the filter is never empty.
    FlowKill(FlowFilter, Answer<Killed>),
    /// Every host that was seen or holds a lease.
    HostList(Answer<Vec<Host>>),
    /// The WAN and its lease.
    WanShow(Answer<Wan>),
    /// Renew the WAN lease now; answered when the renewal has begun.
    WanRenew(Answer<Wan>),
    /// Give the WAN lease back and stay without one until a renewal is asked for.
    WanRelease(Answer<Wan>),
    /// What would become of this packet; changes nothing.
    Explain(Question, Answer<Explanation>),
    /// Drop counters that are not zero.
    DropList(Answer<Vec<Drop>>),
    /// The rules of the firewall with their counts, in file order.
    RuleList(Answer<Vec<Rule>>),
    /// Counters of the DNS forwarder.
    DnsShow(Answer<Dns>),
    /// Empty the DNS cache.
    DnsFlush(Answer<Dns>),
    /// Queues of the shaped links.
    QosShow(Answer<Vec<Shaper>>),
    /// Validate this TOML text without applying it.
    ConfigCheck(String, Answer<ConfigReport>),
    /// Read the configuration file again and apply it whole, or refuse it whole.
    ConfigReload(Answer<Reloaded>),
}

/// The way back for the answer to one request. Dropping it unanswered tells the client that the router
/// is stopping.
#[derive(Debug)]
pub struct Answer<T>(oneshot::Sender<Result<T, Problem>>);

impl<T> Answer<T> {
    /// Sends the answer; a client that is gone misses it.
    pub fn send(self, answer: Result<T, Problem>) {
        // The receiver is dropped when the client hung up or its time ran out; nobody is left to tell.
        let _ = self.0.send(answer);
    }
}

/// The control thread's end: requests in order of arrival.
pub type Requests = mpsc::Receiver<Request>;

/// The server's end: puts a request in the channel and wakes the control thread.
#[derive(Clone)]
pub struct ControlHandle {
    requests: mpsc::SyncSender<Request>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl ControlHandle {
    /// Makes the channel. `wake` is called after each request that went in; it must not block
    /// (`polling::Poller::notify` fits).
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> (Self, Requests) {
        let (requests, receiver) = mpsc::sync_channel(REQUESTS_QUEUED_MAX);
        (Self { requests, wake: Arc::new(wake) }, receiver)
    }

    /// Puts one request in the channel and waits for its answer.
    ///
    /// # Errors
    /// The control thread's own [`Problem`]; *busy* if the channel is full, or the thread is gone.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(request(Answer(answer))).map_err(|refused| match refused {
            mpsc::TrySendError::Full(_) => {
                Problem::busy(format!("{REQUESTS_QUEUED_MAX} requests wait already"))
            }
            mpsc::TrySendError::Disconnected(_) => Problem::busy("the router is stopping"),
        })?;
        (self.wake)();
        answered.await.unwrap_or_else(|_| Err(Problem::busy("the router is stopping")))
    }
}

impl std::fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlHandle").finish_non_exhaustive()
    }
}
