//! `orca stuck`: for which pods the same thing fails again and again, what, why, since when, and when it is tried next;
//! and another attempt at once.
//!
//! The list is the running ORCA's; another attempt is asked for by an annotation of the pod, so that the API server says
//! who may. Exit codes: 0 done, 1 it could not be read or written, 2 what was typed is wrong.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::plan::summary::duration;
use super::running::Running;
use super::table::{cells, columns};
use super::{Trouble, print, read_config, say};
use crate::app::kube_config;
use crate::clock;
use crate::pod::stuck::{ANNOTATION_RETRY, Entry, Page, STUCK_AFTER};

/// For the API server.
const DEADLINE: Duration = Duration::from_secs(10);

/// Flags of `orca stuck`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Stuck {
    /// The configuration, whose metrics.listen says where the running ORCA is
    #[arg(long, value_name = "FILE", required_unless_present_any = ["server", "retry"])]
    config: Option<PathBuf>,
    /// The running ORCA
    #[arg(long, value_name = "http://HOST:PORT")]
    server: Option<String>,
    /// Every pod of which something failed last, however seldom
    #[arg(short, long)]
    all: bool,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Have what failed for this pod tried again at once; needs the permission to patch it
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["config", "server", "all", "output"])]
    retry: Option<String>,
    /// How to reach the API server; else $KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, value_name = "FILE", requires = "retry")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    /// The page as the running ORCA has it
    Json,
}

pub(super) async fn run(args: Stuck) -> ExitCode {
    let done = match &args.retry {
        Some(pod) => retry(&args, pod).await,
        None => list(&args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.tell(),
    }
}

async fn list(args: &Stuck) -> Result<(), Trouble> {
    let listen = match &args.config {
        Some(file) if args.server.is_none() => read_config(file)?.metrics.listen,
        Some(_) | None => None,
    };
    let running = Running::find(args.server.as_deref(), listen)?;
    let page = running.stuck().await;
    let page = page.map_err(|error| Trouble::Failed(format!("the running orca cannot be asked: {error}")))?;
    match args.output {
        Format::Table => print(&tables(&page, if args.all { 1 } else { STUCK_AFTER })),
        Format::Json => {
            say(serde_json::to_string_pretty(&page).expect("a page has only texts and numbers"));
        }
    }
    Ok(())
}

/// The page, for people: pods of which at least so many attempts failed.
fn tables(page: &Page, attempts: u32) -> String {
    let mut text = String::new();
    if let Some(why) = &page.launches {
        text += &format!("{why}\n");
    }
    let shown: Vec<&Entry> = page.pods.iter().filter(|pod| pod.attempts >= attempts).collect();
    if shown.is_empty() {
        return text + "no pod is stuck\n";
    }
    let ago = |at: Timestamp| duration(page.as_of.duration_since(at).as_secs().try_into().unwrap_or(0));
    let ahead = |at: Timestamp| duration(at.duration_since(page.as_of).as_secs().try_into().unwrap_or(0));
    let line = |pod: &&Entry| {
        [
            format!("{}/{}", pod.namespace, pod.name),
            pod.state.clone(),
            pod.reason.clone(),
            ago(pod.since),
            pod.attempts.to_string(),
            ahead(pod.next_try),
            pod.message.clone(),
        ]
    };
    let head = cells(["POD", "STATE", "REASON", "SINCE", "ATTEMPTS", "NEXT TRY", "WHY"]);
    text += &columns("", &[vec![head], shown.iter().map(line).collect()].concat());
    if page.more > 0 {
        text += &format!("and {} more\n", page.more);
    }
    text
}

async fn retry(args: &Stuck, pod: &str) -> Result<(), Trouble> {
    let (namespace, name) = named(pod)?;
    let patch = json!({"metadata": {"annotations": {ANNOTATION_RETRY: clock::now()}}});
    let write = async {
        let config = kube_config(args.kubeconfig.as_deref()).await?;
        let api: Api<Pod> = Api::namespaced(kube::Client::try_from(config)?, namespace);
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(anyhow::Error::from)
    };
    let written = tokio::time::timeout(DEADLINE, write).await;
    written
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {DEADLINE:?}")))
        .map_err(|error| Trouble::Failed(format!("annotating pod `{pod}`: {error:#}")))?;
    say(format_args!("pod {pod} is tried again now: kubectl describe pod --namespace {namespace} {name}"));
    Ok(())
}

fn named(pod: &str) -> Result<(&str, &str), Trouble> {
    let parts = pod
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'));
    parts.ok_or_else(|| Trouble::Typed(format!("--retry is `{pod}`, expected `NAMESPACE/NAME`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let entry = |name: &str, attempts, since, next| Entry {
            namespace: "ml".to_owned(),
            name: name.to_owned(),
            uid: format!("u-{name}"),
            state: "waiting".to_owned(),
            reason: "NoCapacity".to_owned(),
            message: "no g6.xlarge to be had".to_owned(),
            since: at(since),
            attempts,
            next_try: at(next),
            is_stuck: attempts >= STUCK_AFTER,
        };
        Page {
            node: "orca".to_owned(),
            as_of: at(0),
            launches: Some("launches of all pods wait, access denied".to_owned()),
            pods: vec![entry("train", 12, -7200, 95), entry("new", 1, -3, -1)],
            more: 2,
        }
    }

    #[test]
    fn what_is_stuck_is_told_with_why_since_when_and_the_next_try() {
        insta::assert_snapshot!(tables(&page(), STUCK_AFTER), @"
        launches of all pods wait, access denied
        POD       STATE    REASON      SINCE  ATTEMPTS  NEXT TRY  WHY
        ml/train  waiting  NoCapacity  2h     12        1m35s     no g6.xlarge to be had
        and 2 more
        ");
        let all = tables(&page(), 1);
        assert!(all.contains("ml/new    waiting  NoCapacity  3s     1         0s"), "{all}");
        assert_eq!(tables(&Page::default(), STUCK_AFTER), "no pod is stuck\n");
    }

    #[test]
    fn a_pod_is_named_with_its_namespace() {
        assert_eq!(named("ml/train").ok(), Some(("ml", "train")));
        for wrong in ["train", "/train", "ml/", "ml/train/c", ""] {
            assert!(matches!(named(wrong), Err(Trouble::Typed(_))), "{wrong}");
        }
    }
}
