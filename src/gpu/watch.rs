//! Keeps one command running on each machine with GPUs, and reads what it prints into the book.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Gpus, Owner, sample};
use crate::informer::PodInformer;
use crate::link::{LinkState, Links};
use crate::pod::decide::Note;
use crate::tunnel::ByteStream;
use crate::{clock, gateway, guest};

/// How often the GPUs are read.
const PERIOD: Duration = Duration::from_secs(10);
/// A command that says nothing for so long is started again: the driver hangs, or the connection does.
const SILENCE: Duration = Duration::from_secs(60);
const OPEN: Duration = Duration::from_secs(20);
/// After a command that ended; doubled each time that nothing was read, up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(300);
/// Longer lines are cut.
const LONGEST: u64 = 4096;
/// How often machines are looked for, besides being told of them.
const LOOK: Duration = Duration::from_secs(30);

/// Tells a pod something, as an event.
pub type Tell = Arc<dyn Fn(ObjectReference, Note) + Send + Sync>;

/// What the watch stands on.
#[derive(Clone)]
pub struct Watch {
    pub gpus: Gpus,
    pub links: Arc<dyn Links>,
    pub pods: Arc<PodInformer>,
    pub tell: Tell,
    /// The extended resource that stands for GPUs.
    pub gpu_resource: String,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// The tasks of machines, by pod UID.
type Tasks = HashMap<String, AbortOnDropHandle<()>>;

impl Watch {
    /// Watches until it is dropped.
    pub async fn run(self) {
        let mut changes = self.links.subscribe();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tasks = Tasks::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Whatever it was: every machine is looked at. No change is told any more at the very end alone.
                changed = changes.recv() => if changed == Err(RecvError::Closed) { return },
            }
            self.sync(&mut tasks);
        }
    }

    /// One task for each machine with GPUs, none for those that are gone.
    fn sync(&self, tasks: &mut Tasks) {
        let uids = self.links.uids();
        tasks.retain(|uid, _| {
            let stays = uids.contains(uid);
            if !stays {
                self.gpus.forget(uid);
            }
            stays
        });
        for uid in uids {
            if !tasks.contains_key(&uid) && self.instance(&uid).is_some() {
                let watch = self.clone().follow(uid.clone());
                tasks.insert(uid, AbortOnDropHandle::new(tokio::spawn(watch)));
            }
        }
    }

    /// The instance of a pod, if its kubelet is attached and it has NVIDIA's GPUs.
    fn instance(&self, uid: &str) -> Option<String> {
        let status = self.links.status(uid)?;
        let is_attached = matches!(status.state, LinkState::Attached { .. });
        (is_attached && status.has_nvidia).then_some(status.instance_id)
    }

    /// Follows the GPUs of one machine, command after command.
    async fn follow(self, uid: String) {
        let command = guest::watch_gpus(sample::COLUMNS, PERIOD);
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(instance) = self.instance(&uid) {
                match self.links.command(&uid, &command, OPEN).await {
                    Ok(stream) => {
                        if self.listen(&uid, &instance, stream).await {
                            pause = FIRST_PAUSE;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(pod.uid = uid, instance.id = instance, %error, "the GPUs cannot be watched");
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Reads a command's lines until it ends or falls silent; whether there were any.
    async fn listen(&self, uid: &str, instance: &str, stream: ByteStream) -> bool {
        let Some(pod) = self.pods.by_uid(uid) else { return false };
        let (owner, about) = (owner(&pod, instance, &self.gpu_resource), reference(&pod));
        let mut lines = BufReader::new(stream).take(LONGEST);
        let mut any = false;
        let mut line = Vec::new();
        loop {
            line.clear();
            lines.set_limit(LONGEST);
            match timeout(SILENCE, lines.read_until(b'\n', &mut line)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return any,
            }
            any = true;
            let text = String::from_utf8_lossy(&line);
            if let Some(note) = self.gpus.read(uid, &owner, text.trim_end(), clock::now()) {
                (self.tell)(about.clone(), note);
            }
        }
    }
}

fn owner(pod: &Pod, instance: &str, gpu_resource: &str) -> Owner {
    Owner {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        instance_id: instance.to_owned(),
        containers: gateway::gpu_holders(pod, gpu_resource),
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
