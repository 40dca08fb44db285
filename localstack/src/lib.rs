//! A cloud on one machine: EC2, SSM, CloudWatch Logs, STS and the price list as AWS answers them, with real machines behind
//! them; and RunPod beside it, with real containers.
//!
//! It knows nothing of ORCA; they meet on the wire. Strict where AWS is strict: its refusals come first.

pub mod app;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod control;
pub mod ec2;
pub mod faults;
pub mod logs;
pub mod machine;
pub mod patch;
pub mod pricing;
pub mod runpod;
pub mod ssm;
pub mod sts;
#[cfg(test)]
pub mod testing;
pub mod world;
