//! Sockets: listening, and connections that can be made to end with a TCP reset.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Phase, Shared, respond};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: u32 = 16_384;

pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that died can be started again on its port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared), phase.clone()));
                }
                // Out of file descriptors, or the client has gone already: neither is a reason to stop.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            _ = connections.join_next(), if !connections.is_empty() => {}
            changed = phase.changed() => if changed.is_err() || *phase.borrow() != Phase::Running { break },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A connection that can be made to end with a TCP reset.
struct Connection {
    io: TokioIo<TcpStream>,
    reset: Arc<AtomicBool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // If it fails the connection ends without a reset, which still is an end without an answer.
            let _ = self.io.inner().set_zero_linger();
        }
    }
}

impl hyper::rt::Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            // An orderly end first would take the reset's place.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    // Chunks are small and each is to be seen when it is sent.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let io = Connection { io: TokioIo::new(stream), reset: Arc::clone(&reset) };
    let service = service_fn(move |request| respond(request, Arc::clone(&shared), Arc::clone(&reset)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Clients may keep idle connections as long as they like.
        .header_read_timeout(None)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    loop {
        let now = *phase.borrow_and_update();
        match now {
            Phase::Running => {}
            Phase::Stopping => connection.as_mut().graceful_shutdown(),
            Phase::Killed => return,
        }
        tokio::select! {
            // An error is the client's going away, or one of the faults the scenario asked for.
            _ = connection.as_mut() => return,
            changed = phase.changed() => if changed.is_err() { return },
        }
    }
}
