//! New TCP connections: connect, one byte, close.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::Namespace;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

const PORT: u16 = 20_999;

/// Clients, each of which waits for the end of a connection before it begins the next.
const CLIENTS: usize = 8;

/// Threads that take connections in.
const SERVERS: usize = 2;

/// How long a server waits for a connection before it looks whether all is over.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Longest time that one connection may take: a lost SYN costs a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody who takes connections in, reads a byte and closes.
pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    /// Listens.
    pub(crate) fn open(namespace: &Namespace) -> Result<Self> {
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT));
        let listener = namespace.enter(listen)?.context("listen for connections")?;
        set_socket_timeout(&listener, Timeout::Recv, Some(LOOK_UP))?;
        Ok(Self { listener })
    }

    /// Lets `host` open connections to `address` for `time`; how many were opened and closed.
    pub(crate) fn serve(&self, host: &Namespace, address: &str, time: Duration) -> Result<usize> {
        let address: Ipv4Addr = address.parse().context("an IPv4 address")?;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..SERVERS {
                scope.spawn(|| answer(&self.listener, &is_over));
            }
            let opened = host.enter(|| open_all((address, PORT).into(), time));
            is_over.store(true, Ordering::Relaxed);
            opened?.context("open connections")
        })
    }
}

/// The server closes first, so that the client's ports are free at once.
fn answer(listener: &TcpListener, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        // An error says that nobody came for a while.
        if let Ok((mut stream, _)) = listener.accept() {
            // A client that gave up is not counted, whatever became of its byte.
            let _ = stream.read(&mut [0]);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a development edge: real peers take real time")]
fn open_all(address: SocketAddr, time: Duration) -> std::io::Result<usize> {
    let start = Instant::now();
    let client = || -> std::io::Result<usize> {
        let mut count = 0;
        while start.elapsed() < time {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&[1])?;
            // 0 is its end.
            count += usize::from(stream.read(&mut [0])? == 0);
        }
        Ok(count)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).sum()
    })
}

#[cfg(test)]
mod tests {
    use lab::Lab;

    use super::*;

    #[test]
    fn connections_are_opened_one_after_another() {
        let lab = Lab::new("connect").unwrap();
        let host = lab.namespace("host").unwrap();
        let server = Server::open(&host).unwrap();
        for _ in 0..2 {
            let opened = server.serve(&host, "127.0.0.1", Duration::from_millis(50)).unwrap();
            assert!(opened > CLIENTS, "{opened}");
        }
    }
}
