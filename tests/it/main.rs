//! Fast tests: no machine, no cluster.

// The node's HTTPS endpoint over real TLS, in front of a stand-in for a guest kubelet.
mod endpoint;
// Manifests and examples parse; permissions stay narrow.
mod manifests;
// Rules of the repository.
mod tidy;
