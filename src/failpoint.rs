//! Failpoints: the instants before and after every write to the API server and every call that changes the cloud.
//!
//! A process of a debug build can be told to die at one of them as `kill -9` would have it, or to hang there; whoever
//! starts it next must find its way. A release build has none of this: [`around`] is then the call alone.
//! Names are in one list, [`Write`]; `make chaos` goes through all of them.

#[cfg(debug_assertions)]
mod armed;

#[cfg(debug_assertions)]
pub use armed::{Failpoint, arm};

macro_rules! writes {
    ($($name:literal $variant:ident: $what:literal,)+) => {
        /// Something that is changed outside of this process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Write { $(#[doc = $what] $variant,)+ }

        #[cfg(debug_assertions)]
        impl Write {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As it is armed and recorded.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

writes! {
    "launch.intent" Intent: "The launch intent, to the pod.",
    "launch.run-instances" RunInstances: "RunInstances.",
    "launch.record" Record: "The instance's id, to the pod.",
    "machine.pin" Pin: "CreateTags: the host key.",
    "machine.session" Session: "StartSession.",
    "machine.bootstrap" Bootstrap: "Files and the start of the kubelet, to the machine.",
    "machine.evict" Evict: "The end of an earlier process's SSH session, on the machine.",
    "machine.switch-off" SwitchOff: "The command that switches a machine off.",
    "machine.terminate" Terminate: "TerminateInstances.",
    "leftover.volume" DeleteVolume: "DeleteVolume.",
    "leftover.interface" DeleteInterface: "DeleteNetworkInterface.",
    "pod.status" Status: "The status of a pod, by ORCA.",
    "pod.delete" DeletePod: "The end of a pod's object, by ORCA.",
    "pod.event" PodEvent: "An event about a pod.",
    "guest.status" GuestStatus: "The status of a pod, by its kubelet.",
    "guest.delete" GuestDelete: "The end of a pod's object, by its kubelet.",
    "guest.token" GuestToken: "A token of the pod's service account.",
    "guest.event" GuestEvent: "An event of a kubelet.",
    "node.create" NodeCreate: "The Node.",
    "node.metadata" NodeMetadata: "Labels, taints and the like of the Node.",
    "node.status" NodeStatus: "The Node's status.",
    "node.event" NodeEvent: "An event about the Node.",
    "node.lease" NodeLease: "The Node's Lease.",
    "leader.lease" LeaderLease: "The Lease that says who acts.",
    "keys.create" Keys: "The Secret with the keys.",
    "certificate.request" Certificate: "The request for a serving certificate.",
    "logs.group" LogGroup: "CreateLogGroup.",
    "logs.retention" LogRetention: "PutRetentionPolicy.",
    "logs.stream" LogStream: "CreateLogStream.",
    "logs.put" LogPut: "PutLogEvents.",
}

/// Makes the call, with a failpoint before and one after it.
pub async fn around<T>(write: Write, call: impl Future<Output = T>) -> T {
    #[cfg(debug_assertions)]
    armed::hit(write, armed::Side::Before).await;
    let answer = call.await;
    #[cfg(debug_assertions)]
    armed::hit(write, armed::Side::After).await;
    #[cfg(not(debug_assertions))]
    let _ = write;
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_unique_and_plain() {
        let names: BTreeSet<&str> = Write::ALL.iter().map(|write| write.name()).collect();
        assert_eq!(names.len(), Write::ALL.len());
        for name in names {
            let is_plain = |part: &str| part.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            assert!(name.split('.').count() == 2 && name.split('.').all(is_plain), "{name}");
        }
    }

    fn sources(folder: &Path) -> String {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let texts = entries.map(|path| {
            if path.is_dir() {
                sources(&path)
            } else if path.ends_with("failpoint.rs") || path.ends_with("armed.rs") {
                String::new()
            } else {
                std::fs::read_to_string(path).unwrap()
            }
        });
        texts.collect()
    }

    #[test]
    fn every_failpoint_is_somewhere() {
        let all = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        for write in Write::ALL {
            assert!(all.contains(&format!("Write::{write:?}")), "`{}` is nowhere", write.name());
        }
    }
}
