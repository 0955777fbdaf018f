//! The client's socket, as hyper sees it.
//!
//! hyper answers what is not HTTP, and heads that are too large, by itself and without a word: here its reply is replaced
//! by one in the gateway's error format. And a connection is not closed under a client that still sends, since that would
//! reset it and take the last reply along: what comes is read for a moment and thrown away.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Asked, Connection, Phase};
use crate::error::{Failure, Kind};
use crate::exchange::relay::REQUEST_ID;
use crate::exchange::worker::Worker;
use crate::gather;
use crate::stream::Stream;

/// A reply of the gateway's own, as bytes, where there is no exchange to answer; the connection ends with it.
pub fn refusal(failure: &Failure, request_id: &str) -> Bytes {
    let body = failure.to_json(request_id);
    let retry_after = failure.retry_after_s.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\n{REQUEST_ID}: {request_id}\r\n{retry_after}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        failure.status(),
        body.len()
    )
    .into()
}

/// The client's socket, noting when a head begins to come.
pub(super) struct ClientIo {
    pub(super) stream: Stream<TcpStream>,
    pub(super) connection: Rc<Connection>,
    pub(super) worker: Rc<Worker>,
    pub(super) is_http2: bool,
    /// What is left to write of the gateway's reply in place of hyper's.
    pub(super) refusal: Bytes,
}

impl ClientIo {
    /// Whether what hyper writes now is its own: no service was asked, and all that services answered is out.
    fn is_hypers_own(&self) -> bool {
        !self.is_http2 && self.connection.active.get() == 0 && !self.connection.unflushed.get()
    }

    /// Takes hyper's reply in its stead.
    fn replace(&mut self, hypers: &[u8]) {
        let failure = if hypers.starts_with(b"HTTP/1.1 400") {
            Failure::new(Kind::MalformedRequest, "the request is not valid HTTP")
        } else {
            Failure::new(Kind::HeadTooLarge, "the request's head is larger than the gateway accepts")
        };
        self.refusal = refusal(&failure, &self.worker.next_request_id());
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.refusal.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.refusal))?;
            let _ = self.refusal.split_to(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has closed its side too. The worker's sweep sees to it that this does not take long.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.connection.phase.get() != Phase::Lingering {
            self.connection.enter(Phase::Lingering);
        }
        let mut bytes = [MaybeUninit::uninit(); 4096];
        loop {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        // Over HTTP/2 bytes between requests are frames of the connection's own.
        let has_come = !self.is_http2 && buffer.filled().len() > before;
        if has_come && self.connection.phase.get() == Phase::Idle {
            self.connection.enter(Phase::Head);
        }
        result
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_hypers_own() {
            self.replace(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.connection.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_hypers_own() {
            self.replace(slices.first().map_or(&[], |slice| slice));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = match &mut self.stream {
            Stream::Plain(tcp) => gather::poll_write(tcp, cx, slices),
            // Pieces are joined into records anyway.
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        self.connection.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        if self.connection.active.get() == 0 {
            self.connection.unflushed.set(false);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        if self.connection.phase.get() != Phase::Lingering {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        // A connection that the worker ends was idle: nobody sends.
        if !self.is_http2 && self.connection.asked.get() == Asked::Nothing {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
