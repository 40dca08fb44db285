//! What a machine that dies early said last, for the archive.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::observe::Seen;
use super::{Core, deadline};
use crate::cloud::Instance;
use crate::logs::archiver::Words;
use crate::logs::names::{CONSOLE, KUBELET};
use crate::pod::intent::epoch_of;

/// For the machine to tell what its kubelet wrote; it is about to be ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of the kubelet's journal.
const MAX_BYTES: u64 = 256 << 10;
/// The kubelet's last lines.
const JOURNAL: &str = "journalctl -q -u orca-kubelet.service -n 500 -o short-iso --no-pager";

impl Core {
    /// Archives what console and kubelet said last. What cannot be had is left out.
    pub(super) async fn hear(&self, uid: &str, seen: &Seen, instance_id: &str) {
        let (Some(logs), Some((namespace, pod))) = (&self.logs, &seen.name) else { return };
        let instance = seen.instances.iter().find(|one| one.id == instance_id);
        let words = |source: &'static str, text: String| Words {
            namespace: namespace.clone(),
            pod: pod.clone(),
            uid: uid.to_owned(),
            source,
            number: instance.map_or(0, |one: &Instance| epoch_of(one)),
            text,
        };
        let (console, kubelet) = tokio::join!(
            deadline("reading the console", self.cloud.console(instance_id)),
            timeout(PATIENCE, self.journal(uid, instance))
        );
        match console {
            Ok(text) => logs.file(words(CONSOLE, text)),
            Err(error) => tracing::debug!(instance.id = instance_id, %error, "no console output"),
        }
        if let Ok(Some(text)) = kubelet {
            logs.file(words(KUBELET, text));
        }
    }

    async fn journal(&self, uid: &str, instance: Option<&Instance>) -> Option<String> {
        // Of one that is gone only the console is left, and the next machine waits.
        instance.filter(|one| one.state.may_run())?;
        let stream = self.links.command(uid, JOURNAL, PATIENCE).await.ok()?;
        let mut text = Vec::new();
        // What came before the connection broke is worth having.
        let end = stream.take(MAX_BYTES).read_to_end(&mut text).await;
        tracing::debug!(pod.uid = uid, ?end, "read the kubelet's last words");
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}
