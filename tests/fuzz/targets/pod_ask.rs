//! A Pod's annotations, as its owner writes them: one line each, key and value split by the first space.
#![no_main]

use k8s_openapi::api::core::v1::Pod;
use orca::config::Instances;

libfuzzer_sys::fuzz_target!(|lines: &str| {
    let split = lines.lines().filter_map(|line| line.split_once(' '));
    let mut pod = Pod::default();
    pod.metadata.annotations = Some(split.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
    drop(orca::pod::ask::ask(&pod, &[], "nvidia.com/gpu", &Instances::default()));
});
