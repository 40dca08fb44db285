//! Leader election by a Lease: of several processes with the same node, one acts.
//!
//! What to do next is decided by `elector`, which is pure; `campaign` talks to the API server. Whoever changes something
//! asks the [`Fence`] right before, which closes by itself when the Lease was not renewed in time; [`guarded`] does so
//! for all requests of a client of the API server. [`watchdog`] ends a process that does not notice that it has lost.
//! Nothing here knows what a leader does.

mod campaign;
mod elector;
mod fence;
mod guard;
mod metrics;
mod record;
mod watchdog;

pub use campaign::{Candidate, Election, Role};
pub use elector::Lost;
pub use fence::{Fence, Fenced};
pub use guard::{Guard, Guarded, guarded};
pub use metrics::Metrics;
pub use watchdog::watchdog;
