//! How a relay ends, and what each side is told then.
//!
//! A close passes on as it came. A side that breaks the protocol is told why; the other side has done nothing wrong and
//! is only told that it is over: the upstream that the client went away (1001), the client that its provider failed
//! (1011), or which limit was exceeded.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::peer::Peer;
use crate::exchange::settle::{Closing, Party};

/// How long the answer to a close frame may take, or the next piece of what lies before it.
const CLOSE_WAIT: Duration = Duration::from_secs(10);
/// How long a peer may take to close its side after ours.
const LINGER: Duration = Duration::from_secs(2);

/// What tungstenite makes of a close code that nobody may send.
const VIOLATION: &str = "Protocol violation";

/// Why a relay is over.
#[derive(Debug)]
pub enum End {
    /// A side said goodbye.
    Closed(Party, Option<CloseFrame>),
    /// A side is not there any more.
    Vanished(Party),
    /// A side did what it may not.
    Broke(Party, CloseCode, &'static str),
    /// The gateway ends it; with or without a limit to the wait for the answers.
    Ended { code: CloseCode, why: &'static str, is_patient: bool },
}

/// What is still to be done with one side.
#[derive(Debug, PartialEq, Eq)]
pub enum Parting {
    /// It said goodbye, and the answer is queued.
    Answer,
    /// It is told, and answers.
    Say(Option<CloseFrame>),
    /// It is told, and nothing more of it can be understood.
    Cut(CloseFrame),
    Gone,
}

impl End {
    /// What a close frame from a side means.
    pub fn of_close(close: Option<CloseFrame>, side: Party) -> Self {
        match close {
            Some(close) if close.code == CloseCode::Protocol && close.reason.as_str() == VIOLATION => {
                Self::Broke(side, CloseCode::Protocol, "a close code that nobody may send")
            }
            close => Self::Closed(side, close),
        }
    }

    /// What a failed reading from a side means.
    pub fn of(error: &Error, side: Party, is_over_budget: bool) -> Self {
        if is_over_budget {
            return Self::Broke(side, CloseCode::Again, "the gateway holds too many unfinished messages; try again");
        }
        match error {
            Error::Capacity(_) => Self::Broke(side, CloseCode::Size, "a message is larger than the gateway accepts"),
            Error::Utf8(_) => Self::Broke(side, CloseCode::Invalid, "a text is not valid UTF-8"),
            Error::Protocol(error) if !is_end_of_stream(error) => {
                Self::Broke(side, CloseCode::Protocol, "a frame breaks the WebSocket protocol")
            }
            _ => Self::Vanished(side),
        }
    }

    /// What the client is told, and what the upstream.
    pub fn partings(&self) -> (Parting, Parting) {
        use Party::{Client, Upstream};
        let say = |code, why| Parting::Say(Some(frame(code, why)));
        match self {
            Self::Closed(Client, close) => (Parting::Answer, Parting::Say(close.clone())),
            Self::Closed(Upstream, close) => (Parting::Say(close.clone()), Parting::Answer),
            Self::Vanished(Client) => (Parting::Gone, client_gone()),
            Self::Vanished(Upstream) => (upstream_failed(), Parting::Gone),
            Self::Broke(Client, code, why) => (Parting::Cut(frame(*code, why)), client_gone()),
            Self::Broke(Upstream, code, why) => {
                let told = match code {
                    CloseCode::Size | CloseCode::Again => say(*code, why),
                    _ => upstream_failed(),
                };
                (told, Parting::Cut(frame(*code, why)))
            }
            Self::Ended { code, why, .. } => (say(*code, why), say(*code, why)),
            Self::Closed(Party::Gateway, _) | Self::Vanished(Party::Gateway) | Self::Broke(Party::Gateway, ..) => {
                unreachable!("the gateway is no side")
            }
        }
    }

    /// For the log and the statistics.
    pub fn closing(&self) -> Closing {
        match self {
            Self::Closed(by, close) => Closing {
                by: *by,
                // RFC 6455, section 7.4.1: no code was given.
                code: close.as_ref().map_or(1005, |close| close.code.into()),
                why: None,
                is_orderly: true,
            },
            // … and no frame came.
            Self::Vanished(by) => Closing { by: *by, code: 1006, why: None, is_orderly: false },
            Self::Broke(side, code, why) => Closing {
                by: Party::Gateway,
                code: code.into(),
                why: Some(if *side == Party::Client { ("client", *why) } else { ("upstream", *why) }),
                is_orderly: false,
            },
            Self::Ended { code, why, .. } => {
                Closing { by: Party::Gateway, code: code.into(), why: Some(("gateway", *why)), is_orderly: false }
            }
        }
    }

    /// Whether the answers are waited for as long as the worker lives.
    pub fn is_patient(&self) -> bool {
        matches!(self, Self::Ended { is_patient: true, .. })
    }
}

/// tungstenite tells the end of a stream among the faults of the protocol.
fn is_end_of_stream(error: &tokio_tungstenite::tungstenite::error::ProtocolError) -> bool {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    matches!(error, ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing)
}

fn client_gone() -> Parting {
    Parting::Say(Some(frame(CloseCode::Away, "the client is gone")))
}

fn upstream_failed() -> Parting {
    Parting::Say(Some(frame(CloseCode::Error, "the upstream broke the connection off")))
}

fn frame(code: CloseCode, why: &'static str) -> CloseFrame {
    CloseFrame { code, reason: Utf8Bytes::from_static(why) }
}

/// Ends one side; what it still says until it answers is not passed on, but noted.
pub async fn part<S>(mut peer: Peer<S>, parting: Parting, is_patient: bool, mut note: impl FnMut(&Message))
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match parting {
        Parting::Gone => return,
        Parting::Answer => {}
        Parting::Cut(frame) => {
            // Nothing more of what it began will be read.
            drop(peer.take_reservation());
            say(&mut peer, Some(frame)).await;
        }
        Parting::Say(frame) => {
            say(&mut peer, frame).await;
            loop {
                let closed = poll_fn(|cx| peer.poll_closed(cx, &mut note));
                if is_patient {
                    closed.await;
                    break;
                }
                let is_over = timeout(CLOSE_WAIT, closed).await.is_ok();
                // A slow reader takes what lies before the close piece by piece.
                if is_over || !peer.was_moving() {
                    break;
                }
            }
        }
    }
    let _ = timeout(LINGER, poll_fn(|cx| peer.poll_end(cx))).await;
}

async fn say<S>(peer: &mut Peer<S>, mut frame: Option<CloseFrame>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        peer.close(frame.take(), cx);
        Poll::Ready(())
    })
    .await;
}
