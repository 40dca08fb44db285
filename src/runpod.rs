//! Pods on RunPod: one container, without a kubelet beside it.
//!
//! On EC2 an unmodified kubelet runs the pod. On RunPod there is no room for one, so what a kubelet would do is done
//! here, as far as it can be done from outside: reading the Pod (`sketch`), its environment (`env`), the command in
//! front of the container that tells how it ended (`wrapper`), what is known of the container (`evidence`), and the
//! status that says so (`status`).
//! What cannot be done is refused, naming the field.
//!
//! All of it is data in and data out; nothing here talks to RunPod, the API server or a clock.

pub mod env;
pub mod evidence;
mod fields;
pub mod sketch;
pub mod status;
pub mod ward;
pub mod wrapper;
