//! How a first process gets control groups and namespaces of its own.

use std::fs;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

/// For the first process to have namespaces of its own.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// While waiting for the first process, which has no way to tell.
const POLL: Duration = Duration::from_millis(2);

/// `GROUP... -- COMMAND...` for a shell: the command, in these control groups.
pub(crate) const ENTER: &str = include_str!("enter.sh");

/// Waits until the process has a network namespace other than ours.
pub(crate) async fn own_network(child: &mut Child, pid: u32) -> anyhow::Result<()> {
    let ours = fs::read_link("/proc/self/ns/net").context("/proc/self/ns/net")?;
    let end = Instant::now() + START_DEADLINE;
    loop {
        if fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|its| its != ours) {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("its first process ended ({status})");
        }
        ensure!(Instant::now() < end, "there is no network namespace after {START_DEADLINE:?}");
        sleep(POLL).await;
    }
}
