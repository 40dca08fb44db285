//! The archive of container logs: what goes into CloudWatch Logs, and how `kubectl logs` is answered from it.
//!
//! This is the core: data in, data out, time as an argument.
//! Bytes of a log file become pieces of lines (`reader`, `cri`), pieces get their sequence numbers (`sequence`) and
//! become records (`record`), records are packed into calls (`batch`).
//! Where to read on is decided from listings of the log directory (`position`) and, after a restart, from what the
//! archive already holds (`recover`).
//! The way back: a request (`query`) is about one run of a container (`run`); records of its archive and of its live
//! file become one sequence (`merge`), and that the bytes that a kubelet would send (`render`).

pub mod cri;
pub mod reader;
pub mod stamp;

pub mod names;
pub mod record;
pub mod sequence;

pub mod batch;

pub mod machine;
pub mod position;
pub mod recover;

pub mod merge;
pub mod query;
pub mod render;
pub mod run;
pub mod splice;
pub mod stamped;

pub mod answer;
pub mod archiver;
pub mod store;

#[cfg(test)]
mod tests;
