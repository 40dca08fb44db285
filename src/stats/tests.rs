//! Pages as real kubelets write them (recorded from one of 1.36, and shortened), and what becomes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use tokio::time::advance;

use super::cache::STALE;
use super::exposition::{Line, lines};
use super::*;

const RESOURCE: &str = include_str!("tests/resource.txt");
const CADVISOR: &str = include_str!("tests/cadvisor.txt");
const PROBES: &str = include_str!("tests/probes.txt");
const SUMMARY: &str = include_str!("tests/summary.json");
/// As in the pages.
const UID: &str = "ab5650bd-f40b-4b7f-a57c-b54de59f8226";

/// The pod of the recorded pages, or another one on another machine.
fn own(name: &str) -> Own {
    let uid = if name == "burn" { UID.to_owned() } else { format!("uid-{name}") };
    Own { uid, namespace: "default".to_owned(), name: name.to_owned(), instance_id: format!("i-{name}") }
}

/// The recorded page, as the kubelet of that pod would write it.
fn of(page: &str, own: &Own) -> String {
    page.replace("pod=\"burn\"", &format!("pod=\"{}\"", own.name))
        .replace("\"name\": \"burn\"", &format!("\"name\": \"{}\"", own.name))
        .replace(UID, &own.uid)
}

fn stats(pods: &[&str]) -> Stats {
    let stats = Stats::new("orca".to_owned(), Arc::new(()));
    for name in pods {
        let own = own(name);
        stats.begin(own.clone());
        for (page, text) in [
            (Page::Resource, RESOURCE),
            (Page::Cadvisor, CADVISOR),
            (Page::Probes, PROBES),
            (Page::Summary, SUMMARY),
        ] {
            stats.put(&own, page, &of(text, &own)).unwrap();
        }
    }
    stats
}

fn text(stats: &Stats, page: Page) -> String {
    stats.exposition(page).collect()
}

fn json(stats: &Stats, detail: Detail) -> Value {
    serde_json::from_str(&stats.summary(detail).collect::<String>()).unwrap()
}

/// Every series once, every family once, each series under its family.
fn assert_well_formed(page: &str) -> usize {
    let (mut series, mut heads, mut current) = (std::collections::HashSet::new(), BTreeMap::new(), "");
    let mut count = 0;
    for line in lines(page) {
        match line {
            Line::Comment { name, is_type, .. } => {
                *heads.entry((name, is_type)).or_insert(0) += 1;
                current = name;
            }
            Line::Sample(sample) => {
                assert!(series.insert(sample.key().unwrap()), "twice: {}", sample.text);
                assert!(sample.name.starts_with(current), "{} is under {current}", sample.text);
            }
        }
        count += 1;
    }
    assert_eq!(count, page.lines().count(), "a line that is not understood:\n{page}");
    assert!(heads.values().all(|count| *count == 1), "{heads:?}");
    series.len()
}

fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.split(' ').next()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn the_samples_of_pods_come_out_as_they_went_in() {
    let stats = stats(&["burn"]);
    for (page, text_in) in [(Page::Resource, RESOURCE), (Page::Cadvisor, CADVISOR), (Page::Probes, PROBES)] {
        let out = text(&stats, page);
        assert_well_formed(&out);
        let wanted: Vec<&str> = text_in.lines().filter(|line| line.contains("pod=\"burn\"")).collect();
        assert!(wanted.len() >= 10, "{page:?}");
        for line in wanted {
            assert!(out.lines().any(|found| found == line), "{page:?} lost {line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_machines_make_one_page_without_a_series_twice() {
    let stats = stats(&["burn", "other", "third"]);
    let one = self::stats(&["burn"]);
    for page in [Page::Resource, Page::Cadvisor, Page::Probes] {
        let alone = assert_well_formed(&text(&one, page));
        let together = assert_well_formed(&text(&stats, page));
        // Our own: errors, and what the node is in sum.
        let ours = own_series(page, &stats.lock().node(Instant::now())).0.len();
        assert_eq!(together - ours, 3 * (alone - ours), "{page:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_machine_there_is_little_and_it_has_the_machines_name() {
    let page = text(&stats(&["burn"]), Page::Cadvisor);
    let others: Vec<&str> =
        page.lines().filter(|line| !line.starts_with('#') && !line.contains("pod=\"burn\"")).collect();
    assert_eq!(others.len(), 7, "{others:#?}");
    for line in &others[1..] {
        assert!(
            line.contains("instance_id=\"i-burn\"") || line.starts_with("container_scrape_error"),
            "{line}"
        );
    }
    let cores =
        others.iter().find(|line| line.starts_with("machine_cpu_cores{instance_id=\"i-burn\",boot_id="));
    assert!(cores.is_some_and(|line| line.ends_with(" 2")), "{others:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_speaks_of_its_own_pod_alone() {
    let stats = stats(&["burn"]);
    let own = own("burn");
    let lies = "container_cpu_usage_seconds_total{container=\"c\",namespace=\"default\",pod=\"victim\"} 1 1\n\
        container_cpu_usage_seconds_total{container=\"burn\",namespace=\"kube-system\",pod=\"burn\"} 1 1\n\
        prober_probe_total{namespace=\"default\",pod=\"burn\",pod_uid=\"another\"} 1\n\
        x{namespace=\"default\",pod=\"burn\",pod=\"victim\"} 1\n\
        node_memory_working_set_bytes{pod=\"\"} 1\n\
        machine_cpu_cores{instance_id=\"i-victim\"} 1\n\
        container_cpu_usage_seconds_total{container=\"c\",namespace=\"default\",pod=\"burn\"} 1 1\n\
        container_cpu_usage_seconds_total{pod=\"burn\",container=\"c\",namespace=\"default\"} 2 1\n";
    for page in [Page::Resource, Page::Cadvisor, Page::Probes] {
        stats.put(&own, page, lies).unwrap();
        let page = text(&stats, page);
        assert_well_formed(&page);
        assert!(
            !page.contains("victim") && !page.contains("kube-system") && !page.contains("another"),
            "{page}"
        );
        assert_eq!(page.matches("pod=\"burn\"").count(), 1, "{page}");
    }
    let pods = r#"{"pods": [{"podRef": {"name": "victim", "namespace": "default", "uid": "u"}}]}"#;
    stats.put(&own, Page::Summary, pods).unwrap();
    assert_eq!(json(&stats, Detail::All)["pods"], Value::Array(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_silent_drops_out_and_its_pod_is_never_zero() {
    let stats = stats(&["burn", "other"]);
    assert_eq!(value(&text(&stats, Page::Resource), "scrape_error"), Some(0.0));
    let own = own("burn");
    for _ in 0..=STALE.as_secs() / 10 {
        advance(Duration::from_secs(10)).await;
        stats.put(&own, Page::Resource, RESOURCE).unwrap();
        stats.put(&own, Page::Summary, SUMMARY).unwrap();
    }
    advance(Duration::from_secs(1)).await;
    let page = text(&stats, Page::Resource);
    assert!(page.contains("pod=\"burn\"") && !page.contains("pod=\"other\""), "{page}");
    assert_eq!(value(&page, "resource_scrape_error"), Some(1.0));
    assert_eq!(json(&stats, Detail::All)["pods"].as_array().unwrap().len(), 1);
    assert!(!text(&stats, Page::Probes).contains("pod="), "both are old");

    stats.remove(UID);
    stats.remove("uid-other");
    let page = text(&stats, Page::Resource);
    assert!(!page.contains("node_") && !page.contains("container_"), "{page}");
    assert_eq!(value(&page, "scrape_error"), Some(0.0));
    assert_eq!(json(&stats, Detail::All)["node"]["nodeName"], "orca");
}

#[tokio::test(start_paused = true)]
async fn the_node_is_the_sum_of_its_machines_with_one_time() {
    let stats = stats(&[]);
    let put = |name: &str, cpu: f64| {
        let at = clock::now().as_millisecond();
        let used = format!("node_cpu_usage_seconds_total {cpu} {at}");
        let page = RESOURCE.replace("node_cpu_usage_seconds_total 5.51884819 1795294382120", &used);
        stats.begin(own(name));
        stats.put(&own(name), Page::Resource, &of(&page, &own(name))).unwrap();
        at
    };
    put("burn", 100.0);
    put("other", 200.0);
    advance(Duration::from_secs(3)).await;
    let at = put("burn", 101.0);
    advance(Duration::from_secs(3)).await;
    put("other", 204.0);
    let page = text(&stats, Page::Resource);
    assert_well_formed(&page);
    let series = |name: &str| -> (f64, i64) {
        let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        let [_, value, at] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (value.parse().unwrap(), at.parse().unwrap())
    };
    let (cpu, cpu_at) = series("node_cpu_usage_seconds_total");
    let (memory, memory_at) = series("node_memory_working_set_bytes");
    assert_eq!((cpu_at, memory_at), (at, at), "what all machines have reached");
    assert_eq!(cpu, 1.0 + 2.0, "all of `burn` since it came, and half of `other`");
    assert_eq!(memory, 2.0 * 8.1145856e7);
}

#[tokio::test(start_paused = true)]
async fn another_machine_or_another_pod_of_the_name_replaces_what_was() {
    let stats = stats(&["burn"]);
    let replaced = Own { instance_id: "i-2".to_owned(), ..own("burn") };
    stats.begin(replaced.clone());
    assert!(!text(&stats, Page::Resource).contains("pod="), "the old machine's numbers");
    stats.put(&own("burn"), Page::Resource, RESOURCE).unwrap();
    assert!(!text(&stats, Page::Resource).contains("pod="), "a late answer of the old machine");
    stats.put(&replaced, Page::Resource, RESOURCE).unwrap();
    assert!(text(&stats, Page::Resource).contains("pod=\"burn\""));
    stats.begin(Own { uid: "uid-again".to_owned(), instance_id: "i-3".to_owned(), ..own("burn") });
    assert_eq!(stats.uids(), ["uid-again"]);
}

#[derive(Debug)]
struct OneGpu;

impl Accelerators for OneGpu {
    fn of(&self, pod_uid: &str) -> Vec<Accelerator> {
        let gpu = Accelerator {
            container: "main".to_owned(),
            make: "nvidia".to_owned(),
            model: "NVIDIA L4".to_owned(),
            id: "GPU-1".to_owned(),
            memory_total: 24 << 30,
            memory_used: 1 << 30,
            duty_cycle: 97,
        };
        if pod_uid == UID { vec![gpu] } else { Vec::new() }
    }
}

#[tokio::test(start_paused = true)]
async fn the_summary_adds_up_machines_and_passes_pods_on() {
    let mut stats = stats(&["burn", "other"]);
    stats.accelerators = Arc::new(OneGpu);
    let all = json(&stats, Detail::All);
    let recorded: Value = serde_json::from_str(SUMMARY).unwrap();
    let node = &all["node"];
    for part in [
        "/memory/workingSetBytes",
        "/memory/availableBytes",
        "/fs/capacityBytes",
        "/rlimit/curproc",
        "/runtime/imageFs/usedBytes",
        "/systemContainers/0/memory/usageBytes",
        "/cpu/usageNanoCores",
    ] {
        let one = recorded["node"].pointer(part).and_then(Value::as_u64).unwrap();
        assert_eq!(node.pointer(part).and_then(Value::as_u64), Some(2 * one), "{part} of {node:#}");
    }
    assert_eq!(node["memory"]["time"], recorded["node"]["memory"]["time"]);
    assert_eq!(node["memory"]["pageFaults"], Value::Null, "a counter that nobody sums");
    let pods = all["pods"].as_array().unwrap();
    assert_eq!(pods.len(), 2);
    let mut burn = pods.iter().find(|pod| pod["podRef"]["name"] == "burn").unwrap().clone();
    let gpus = burn["containers"][0].as_object_mut().unwrap().remove("accelerators").unwrap();
    assert_eq!(
        gpus,
        serde_json::json!([{"make": "nvidia", "model": "NVIDIA L4", "id": "GPU-1", "memoryTotal": 24_u64 << 30, "memoryUsed": 1 << 30, "dutyCycle": 97}])
    );
    assert_eq!(burn, recorded["pods"][0], "nothing else was touched");

    let short = json(&stats, Detail::CpuAndMemory);
    assert_eq!(short["node"]["fs"], Value::Null);
    assert_eq!(short["node"]["memory"], node["memory"]);
    let pod = &short["pods"][0];
    assert_eq!(pod["containers"][0]["cpu"]["usageCoreNanoSeconds"], 1_112_096_587);
    assert!(pod["network"].is_null() && pod["containers"][0]["rootfs"].is_null(), "{pod:#}");
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_an_error_or_nothing() {
    let mut stats = stats(&["burn"]);
    stats.accelerators = Arc::new(OneGpu);
    assert!(stats.put(&own("burn"), Page::Summary, "<html>").is_err());
    let odd = format!(
        "{{\"node\": [], \"pods\": [7, {{\"podRef\": {{\"uid\": \"{UID}\", \"name\": \"burn\", \"namespace\": \"default\"}}, \"containers\": [7]}}]}}"
    );
    stats.put(&own("burn"), Page::Summary, &odd).unwrap();
    assert_eq!(json(&stats, Detail::CpuAndMemory)["pods"][0]["containers"], serde_json::json!([7]));
    stats.put(&own("burn"), Page::Summary, "[]").unwrap();
    stats.put(&own("burn"), Page::Resource, "<html>").unwrap();
    assert_eq!(json(&stats, Detail::All)["pods"], Value::Array(Vec::new()));
    assert_well_formed(&text(&stats, Page::Resource));
}

proptest! {
    /// Pages of little sense, with labels in any order, from machines whose pods differ.
    #[test]
    fn a_merged_page_never_has_a_series_twice(
        pages in proptest::collection::vec(
            proptest::collection::vec(
                ("[ab](_sum|_count|_bucket)?", proptest::sample::subsequence(vec!["pod", "namespace", "x"], 3).prop_shuffle(), "[ab]", 0..9_u8),
                0..20,
            ),
            1..4,
        ),
        kinds in proptest::collection::vec("counter|histogram|summary", 2),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let stats = Stats::new("orca".to_owned(), Arc::new(()));
            for (n, page) in pages.iter().enumerate() {
                let own = own(&format!("p{n}"));
                let mut text = String::new();
                for (name, labels, x, value) in page {
                    text.push_str(&format!("# TYPE {0} {1}\n", &name[..1], kinds[usize::from(name.starts_with('b'))]));
                    let label = |label: &&str| match *label {
                        "pod" => format!("pod=\"p{n}\""),
                        "namespace" => "namespace=\"default\"".to_owned(),
                        other => format!("{other}=\"{x}\""),
                    };
                    let labels: Vec<_> = labels.iter().map(label).collect();
                    text.push_str(&format!("{name}{{{}}} {value}\n", labels.join(",")));
                }
                stats.begin(own.clone());
                stats.put(&own, Page::Probes, &text).unwrap();
            }
            let page = super::tests::text(&stats, Page::Probes);
            let mut seen = std::collections::HashSet::new();
            for line in lines(&page) {
                if let Line::Sample(sample) = line {
                    prop_assert!(seen.insert(sample.key().unwrap()), "{}", page);
                }
            }
            Ok(())
        })?;
    }
}
