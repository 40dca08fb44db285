//! Fast tests: no machine, no cluster.

#[expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]
mod ec2; // the EC2 adapter against a loopback server
