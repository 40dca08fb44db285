//! One batch over calls that are told what to answer.

use std::sync::Mutex;

use futures::FutureExt as _;

use super::*;

const WINDOW: Window =
    Window { idle: Duration::from_millis(100), longest: Duration::from_secs(1), most: 500 };

type Sent = Arc<Mutex<Vec<(Duration, Vec<u32>)>>>;

/// A batch whose calls note when they were made and with which keys.
fn mk_batch(
    answer: impl Fn(&[u32]) -> Result<Answers<u32, u32>, CloudError> + Send + Sync + 'static,
) -> (Batch<u32, u32>, Sent) {
    let (sent, start) = (Sent::default(), Instant::now());
    let (noted, answer) = (sent.clone(), Arc::new(answer));
    let batch = Batch::new(WINDOW, move |mut keys| {
        keys.sort_unstable();
        noted.lock().unwrap().push((start.elapsed(), keys.clone()));
        let answer = answer.clone();
        async move { answer(&keys) }.boxed()
    });
    (batch, sent)
}

fn doubled(keys: &[u32]) -> Answers<u32, u32> {
    keys.iter().map(|key| (*key, Ok(key * 2))).collect()
}

fn refusal(code: &str) -> CloudError {
    CloudError::NotFound { code: code.to_owned(), message: String::new() }
}

#[tokio::test(start_paused = true)]
async fn those_who_come_together_share_one_call_and_each_gets_the_own_answer() {
    let (batch, sent) = mk_batch(|keys| Ok(doubled(keys)));
    let answers = futures::future::join_all([3, 1, 2, 1].map(|key| batch.ask(key))).await;
    assert_eq!(answers, [Ok(6), Ok(2), Ok(4), Ok(2)]);
    assert_eq!(*sent.lock().unwrap(), [(Duration::from_millis(100), vec![1, 2, 3])]);
}

#[tokio::test(start_paused = true)]
async fn the_window_stays_open_while_more_come_but_not_for_ever() {
    let (batch, sent) = mk_batch(|keys| Ok(doubled(keys)));
    let asks = (0..30).map(|key| {
        let batch = &batch;
        async move {
            tokio::time::sleep(Duration::from_millis(u64::from(key) * 50)).await;
            batch.ask(key).await
        }
    });
    futures::future::join_all(asks).await;
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(sent[0].0, Duration::from_secs(1));
    assert_eq!(sent[1].0, Duration::from_millis(29 * 50 + 100));
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_leaves_at_once() {
    let (batch, sent) = mk_batch(|keys| Ok(doubled(keys)));
    let answers = futures::future::join_all((0..1200).map(|key| batch.ask(key))).await;
    assert!(answers.iter().all(Result::is_ok));
    let sizes: Vec<_> = sent.lock().unwrap().iter().map(|(at, keys)| (at.as_millis(), keys.len())).collect();
    assert_eq!(sizes, [(0, 500), (0, 500), (100, 200)]);
}

#[tokio::test(start_paused = true)]
async fn one_bad_key_does_not_fail_the_others() {
    let (batch, sent) = mk_batch(|keys| match keys {
        [7] => Err(refusal("alone")),
        keys if keys.contains(&7) => Err(refusal("together")),
        keys => Ok(doubled(keys)),
    });
    let answers = futures::future::join_all([1, 7, 2].map(|key| batch.ask(key))).await;
    assert_eq!(answers, [Ok(2), Err(refusal("alone")), Ok(4)]);
    assert_eq!(sent.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_was_left_out_is_asked_for_alone() {
    let (batch, sent) = mk_batch(|keys| {
        Ok(doubled(keys).into_iter().filter(|(key, _)| *key != 7 || keys.len() == 1).collect())
    });
    let answers = futures::future::join_all([1, 7].map(|key| batch.ask(key))).await;
    assert_eq!(answers, [Ok(2), Ok(14)]);
    assert_eq!(sent.lock().unwrap().last().unwrap().1, [7]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_too_much_is_not_made_into_many() {
    let slow = CloudError::Throttled { code: "RequestLimitExceeded".to_owned(), message: String::new() };
    let answer = slow.clone();
    let (batch, sent) = mk_batch(move |_| Err(answer.clone()));
    let answers = futures::future::join_all([1, 2].map(|key| batch.ask(key))).await;
    assert_eq!(answers, [Err(slow.clone()), Err(slow)]);
    assert_eq!(sent.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_those_who_gave_up() {
    let (batch, sent) = mk_batch(|keys| Ok(doubled(keys)));
    let given_up = tokio::time::timeout(Duration::from_millis(10), batch.ask(1)).await;
    assert!(given_up.is_err());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(sent.lock().unwrap().is_empty());
    assert_eq!(batch.ask(2).await, Ok(4), "the next are served as ever");
}
