//! The session that an earlier connection left behind, and that listens where the kubelet looks for the gateway.

use super::*;

impl World {
    /// A look at who listens.
    pub(super) fn find(&self) -> Result<ExecOutput, TunnelError> {
        self.note("find");
        let holder = self.holder.lock().unwrap().clone();
        let is_session = Holder::parse(holder.as_bytes()).is_some() || holder.is_empty();
        Ok(if is_session {
            ExecOutput { stdout: holder.into_bytes(), stderr: Vec::new(), code: Some(0) }
        } else {
            ExecOutput { stdout: Vec::new(), stderr: holder.into_bytes(), code: Some(1) }
        })
    }

    /// The end of a session, if it is the one that listens.
    pub(super) fn end(&self, command: &str) -> Result<ExecOutput, TunnelError> {
        let mut holder = self.holder.lock().unwrap();
        if let Some(holds) = Holder::parse(holder.as_bytes())
            && command == holds.end(GATEWAY_PORT)
        {
            self.note(format!("end {holds}"));
            holder.clear();
        } else {
            self.note("end nobody");
        }
        Ok(ExecOutput { stdout: Vec::new(), stderr: Vec::new(), code: Some(0) })
    }

    fn is_held_by(&self, holder: &str) {
        holder.clone_into(&mut self.holder.lock().unwrap());
    }

    /// What was asked about the port since the last time.
    fn asked(&self) -> Vec<String> {
        let mut log = self.log();
        log.retain(|line| ["listen", "find", "end"].iter().any(|word| line.starts_with(word)));
        log
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_left_behind_is_ended_and_the_kubelet_heard() {
    let world = World::new();
    world.is_held_by("71 12345\n");
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    bench.until_waiting_for_the_pod().await;
    bench.kubelet_comes(shown).await;
    bench.until(|state| matches!(state, LinkState::Attached { .. })).await;
    let listen = "listen 127.0.0.1:6443";
    assert_eq!(world.asked(), [listen, "find", "end 71 12345", listen]);
    assert_eq!(bench.link.hub.metrics.evicted.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_any_more_ends_nobodys_session() {
    let mut world = World::new();
    Arc::get_mut(&mut world).unwrap().fence = Fence::closed();
    world.is_held_by("71 12345\n");
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    let state = bench.until(|state| !error(state).is_empty()).await;
    assert!(error(&state).contains("does not lead"), "{state:?}");
    sleep(Duration::from_secs(600)).await;
    assert!(world.asked().iter().all(|line| line.starts_with("listen")));
    assert_eq!(bench.link.hub.metrics.evicted.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_closes_between_the_look_and_the_end_leaves_the_session() {
    let mut world = World::new();
    Arc::get_mut(&mut world).unwrap().fence = Fence::closed();
    world.fence.extend(clock::since_boot() + Duration::from_hours(1));
    world.is_held_by("71 12345\n");
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    while !world.log.lock().unwrap().iter().any(|line| line == "find") {
        sleep(Duration::from_millis(1)).await;
    }
    world.fence.close();
    let state = bench.until(|state| !error(state).is_empty()).await;
    assert!(error(&state).contains("does not lead"), "{state:?}");
    assert!(!world.asked().iter().any(|line| line.starts_with("end")));
}

#[tokio::test(start_paused = true)]
async fn another_connection_of_the_same_process_is_not_ended_and_is_followed_when_it_has_gone() {
    let world = World::new();
    world.is_held_by("71 12345\n");
    let other = world.forwards.enter("i-1");
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    let state = bench.until(|state| !error(state).is_empty()).await;
    assert_eq!(error(&state), "not reachable yet: in use");
    sleep(Duration::from_secs(600)).await;
    assert!(world.asked().iter().all(|line| line.starts_with("listen")));
    drop(other);
    // Of all that has changed since.
    bench.changes = bench.changes.resubscribe();
    bench.until_waiting_for_the_pod().await;
    assert!(world.asked().iter().any(|line| line == "end 71 12345"));
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_free_by_now_is_taken_and_one_that_something_else_has_is_told() {
    let world = World::new();
    world.is_held_by("port 6443 is taken by something else\n");
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    let state = bench.until(|state| !error(state).is_empty()).await;
    assert_eq!(error(&state), "the port for the kubelet is taken: port 6443 is taken by something else");
    assert!(matches!(state, LinkState::Dialing { .. }), "{state:?}");
    world.is_held_by("");
    bench.until_waiting_for_the_pod().await;
    assert!(!world.asked().iter().any(|line| line.starts_with("end")));
}
