//! Where a machine's kubelet finds the gateway: a port of the machine that one SSH session at a time listens on.
//!
//! A process whose host vanished leaves its session behind, and the machine's sshd does not notice for a minute; meanwhile
//! what the kubelet says is heard by nobody. Whoever finds the port taken ends that session, and listens itself
//! (`docs/decisions/007-the-session-that-a-leader-leaves-behind-is-ended.md`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::task::{Link, Setback};
use super::wire::{Wire, input};
use crate::failpoint::{self, Write};
use crate::guest::{GATEWAY_PORT, Holder};
use crate::tunnel::{ByteStream, TunnelError};

const ADDRESS: &str = "127.0.0.1";
/// Longer than the script takes, which waits 5 s for a session to end.
const DEADLINE: Duration = Duration::from_secs(15);

/// How many connections of this process listen, or are about to, on each machine, by instance id. More than one only while
/// an aborted task is not dropped yet.
#[derive(Debug, Default)]
pub(super) struct Forwards(Mutex<HashMap<String, usize>>);

/// The place of one of them, until it is dropped.
pub(super) struct Forward {
    all: Arc<Forwards>,
    instance_id: String,
}

impl Forwards {
    pub(super) fn enter(self: &Arc<Self>, instance_id: &str) -> Forward {
        self.with(|counts| *counts.entry(instance_id.to_owned()).or_default() += 1);
        Forward { all: Arc::clone(self), instance_id: instance_id.to_owned() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, usize>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Forward {
    /// Whether no other connection of this process may be the one that listens.
    fn is_alone(&self) -> bool {
        self.all.with(|counts| counts.get(&self.instance_id) == Some(&1))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.all.with(|counts| {
            let left = counts.get(&self.instance_id).map_or(0, |count| count.saturating_sub(1));
            if left == 0 {
                counts.remove(&self.instance_id);
            } else {
                counts.insert(self.instance_id.clone(), left);
            }
        });
    }
}

/// Listens for the machine's kubelet, in the place of a session that an earlier process left behind.
pub(super) async fn listen(
    link: &Link,
    wire: &dyn Wire,
    forward: &Forward,
) -> Result<mpsc::Receiver<ByteStream>, Setback> {
    match wire.listen(ADDRESS, GATEWAY_PORT).await {
        Err(TunnelError::NotYet(_)) if forward.is_alone() => {
            evict(link, wire).await?;
            Ok(wire.listen(ADDRESS, GATEWAY_PORT).await?)
        }
        listening => Ok(listening?),
    }
}

/// Ends the session that listens, whose process is none that may act: this one does.
async fn evict(link: &Link, wire: &dyn Wire) -> Result<(), Setback> {
    let found = run(link, wire, &Holder::find(GATEWAY_PORT)).await?;
    let Some(holder) = Holder::parse(&found) else { return Ok(()) };
    let command = holder.end(GATEWAY_PORT);
    failpoint::around(Write::Evict, run(link, wire, &command)).await?;
    link.hub.metrics.evicted.inc();
    tracing::info!(
        pod.uid = link.machine.pod_uid,
        instance.id = link.machine.instance_id,
        session = %holder,
        "ended the session that an earlier connection left behind on the machine"
    );
    Ok(())
}

/// A command that is begun only by a process that may act.
async fn run(link: &Link, wire: &dyn Wire, command: &str) -> Result<Vec<u8>, Setback> {
    let call = wire.exec(command, input(""), DEADLINE);
    let done = match link.hub.fence.clone().guard(call).await {
        Ok(done) => done?,
        Err(fenced) => return Err(Setback::Again(fenced.to_string())),
    };
    if done.code == Some(0) {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    Err(Setback::Again(format!("the port for the kubelet is taken: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_alone_on_its_machine_until_another_comes_and_after_it_has_gone() {
        let all = Arc::new(Forwards::default());
        let (one, elsewhere) = (all.enter("i-1"), all.enter("i-2"));
        assert!(one.is_alone() && elsewhere.is_alone());
        let two = all.enter("i-1");
        assert!(!one.is_alone() && !two.is_alone() && elsewhere.is_alone());
        drop(one);
        assert!(two.is_alone());
        drop((two, elsewhere));
        assert!(all.with(|counts| counts.is_empty()));
    }
}
