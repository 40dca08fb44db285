//! Fast tests: no machine, no cluster.

#[expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
mod cli; // the binary and its exit codes
#[expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]
mod ec2; // the EC2 adapter against a loopback server
