//! What the trace of a launch tells.

use orca::cloud::CloudError;
use orca::telemetry::{Part, Span, TraceMetrics, Traces};
use tokio::sync::mpsc;

use crate::support::{World, mk_pod};

fn world() -> (World, mpsc::Receiver<Span>) {
    let mut world = World::without_orca();
    let (traces, spans) = Traces::channel(TraceMetrics::default());
    world.traces = traces;
    world.start_orca();
    (world, spans)
}

fn told(spans: &mut mpsc::Receiver<Span>) -> Vec<Span> {
    std::iter::from_fn(|| spans.try_recv().ok()).collect()
}

fn names(spans: &[Span]) -> Vec<&'static str> {
    spans.iter().map(|span| span.name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_launch_is_one_trace_with_each_of_its_steps_inside_the_whole() {
    let (world, mut spans) = world();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.pass_time(30).await;
    let spans = told(&mut spans);
    let expected = [
        "plan",
        "wait for capacity",
        "RunInstances",
        "boot",
        "dial",
        "bootstrap and attach",
        "start containers",
        "pod start",
    ];
    assert_eq!(names(&spans), expected);
    let whole = spans.last().unwrap();
    assert_eq!(whole.part, Part::Whole);
    for span in &spans {
        assert_eq!(span.pod_uid, uid);
        assert!(
            whole.from <= span.from && span.from <= span.to && span.to <= whole.to,
            "{span:#?}\n{whole:#?}"
        );
        assert!(span.attributes.contains(&("k8s.pod.uid", uid.clone())), "{span:?}");
        assert_eq!(span.error, None);
    }
    let machine = world.machine(&uid);
    assert!(whole.attributes.contains(&("host.id", machine.id)), "{whole:?}");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_refused_is_in_the_trace_with_the_kind_of_its_refusal() {
    let (world, mut spans) = world();
    let error = CloudError::Transient { code: "InternalError".to_owned(), message: "no".to_owned() };
    world.cloud.next_error(orca::cloud::memory::Call::Launch, error);
    world.api.create(mk_pod("a"));
    world.until_running("a").await;
    let calls: Vec<_> = told(&mut spans).into_iter().filter(|span| span.part == Part::Call).collect();
    let errors: Vec<_> = calls.iter().map(|call| call.error.as_deref()).collect();
    assert_eq!(errors, [Some("transient"), None]);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_takes_over_on_the_way_tells_the_steps_that_are_left() {
    let (mut world, _first) = world();
    let uid = world.api.create(mk_pod("a"));
    world.until("there is a machine", |world| !world.alive(&uid).is_empty()).await;
    world.kill_orca();
    let (traces, mut spans) = Traces::channel(TraceMetrics::default());
    world.traces = traces;
    world.start_orca();
    world.until_running("a").await;
    world.pass_time(30).await;
    let names = names(&told(&mut spans));
    assert_eq!(names, ["boot", "dial", "bootstrap and attach", "start containers", "pod start"]);
    world.kill_orca();
    let (traces, mut spans) = Traces::channel(TraceMetrics::default());
    world.traces = traces;
    world.start_orca();
    world.pass_time(60).await;
    assert_eq!(told(&mut spans), [], "a pod that runs is no launch");
    world.check();
}
