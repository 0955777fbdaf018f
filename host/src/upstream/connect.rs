//! From an endpoint to a byte stream: name resolution, TCP, the egress proxy's tunnel, TLS.
//!
//! All of it runs under the connect timeout of whoever waits for it. Addresses are raced as RFC 8305 advises, with a
//! head start for each, so that one dead address of several costs a quarter of a second and not the timeout.
//! Connections know nothing of HTTP here.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::config::Endpoint;
use crate::error::{Failure, Kind};
use crate::gather;
use crate::stream::Stream;
use crate::upstream::proxy;
use crate::upstream::tls::Tls;

/// How long an address may take before the next one is tried beside it (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Reasoning models are silent for minutes: probes keep address translators from forgetting the connection.
const KEEPALIVE: Duration = Duration::from_secs(45);

/// What the two ends speak on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What is offered to an upstream in the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpn {
    Any,
    /// For what is to be switched to another protocol.
    Http1,
}

/// A connection that stands.
pub(super) struct Connected {
    pub(super) stream: Stream<Socket>,
    pub(super) protocol: Protocol,
    pub(super) probe: Probe,
}

/// Connects to the endpoint; the caller sets the limit in time.
pub(super) async fn connect(endpoint: &Endpoint, tls: &Tls, alpn: Alpn) -> Result<Connected, Failure> {
    let (host, port) = (endpoint.host.as_str(), endpoint.port);
    let tcp = if let Some(proxy) = &endpoint.proxy {
        let mut tcp = dial(&proxy.host, proxy.port).await.map_err(|error| {
            Failure::new(Kind::UpstreamUnreachable, "the egress proxy could not be reached")
                .because(format!("{proxy:?}: {error}"))
        })?;
        proxy::tunnel(&mut tcp, proxy, host, port).await?;
        tcp
    } else {
        dial(host, port).await.map_err(|error| {
            Failure::new(Kind::UpstreamUnreachable, "the upstream could not be reached")
                .because(format!("{host}:{port}: {error}"))
        })?
    };
    let probe = Probe::default();
    let socket = Socket { tcp, probe: probe.clone() };
    if !endpoint.tls {
        return Ok(Connected { stream: Stream::Plain(socket), protocol: Protocol::Http1, probe });
    }
    let stream = tls.wrap(endpoint, socket, alpn).await?;
    let protocol = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
    Ok(Connected { stream: Stream::Tls(Box::new(stream.into())), protocol, probe })
}

async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let tcp = if let Ok(address) = host.parse::<IpAddr>() {
        TcpStream::connect((address, port)).await?
    } else {
        race(alternate(tokio::net::lookup_host((host, port)).await?)).await?
    };
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))?;
    Ok(tcp)
}

/// The two address families in turn, beginning with the resolver's first choice.
fn alternate(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut ordered = VecDeque::new();
    loop {
        let pair = (preferred.next(), others.next());
        if pair == (None, None) {
            return ordered;
        }
        ordered.extend(pair.0.into_iter().chain(pair.1));
    }
}

/// The first address that answers; the last error if none does.
async fn race(mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    if addresses.len() < 2 {
        return TcpStream::connect(addresses.pop_front().ok_or_else(nowhere)?).await;
    }
    let mut attempts = JoinSet::new();
    let mut last_error = nowhere();
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.spawn_local(TcpStream::connect(address));
        }
        tokio::select! {
            finished = attempts.join_next() => match finished {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last_error = error,
                Some(Err(error)) => last_error = io::Error::other(error),
                None => return Err(last_error),
            },
            () = tokio::time::sleep(HEAD_START), if !addresses.is_empty() => {}
        }
    }
}

/// A request to look at the socket itself, once, before anything is written to it.
///
/// Whether an idle connection still stands is usually told by the event loop; but its news may be a moment old, and a
/// request written to a connection that the upstream has just closed cannot be repeated. Asking the kernel costs a
/// system call, so the pool asks only for connections that were quiet for a while.
#[derive(Clone, Default)]
pub(super) struct Probe(Arc<AtomicBool>);

impl Probe {
    pub(super) fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_requested(&self) -> bool {
        // Two plain accesses, not a swap: both sides are on one thread, the atomic only pleases `Send`.
        let requested = self.0.load(Ordering::Relaxed);
        if requested {
            self.0.store(false, Ordering::Relaxed);
        }
        requested
    }
}

pub(super) struct Socket {
    tcp: TcpStream,
    probe: Probe,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if read.is_pending() && self.probe.is_requested() {
            match SockRef::from(&self.tcp).peek(&mut [MaybeUninit::uninit()]) {
                // Reading nothing is how the end of the stream is said.
                Ok(0) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        gather::poll_write(&mut self.tcp, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::LocalOptions;

    use super::*;

    #[test]
    fn address_families_alternate() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mixed = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"].map(parse);
        let ordered = ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"].map(parse);
        assert_eq!(alternate(mixed.into_iter()), ordered);
    }

    #[test]
    fn a_dead_address_does_not_hide_a_living_one() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let living = listener.local_addr().unwrap();
            assert_eq!(race([dead, living].into()).await.unwrap().peer_addr().unwrap(), living);
            assert_eq!(race([dead, dead].into()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}
