//! A cloud on one machine: EC2, SSM and STS as AWS answers them, with real machines behind them.
//!
//! It knows nothing of ORCA; they meet on the wire. Strict where AWS is strict: its refusals come first.

pub mod clock;
pub mod machine;
pub mod ssm;
