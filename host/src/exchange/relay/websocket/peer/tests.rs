use std::future::poll_fn;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::protocol::WebSocket;

use super::*;
use crate::generation::{Generation, Status};
use crate::stats::{Asker, Registry};

fn shared() -> Arc<Shared> {
    let config = config::Config {
        gateway: config::Gateway::default(),
        channels: indexmap::IndexMap::new(),
        keys: config::Keys::default(),
    };
    let generation = Generation { number: 1, config, channels: indexmap::IndexMap::new(), router: None };
    Arc::new(Shared::new(Arc::new(generation), Status::default(), Arc::new(Registry::new(1)), Asker::nobody()).unwrap())
}

fn peer(stream: DuplexStream, shared: &Arc<Shared>) -> Peer<DuplexStream> {
    Peer::new(stream, Bytes::new(), Role::Server, &config::WebSocket::default(), shared)
}

/// A client's messages as bytes.
fn bytes_of(messages: &[Message]) -> Vec<u8> {
    let mut client = WebSocket::from_raw_socket(io::Cursor::new(Vec::new()), Role::Client, None);
    for message in messages {
        client.send(message.clone()).unwrap();
    }
    client.into_inner().into_inner()
}

async fn next(peer: &mut Peer<DuplexStream>) -> Message {
    poll_fn(|cx| peer.poll_message(cx)).await.unwrap()
}

async fn nothing_comes(peer: &mut Peer<DuplexStream>) -> bool {
    poll_fn(|cx| Poll::Ready(peer.poll_message(cx).is_pending())).await
}

#[tokio::test]
async fn a_buffer_that_a_large_message_has_grown_is_let_go_between_messages_only() {
    let (mut client, stream) = tokio::io::duplex(8 << 20);
    let shared = shared();
    let mut peer = peer(stream, &shared);
    let large = Message::binary(vec![7; 1 << 20]);
    let bytes = bytes_of(&[large.clone(), Message::text("next")]);
    // The next message has begun when the large one is complete.
    client.write_all(&bytes[..bytes.len() - 2]).await.unwrap();
    assert!(next(&mut peer).await == large);
    assert!(nothing_comes(&mut peer).await);
    assert!(peer.is_swollen, "a piece of a message is in it");
    client.write_all(&bytes[bytes.len() - 2..]).await.unwrap();
    assert_eq!(next(&mut peer).await, Message::text("next"));
    assert!(nothing_comes(&mut peer).await);
    assert!(!peer.is_swollen);
    client.write_all(&bytes_of(&[Message::text("after")])).await.unwrap();
    assert_eq!(next(&mut peer).await, Message::text("after"));
}

#[tokio::test]
async fn a_side_that_takes_no_pongs_is_not_read_for_ever() {
    let (mut client, stream) = tokio::io::duplex(256 << 10);
    let shared = shared();
    // What is written goes to somebody who never reads; what is read comes from another.
    let (_unread, blocked) = tokio::io::duplex(1 << 10);
    let stream = tokio::io::join(stream, blocked);
    let mut peer = Peer::new(stream, Bytes::new(), Role::Server, &config::WebSocket::default(), &shared);
    client.write_all(&bytes_of(&vec![Message::Ping(Bytes::from_static(&[7; 125])); 1000])).await.unwrap();
    let mut pings = 0;
    while poll_fn(|cx| Poll::Ready(peer.poll_message(cx).is_ready())).await {
        pings += 1;
        tokio::task::yield_now().await;
    }
    assert!((PONGS_MAX..2 * PONGS_MAX).contains(&pings), "{pings}");
}

#[tokio::test]
async fn a_long_message_goes_out_in_fragments_and_is_one_message_again() {
    let (reader, stream) = tokio::io::duplex(10_000);
    let mut peer = peer(stream, &shared());
    let mut client = tokio_tungstenite::WebSocketStream::from_raw_socket(reader, Role::Client, None).await;
    for message in [Message::text("é".repeat(FRAME_BYTES_MAX)), Message::binary(vec![7; 3 * FRAME_BYTES_MAX + 1])] {
        let given = message.clone();
        let sending = async {
            poll_fn(|cx| Poll::Ready(peer.give(given.clone(), None, cx))).await.unwrap();
            assert!(peer.link.is_blocked, "there is room for a part of it only");
            poll_fn(|cx| peer.poll_flush(cx)).await.unwrap();
        };
        let ((), heard) = tokio::join!(sending, futures_util::StreamExt::next(&mut client));
        assert!(heard.unwrap().unwrap() == message);
    }
}

#[tokio::test]
async fn the_budget_is_held_until_the_other_side_has_taken_the_message() {
    let held = |shared: &Shared| shared.message_bytes.load(std::sync::atomic::Ordering::Relaxed);
    let (mut client, stream) = tokio::io::duplex(8 << 20);
    let (mut reader, blocked) = tokio::io::duplex(1 << 10);
    let shared = shared();
    let (mut from, mut to) = (peer(stream, &shared), peer(blocked, &shared));
    client.write_all(&bytes_of(&[Message::binary(vec![7; 1 << 20])])).await.unwrap();
    let message = next(&mut from).await;
    assert!(held(&shared) >= 1 << 20);
    let mut reservation = from.take_reservation();
    poll_fn(|cx| Poll::Ready(to.give(message.clone(), reservation.take(), cx))).await.unwrap();
    assert!(held(&shared) >= 1 << 20, "nobody has taken it");
    let flushed = async {
        poll_fn(|cx| to.poll_flush(cx)).await.unwrap();
        drop(to);
    };
    let mut all = Vec::new();
    let ((), read) = tokio::join!(flushed, reader.read_to_end(&mut all));
    assert!(read.unwrap() > 1 << 20);
    assert_eq!(held(&shared), 0);
}

proptest! {
    #[test]
    fn strangers_bytes_end_in_messages_or_in_an_error(
        bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0x81), Just(0x01), Just(0x80), Just(0x88), Just(0x89), Just(0xfe), Just(0xff)],
            0..600,
        ),
        is_client in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut stranger, stream) = tokio::io::duplex(64 << 10);
            let role = if is_client { Role::Server } else { Role::Client };
            let mut peer = Peer::new(stream, Bytes::new(), role, &config::WebSocket::default(), &shared());
            stranger.write_all(&bytes).await.unwrap();
            drop(stranger);
            // The end of the stream is one.
            let error = poll_fn(|cx| {
                loop {
                    match ready!(peer.poll_message(cx)) {
                        Ok(Message::Close(_)) => return Poll::Ready(None),
                        Ok(message) => assert!(message.len() <= bytes.len()),
                        Err(error) => return Poll::Ready(Some(error)),
                    }
                }
            })
            .await;
            assert!(!matches!(error, Some(Error::AlreadyClosed | Error::WriteBufferFull(_))), "{error:?}");
            poll_fn(|cx| peer.poll_end(cx)).await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_message_comes_out_whole_however_its_bytes_arrive(
        sizes in prop::collection::vec(prop_oneof![0..300_usize, 60_000..70_000_usize, 100_000..200_000_usize], 1..8),
        cuts in prop::collection::vec(1..90_000_usize, 1..8),
    ) {
        let messages: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| {
                let letter = b'a' + index as u8;
                if size % 2 == 0 {
                    Message::binary(vec![letter; *size])
                } else {
                    Message::text(String::from_utf8(vec![letter; *size]).unwrap())
                }
            })
            .collect();
        let bytes = bytes_of(&messages);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut client, stream) = tokio::io::duplex(4 << 20);
            let mut peer = peer(stream, &shared());
            let mut heard = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                client.write_all(piece).await.unwrap();
                rest = after;
                // A task that never yields is told that there is nothing to read.
                tokio::task::yield_now().await;
                poll_fn(|cx| {
                    while let Poll::Ready(message) = peer.poll_message(cx) {
                        heard.push(message.unwrap());
                        peer.take_reservation();
                    }
                    Poll::Ready(())
                })
                .await;
                if rest.is_empty() {
                    break;
                }
            }
            assert!(heard == messages, "{} of {}", heard.len(), messages.len());
        });
    }
}
