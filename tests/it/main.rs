//! Fast tests: no machine, no cluster.

// The controller on a small API server, a cloud in memory and machines that only pretend.
#[cfg(test)]
mod lifecycle;
// The parts of that world.
#[cfg(test)]
mod support;
