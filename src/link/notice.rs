//! Machines that are taken away: looking for EC2's notice, and switching a machine off in good order.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;

use super::task::{Link, Setback};
use super::wire::{Wire, input};
use crate::cloud::Lifecycle;
use crate::failpoint::{self, Write};
use crate::guest::{AWAIT_NOTICE, Notice, SHUT_DOWN};

/// Longer than the script takes.
const NOTICE_DEADLINE: Duration = Duration::from_secs(60);
/// After a look that failed.
const PAUSE: Duration = Duration::from_secs(5);
const SHUT_DOWN_DEADLINE: Duration = Duration::from_secs(15);

/// Looks for EC2's notice where there may be one, and says so in the status.
pub(super) async fn watch(link: &Link, wire: &dyn Wire) -> Result<Infallible, Setback> {
    match link.machine.lifecycle {
        Lifecycle::Spot | Lifecycle::InterruptibleReservation => {}
        Lifecycle::OnDemand | Lifecycle::CapacityBlock | Lifecycle::Other => return pending().await,
    }
    loop {
        // A machine that cannot be asked is no reason to give the connection up: others watch over that.
        let found = match wire.exec(AWAIT_NOTICE, input(""), NOTICE_DEADLINE).await {
            Ok(done) => Notice::parse(&done.stdout),
            Err(_) => None,
        };
        if let Some(notice) = found {
            tracing::warn!(
                pod.uid = link.machine.pod_uid,
                instance.id = link.machine.instance_id,
                action = notice.action,
                at = %notice.time,
                "the cloud takes the machine away"
            );
            link.update(|status| status.notice = Some(notice));
            return pending().await;
        }
        sleep(PAUSE).await;
    }
}

/// Switches the machine off once that is wanted; asks until it is done.
pub(super) async fn shut_down(link: &Link, wire: &dyn Wire) -> Result<Infallible, Setback> {
    let mut wanted = link.shut_down.subscribe();
    if wanted.wait_for(|wanted| *wanted).await.is_err() {
        return pending().await;
    }
    loop {
        let failed =
            match failpoint::around(Write::SwitchOff, wire.exec(SHUT_DOWN, input(""), SHUT_DOWN_DEADLINE))
                .await
            {
                Ok(done) if done.code == Some(0) => return pending().await,
                Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
        tracing::warn!(
            pod.uid = link.machine.pod_uid,
            instance.id = link.machine.instance_id,
            error = failed,
            "switching the machine off failed"
        );
        sleep(PAUSE).await;
    }
}
