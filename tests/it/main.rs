//! Fast tests: no machine, no cluster.
