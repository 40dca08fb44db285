//! Fast tests: no machine, no cluster.

// SSH against a real sshd on loopback.
mod ssh;
// The SSM transport against a small model of the service and its agent.
mod ssm;
