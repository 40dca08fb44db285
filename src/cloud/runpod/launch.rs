//! A launch: at most one pod for a token, although RunPod has no tokens.
//!
//! The first call for a token creates at once. Whenever an earlier call may have been made, be it by another process, and
//! whenever nobody knows what became of a creation, what the account has is listed twice before anything is created: what
//! carries the token is taken. Should one token have made several all the same, the oldest stays.

use std::time::Duration;

use tokio::time::Instant;

use super::book;
use super::errors::{Kind, Refusal, codes};
use super::types::{Hardware, Order, Sighting};
use super::{RunPodCloud, money};
use crate::cloud::audit::Deed;
use crate::cloud::{CloudError, Instance, LaunchSpec, TAG_POD_NAME, TAG_POD_NAMESPACE, TAG_POD_UID};

/// Between two looks for what a creation made: RunPod's lists may lag behind.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// A token that was asked for is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// A launch may wait for its turn for so long, before that is told as what it is.
const PATIENCE: Duration = Duration::from_secs(600);
/// Permits in hand of launches that were admitted and never came.
const MOST_ADMITTED: u32 = 4;

/// What was asked for, and who may go.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// When a creation was begun, by token.
    tokens: std::collections::HashMap<String, Instant>,
    admitted: u32,
}

impl Asked {
    fn has(&self, token: &str) -> bool {
        self.tokens.contains_key(token)
    }

    fn begin(&mut self, token: &str, now: Instant) {
        self.tokens.retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
        self.tokens.insert(token.to_owned(), now);
    }
}

impl RunPodCloud {
    /// Waits for the turn of one creation.
    pub(super) async fn wait_for_turn(&self) -> Result<(), Refusal> {
        self.mind_key().await;
        if let Some(refusal) = self.state().breaker.waits(Instant::now()) {
            return Err(refusal.clone());
        }
        self.client.admit(PATIENCE).await?;
        let mut state = self.state();
        state.asked.admitted = (state.asked.admitted + 1).min(MOST_ADMITTED);
        Ok(())
    }

    /// The launch, or what it led to before.
    pub(super) async fn launch_once(&self, spec: &LaunchSpec, order: &Order) -> Result<Instance, CloudError> {
        let token = spec.token.as_str();
        let (is_admitted, may_be_there) = {
            let mut state = self.state();
            let is_admitted = state.asked.admitted > 0;
            state.asked.admitted = state.asked.admitted.saturating_sub(1);
            let is_known = state.asked.has(token) || !state.book.of_token(token).is_empty();
            (is_admitted, spec.is_repeated || is_known)
        };
        if may_be_there && let Some(found) = self.look_twice(token).await? {
            return Ok(found);
        }
        self.may_create(spec).await.map_err(Refusal::into_error)?;
        let marked = self.owner.mark(order, token, &spec.tags);
        self.state().asked.begin(token, Instant::now());
        let created = self.client.create(&marked, is_admitted).await;
        self.note(created.as_ref().err()).await;
        let seen = match created {
            // Whatever the answer lacks was asked for so.
            Ok(seen) => {
                let markers = if seen.markers.is_empty() { marked.markers() } else { seen.markers.clone() };
                Sighting { markers, ..seen }
            }
            Err(refusal) if refusal.is_ambiguous() => {
                // Not again in this call, whatever is found: lists may lag for longer than that.
                return match self.look_twice(token).await {
                    Ok(Some(found)) => Ok(found),
                    Err(CloudError::TokenSpent { message }) => Err(CloudError::TokenSpent { message }),
                    Ok(None) | Err(_) => Err(refusal.into_error()),
                };
            }
            Err(refusal) => {
                self.state().asked.tokens.remove(token);
                return Err(refusal.into_error());
            }
        };
        let id = seen.id.clone();
        let too_small = too_small(&order.hardware, &seen);
        let instance = {
            let mut state = self.state();
            state.book.created(seen, Instant::now());
            state.book.instance(&id)
        };
        if let Some(funds) = &self.funds {
            funds.spent(spec.price.unwrap_or_default()).await;
        }
        let instance = instance.ok_or_else(|| unreadable("the created pod"))?;
        match too_small {
            None => Ok(instance),
            Some(message) => {
                self.end(&instance, "smaller than ordered").await;
                Err(CloudError::NoCapacity { code: codes::TOO_SMALL.to_owned(), message })
            }
        }
    }

    /// Whether money and key allow a creation, as far as that is known.
    async fn may_create(&self, spec: &LaunchSpec) -> Result<(), Refusal> {
        self.mind_key().await;
        if let Some(funds) = &self.funds
            && let Some(balance) = funds.balance().await
        {
            money::afford(balance, spec.price, self.thrift)?;
        }
        self.state().breaker.admit(Instant::now())
    }

    /// A key that was exchanged may be tried at once.
    async fn mind_key(&self) {
        let refused = {
            let state = self.state();
            let is_about_key = state
                .breaker
                .trouble()
                .is_some_and(|refusal| matches!(refusal.kind, Kind::Key | Kind::KeyScope | Kind::NoKey));
            if !is_about_key {
                return;
            }
            state.refused_key.clone()
        };
        if let Ok(key) = self.client.key().await
            && Some(&key) != refused.as_ref()
        {
            self.state().breaker.close();
        }
    }

    async fn note(&self, refusal: Option<&Refusal>) {
        let key = self.client.key().await.ok();
        let mut state = self.state();
        state.breaker.note(refusal, Instant::now());
        state.refused_key = key.filter(|_| state.breaker.trouble().is_some());
        self.metrics.launches_wait.set(i64::from(state.breaker.trouble().is_some()));
    }

    /// What a token made, looked for twice.
    async fn look_twice(&self, token: &str) -> Result<Option<Instance>, CloudError> {
        if let Some(found) = self.look(token).await? {
            return Ok(Some(found));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
        self.look(token).await
    }

    /// What a token made, as a list of now has it. Of several that live the oldest is kept.
    async fn look(&self, token: &str) -> Result<Option<Instance>, CloudError> {
        self.read_list().await.map_err(Refusal::into_error)?;
        let all = self.state().book.of_token(token);
        let (spent, mut live): (Vec<_>, Vec<_>) = all.into_iter().partition(book::is_spent);
        if live.is_empty() {
            let Some(last) = spent.last() else { return Ok(None) };
            let why = last.state_reason.as_ref().map_or("it ended", |why| &why.message);
            return Err(CloudError::TokenSpent { message: format!("pod {}: {why}", last.id) });
        }
        let kept = live.remove(0);
        for extra in &live {
            tracing::warn!(
                instance.id = extra.id,
                kept = kept.id,
                "one launch made two pods; the younger one is deleted"
            );
            self.metrics.duplicates.inc();
            self.end(extra, "a duplicate of the same launch").await;
        }
        Ok(Some(kept))
    }

    /// Deletes a pod that nobody asked for; one that stays is found by the next list.
    pub(super) async fn end(&self, instance: &Instance, why: &str) -> bool {
        let result = self.delete(&instance.id).await;
        let tag = |key: &str| instance.tags.get(key).map(String::as_str).unwrap_or_default();
        let deed = Deed {
            action: "DeletePod",
            pod_uid: tag(TAG_POD_UID),
            pod: &format!("{}/{}", tag(TAG_POD_NAMESPACE), tag(TAG_POD_NAME)),
            instance_id: &instance.id,
            detail: "",
            why,
        };
        deed.record(&result);
        result.is_ok()
    }
}

fn unreadable(what: &str) -> CloudError {
    CloudError::Transient {
        code: codes::UNREADABLE.to_owned(),
        message: format!("{what} is not in the book"),
    }
}

/// What is less than was ordered. Nothing that is not told.
fn too_small(hardware: &Hardware, seen: &Sighting) -> Option<String> {
    let Hardware::Gpu { count, min_memory_per_gpu_gb, min_vcpus_per_gpu, .. } = hardware else { return None };
    let lacks = |least: Option<u32>, found: Option<u32>| {
        let least = least?.saturating_mul(*count);
        found.filter(|found| *found < least).map(|found| (found, least))
    };
    let memory = lacks(*min_memory_per_gpu_gb, seen.memory_gb);
    let vcpus = lacks(*min_vcpus_per_gpu, seen.vcpus);
    let memory = memory.map(|(found, least)| format!("{found} GB of memory, expected at least {least}"));
    let vcpus = vcpus.map(|(found, least)| format!("{found} vCPUs, expected at least {least}"));
    let lacking = memory.or(vcpus)?;
    Some(format!("pod {} got a machine with {lacking}, and was given back", seen.id))
}

#[cfg(test)]
mod tests {
    use super::super::testing::mk_seen;
    use super::*;

    #[test]
    fn what_is_less_than_ordered_is_too_small_and_what_is_not_told_is_not() {
        let order = |memory, vcpus| Hardware::Gpu {
            id: "NVIDIA L4".to_owned(),
            count: 2,
            min_memory_per_gpu_gb: memory,
            min_vcpus_per_gpu: vcpus,
            min_cuda: None,
        };
        let seen = Sighting { memory_gb: Some(64), vcpus: Some(16), ..mk_seen("a") };
        assert_eq!(too_small(&order(Some(32), Some(8)), &seen), None);
        assert_eq!(too_small(&order(None, None), &seen), None);
        let memory = too_small(&order(Some(33), None), &seen).unwrap();
        assert_eq!(
            memory,
            "pod a got a machine with 64 GB of memory, expected at least 66, and was given back"
        );
        assert!(too_small(&order(None, Some(9)), &seen).unwrap().contains("16 vCPUs, expected at least 18"));
        let untold = Sighting { memory_gb: None, vcpus: None, ..mk_seen("a") };
        assert_eq!(too_small(&order(Some(999), Some(999)), &untold), None);
        assert_eq!(too_small(&Hardware::Cpu { id: "cpu3c".to_owned(), vcpus: 4 }, &seen), None);
    }

    #[test]
    fn tokens_are_remembered_for_a_day() {
        let (mut asked, start) = (Asked::default(), Instant::now());
        asked.begin("a", start);
        asked.begin("b", start + REMEMBERED / 2);
        assert!(asked.has("a") && asked.has("b"));
        asked.begin("c", start + REMEMBERED);
        assert!(!asked.has("a") && asked.has("b") && asked.has("c"));
    }
}
