//! The side connection.

use std::sync::Arc;

use super::super::side::Side;
use super::{Bench, DEADLINE, World, hello};
use crate::tunnel::TunnelError;

#[tokio::test(start_paused = true)]
async fn what_orca_reads_itself_shares_one_compressed_connection() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    let side = Side::new(Arc::clone(&bench.link));
    world.log();
    let (one, two) = tokio::join!(side.command("cat", DEADLINE), side.kubelet(DEADLINE));
    hello(&mut one.unwrap()).await;
    hello(&mut two.unwrap()).await;
    assert_eq!(
        world.log(),
        ["dial, pin ssh-ed25519 AAAAhost, compressed", "begin cat", "open 127.0.0.1:10250"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_side_connection_that_died_is_made_again() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    let side = Side::new(Arc::clone(&bench.link));
    side.command("cat", DEADLINE).await.unwrap();
    world.cut_all();
    hello(&mut side.command("cat", DEADLINE).await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_side_connection_is_handed_out_and_made_no_more() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    let side = Side::new(Arc::clone(&bench.link));
    side.command("cat", DEADLINE).await.unwrap();
    assert!(side.close().is_some());
    assert!(matches!(side.kubelet(DEADLINE).await, Err(TunnelError::Lost(_))));
}
