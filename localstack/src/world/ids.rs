//! New ids.

use rand::RngExt;

/// `prefix-` and 17 hexadecimal digits.
#[must_use]
pub fn fresh(prefix: &str) -> String {
    let random: u128 = rand::rng().random();
    format!("{prefix}-0{:016x}", random & u128::from(u64::MAX))
}

/// `prefix-` and 8 hexadecimal digits.
#[must_use]
pub fn fresh_short(prefix: &str) -> String {
    let random: u32 = rand::rng().random();
    format!("{prefix}-{random:08x}")
}

/// A MAC address of the range that EC2 uses for itself.
#[must_use]
pub fn fresh_mac() -> String {
    let random: [u8; 5] = rand::rng().random();
    let rest: Vec<String> = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("02:{}", rest.join(":"))
}
