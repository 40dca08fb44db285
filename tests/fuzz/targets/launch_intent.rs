//! The annotation with the launch intent, which anybody who may write to the Pod can write.
#![no_main]

use k8s_openapi::api::core::v1::Pod;
use orca::pod::intent::{ANNOTATION_LAUNCH, Intent};

libfuzzer_sys::fuzz_target!(|value: &str| {
    let mut pod = Pod::default();
    pod.metadata.annotations = Some([(ANNOTATION_LAUNCH.to_owned(), value.to_owned())].into());
    drop(Intent::read(&pod));
});
