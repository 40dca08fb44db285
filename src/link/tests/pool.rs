//! Connections for user streams.

use super::super::pool::Pool;
use super::*;

#[tokio::test(start_paused = true)]
async fn each_user_stream_has_a_connection_of_its_own_and_one_is_kept_ready() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    let pool = Pool::new(Arc::clone(&bench.link));
    let mut one = pool.stream(DEADLINE).await.unwrap();
    hello(&mut one).await;
    sleep(Duration::from_secs(1)).await;
    // The link's own, this stream's, and a ready one.
    assert_eq!(world.open_wires(), 3);
    world.log();
    let two = pool.stream(DEADLINE).await.unwrap();
    // A command has sshd send each byte at once.
    let used = ["begin :", "open 127.0.0.1:10250"];
    assert_eq!(world.log(), used, "the ready one is taken");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.open_wires(), 4);
    drop((one, two));
    assert_eq!(world.open_wires(), 2, "a connection ends with its stream");
    sleep(Duration::from_secs(61)).await;
    assert_eq!(world.open_wires(), 1, "the ready one was idle");
}

#[tokio::test(start_paused = true)]
async fn a_ready_connection_that_died_is_replaced() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    let pool = Pool::new(Arc::clone(&bench.link));
    drop(pool.stream(DEADLINE).await.unwrap());
    sleep(Duration::from_secs(1)).await;
    world.cut_all();
    hello(&mut pool.stream(DEADLINE).await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn streams_to_one_machine_are_bounded_in_number_and_time() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    let pool = Pool::new(Arc::clone(&bench.link));
    let mut streams = Vec::new();
    let refused = loop {
        match pool.stream(DEADLINE).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (streams.len(), refused.to_string().as_str()),
        (64, "throttled: 64 streams to this machine are open already")
    );
    drop(streams);
    // Dialing takes 10 ms.
    sleep(Duration::from_secs(120)).await;
    let late = pool.stream(Duration::from_millis(5)).await.err().unwrap();
    assert_eq!(late.to_string(), "no answer within 5ms while opening a stream to the kubelet");
}

#[tokio::test(start_paused = true)]
async fn a_machine_whose_key_is_unknown_gets_no_user_stream() {
    let world = World::new();
    world.refusals.lock().unwrap().push_back(TunnelError::NotYet("no agent".to_owned()));
    let bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    let pool = Pool::new(Arc::clone(&bench.link));
    let error = pool.stream(DEADLINE).await.err().unwrap();
    assert_eq!(error.to_string(), "not reachable yet: the machine's host key is not known yet");
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_hands_out_its_connections_and_no_more_streams() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    let pool = Pool::new(Arc::clone(&bench.link));
    let _stream = pool.stream(DEADLINE).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.close().len(), 2, "the stream's and the ready one");
    let error = pool.stream(DEADLINE).await.err().unwrap();
    assert_eq!(error.to_string(), "connection lost: the machine was given up");
}
