//! Fast tests: no machine, no cluster.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

// The fuzz targets name the macro by its crate.
extern crate self as libfuzzer_sys;

// The documented annotations are read as documented.
mod annotations;
// What was done to the cloud is on record.
mod audit;
// What is planned and what is reserved, against the local cloud.
mod capacity;
// The inputs that fuzzing kept.
#[expect(unused_attributes, reason = "programs by themselves elsewhere")]
mod corpus;
// The endpoint's certificate by CertificateSigningRequest.
mod certificate;
// The judge of `make chaos` can find fault, and its storm follows from a seed.
mod chaos;
// The binary's command line and its exit codes.
mod cli;
// The documentation keeps up with the code.
mod docs;
// The EC2 adapter against a loopback server.
mod ec2;
// The node's HTTPS endpoint over real TLS, in front of a stand-in for a guest kubelet.
mod endpoint;
// GPUs: the script of machines with a stand-in for nvidia-smi, up to series and events.
mod gpu;
// A leader whose fence has closed, and one that is asked to stop.
mod leader;
// Pods from binding to their end: the controller on an API server and a cloud in memory, on a paused clock.
mod lifecycle;
// Manifests and examples parse; permissions stay narrow.
mod manifests;
// Alert rules and the dashboard ask for what there is.
mod monitoring;
// Which machines pods would get, offline.
mod plan;
// The RunPod adapter against a loopback server.
mod runpod;
// SSH against a real sshd on loopback.
mod ssh;
// The SSM transport against a small model of the service and its agent.
mod ssm;
// Exec and port-forward as ORCA speaks them itself, into a real sshd.
mod streams;
// The world of `lifecycle`.
mod support;
// Rules of the repository.
mod tidy;
// Traces as a collector gets them.
mod traces;
