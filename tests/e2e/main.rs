//! End-to-end tests on a real control plane and real machines.

fn main() {}
