//! Fast tests: no machine, no cluster.

// The node's HTTPS endpoint over real TLS, in front of a stand-in for a guest kubelet.
mod endpoint;
// Manifests and examples parse; permissions stay narrow.
mod manifests;
// Rules of the repository.
#[expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
mod cli; // the binary and its exit codes
#[expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]
mod ec2;
mod tidy; // the EC2 adapter against a loopback server
// SSH against a real sshd on loopback.
mod ssh;
// The SSM transport against a small model of the service and its agent.
mod ssm;
