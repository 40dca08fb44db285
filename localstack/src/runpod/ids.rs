//! New ids: lower-case letters and digits, as RunPod's are.

use rand::RngExt;

/// So many characters.
#[must_use]
pub fn fresh(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}
