//! Sound, as far as the demo upstream makes it and hears it: 16-bit samples of one channel, whatever format is asked
//! for.
//!
//! What is heard is counted and forgotten.

/// How many samples a byte of text is held for.
const SAMPLES_EACH: usize = 8;
const BYTES_EACH: usize = 2;

/// The sound of a text: each of its bytes, in UTF-8, as eight equal little-endian samples. Every sixteenth byte of it is
/// the text again.
pub fn of_text(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| [[byte, 0]; SAMPLES_EACH]).flatten().collect()
}

/// How long so many bytes of sound are.
pub fn milliseconds(bytes: u64, samples_per_second: u64) -> u64 {
    bytes * 1000 / (samples_per_second.max(1) * BYTES_EACH as u64)
}

/// What has been heard of somebody who speaks.
#[derive(Debug, Default)]
pub struct Ear {
    pub bytes: u64,
    /// Zeros at the end.
    silent_bytes: u64,
    pub has_heard_sound: bool,
}

impl Ear {
    pub fn hear(&mut self, sound: &[u8]) {
        self.bytes += sound.len() as u64;
        if let Some(last) = sound.iter().rposition(|&byte| byte != 0) {
            self.has_heard_sound = true;
            self.silent_bytes = (sound.len() - 1 - last) as u64;
        } else {
            self.silent_bytes += sound.len() as u64;
        }
    }

    /// Whether there was something to hear, and then silence for so long.
    pub fn has_heard_an_end(&self, silence_ms: u64, samples_per_second: u64) -> bool {
        self.has_heard_sound && milliseconds(self.silent_bytes, samples_per_second) >= silence_ms
    }

    /// How a model refers to what it has heard, as if somebody had said so.
    pub fn transcript(&self) -> String {
        format!("{} bytes of sound", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_can_be_read_out_of_its_sound() {
        let sound = of_text("héllo");
        assert_eq!(sound.len(), 6 * 16);
        assert_eq!(sound.into_iter().step_by(16).collect::<Vec<_>>(), "héllo".as_bytes());
    }

    #[test]
    fn silence_ends_what_was_said_however_it_is_cut() {
        let mut ear = Ear::default();
        ear.hear(&[0; 3200]);
        assert!(!ear.has_heard_an_end(50, 16_000), "nothing has been said yet");
        ear.hear(&[1, 0, 0]);
        for _ in 0..15 {
            ear.hear(&[0; 100]);
        }
        assert!(!ear.has_heard_an_end(50, 16_000));
        ear.hear(&[0; 100]);
        assert!(ear.has_heard_an_end(50, 16_000));
        assert_eq!((ear.bytes, ear.transcript().as_str()), (4803, "4803 bytes of sound"));
    }
}
