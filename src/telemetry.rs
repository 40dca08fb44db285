//! Logs, metrics, traces and health: what ORCA says about itself.
//!
//! [`Telemetry`] owns the metrics of every area as handles that are cheap to clone and give away; it knows nothing
//! of what is measured. Label values come from bounded sets: never the name of a pod or of an instance.

mod health;
mod logs;
mod metrics;
mod process;
mod registry;
mod traces;

pub use health::{Check, Health, Probe};
pub use logs::init as init_logs;
pub use metrics::{CloudCalls, FORMAT, Telemetry};
pub use registry::{Described, Registry};
pub use traces::{Exporter, Metrics as TraceMetrics, Part, Span, Traces};
