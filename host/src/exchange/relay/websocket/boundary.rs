//! Where frames and messages end in the bytes that come from a peer.
//!
//! tungstenite does not say how much of a message it holds, and keeps the memory of the largest one for ever. Following
//! the frames' headers beside it tells both how much is being assembled, and when nothing is, so that the memory can be
//! let go. Nothing is judged here: what breaks the protocol is tungstenite's to refuse.

/// The longest header: two bytes, a length of eight, a mask of four (RFC 6455, section 5.2).
const HEADER_BYTES_MAX: usize = 14;

/// How far the bytes have come.
#[derive(Debug, Default)]
pub struct Boundary {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// Of the frame's payload, what has not come yet.
    payload_left: u64,
    /// The frame ends a message, once it is complete.
    is_last: bool,
    /// Of the message under way, its finished frames and what has come of the next.
    message_bytes: u64,
    /// Of the control frame under way, what has come. It should be short, but who knows.
    control_bytes: u64,
    is_control: bool,
    /// Fragments of a message have come, and not its last one.
    is_fragmented: bool,
}

impl Boundary {
    /// Takes the next bytes in.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let count = bytes.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= count as u64;
                if self.is_control {
                    self.control_bytes += count as u64;
                } else {
                    self.message_bytes += count as u64;
                }
                bytes = &bytes[count..];
            } else {
                let wanted = header_length(&self.header[..self.header_bytes]);
                let count = bytes.len().min(wanted - self.header_bytes);
                self.header[self.header_bytes..self.header_bytes + count].copy_from_slice(&bytes[..count]);
                self.header_bytes += count;
                bytes = &bytes[count..];
                let header = &self.header[..self.header_bytes];
                if self.header_bytes < header_length(header) {
                    continue;
                }
                self.is_control = header[0] & 0x08 != 0;
                self.is_last = header[0] & 0x80 != 0;
                self.payload_left = payload_length(header);
                self.header_bytes = 0;
            }
            if self.payload_left == 0 && self.header_bytes == 0 {
                self.end_frame();
            }
        }
    }

    fn end_frame(&mut self) {
        self.control_bytes = 0;
        if !self.is_control {
            self.is_fragmented = !self.is_last;
            if self.is_last {
                self.message_bytes = 0;
            }
        }
    }

    /// Bytes of what is not complete.
    pub fn incomplete_bytes(&self) -> u64 {
        self.message_bytes + self.control_bytes
    }

    /// Nothing has come but whole messages and whole control frames.
    pub fn is_clear(&self) -> bool {
        self.header_bytes == 0 && self.payload_left == 0 && !self.is_fragmented
    }
}

/// How long the header is, as far as its beginning tells: never less than it will be, once two bytes are known.
fn header_length(header: &[u8]) -> usize {
    let Some(second) = header.get(1) else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    2 + length + mask
}

fn payload_length(header: &[u8]) -> u64 {
    let be = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    match header[1] & 0x7f {
        126 => be(&header[2..4]),
        127 => be(&header[2..10]),
        short => u64::from(short),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame's bytes; `first` is FIN and opcode.
    fn frame(first: u8, payload_bytes: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload_bytes {
            0..=125 => bytes.push(mask | payload_bytes as u8),
            126..=0xffff => {
                bytes.push(mask | 0x7e);
                bytes.extend((payload_bytes as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 0x7f);
                bytes.extend((payload_bytes as u64).to_be_bytes());
            }
        }
        if is_masked {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.resize(bytes.len() + payload_bytes, 0xff);
        bytes
    }

    #[test]
    fn a_message_is_over_with_its_last_fragment_and_control_frames_do_not_count() {
        let mut boundary = Boundary::default();
        boundary.pass(&frame(0x01, 300, true));
        assert_eq!((boundary.incomplete_bytes(), boundary.is_clear()), (300, false));
        boundary.pass(&frame(0x89, 5, true));
        assert_eq!((boundary.incomplete_bytes(), boundary.is_clear()), (300, false));
        boundary.pass(&frame(0x00, 70_000, true));
        assert_eq!((boundary.incomplete_bytes(), boundary.is_clear()), (70_300, false));
        boundary.pass(&frame(0x80, 0, true));
        assert_eq!((boundary.incomplete_bytes(), boundary.is_clear()), (0, true));
        boundary.pass(&frame(0x8a, 0, false));
        assert!(boundary.is_clear());
    }

    proptest! {
        #[test]
        fn it_is_clear_after_every_whole_message_however_the_bytes_are_cut(
            frames in prop::collection::vec((0..3_usize, 0..400_usize, any::<bool>()), 1..12),
            cuts in prop::collection::vec(1..50_usize, 1..20),
        ) {
            let mut bytes = Vec::new();
            for (kind, payload_bytes, is_masked) in frames {
                match kind {
                    0 => bytes.extend(frame(0x82, payload_bytes, is_masked)),
                    1 => bytes.extend(frame(0x89, payload_bytes.min(125), is_masked)),
                    _ => {
                        bytes.extend(frame(0x01, payload_bytes, is_masked));
                        bytes.extend(frame(0x80, payload_bytes, is_masked));
                    }
                }
            }
            let mut boundary = Boundary::default();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                boundary.pass(piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(boundary.is_clear());
            prop_assert_eq!(boundary.incomplete_bytes(), 0);
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            Boundary::default().pass(&bytes);
        }
    }
}
