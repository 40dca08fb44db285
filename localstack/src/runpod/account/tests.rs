use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::runpod::body::Body;
use crate::runpod::settings::Api;
use crate::runpod::stock::Supply;
use crate::runpod::testing::{mk_pod, with};

fn at(seconds: u64) -> Timestamp {
    clock::after(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
}

fn mk() -> Account {
    Account::new(Settings::default(), at(0))
}

fn create(account: &mut Account, changes: Value, now: Timestamp) -> Result<String, Problem> {
    let body = Body::read("CreatePodRequest", with(mk_pod(), changes), Api::October)?;
    account.create(body.order()?, "POST /v2/pods", now)
}

fn place(center: &str) -> Place {
    super::place("NVIDIA GeForce RTX 4090", Cloud::Secure, center)
}

#[test]
fn a_pod_is_placed_by_its_wishes_where_there_is_stock_and_gives_it_back() {
    let mut account = mk();
    account.stock.put(place("EU-RO-1"), Supply { free: Some(1), shown: None });
    let wishes = json!({"dataCenterIds": ["EU-RO-1", "US-TX-3"]});
    let center = |account: &mut Account, id: &str| account.pod(id).unwrap().placement.data_center;
    let first = create(&mut account, wishes.clone(), at(0)).unwrap();
    let second = create(&mut account, wishes.clone(), at(0)).unwrap();
    assert_eq!((center(&mut account, &first), center(&mut account, &second)), ("EU-RO-1", "US-TX-3"));
    let only = json!({"dataCenterIds": ["EU-RO-1"]});
    let refused = create(&mut account, only.clone(), at(0)).unwrap_err();
    assert_eq!(refused, Problem::rule(PHRASES[0]));
    account.pod(&first).unwrap().exit("stopped", at(1));
    account.settle(at(1));
    create(&mut account, only, at(1)).unwrap();
    // Its host is full now.
    assert_eq!(account.start(&first, at(2)).unwrap_err(), Problem::rule(PHRASES[4]));
    account.stock.put(place("EU-RO-1"), Supply { free: Some(1), shown: None });
    account.start(&first, at(2)).unwrap();
    assert_eq!(account.pod(&first).unwrap().status, Status::Starting);
}

#[test]
fn what_cannot_be_placed_is_refused_with_the_words_of_its_kind() {
    let mut account = mk();
    let volume = json!({"name": "v", "size": 10, "dataCenter": "US-KS-2"});
    let volume = crate::runpod::volumes::create(&mut account, volume).unwrap();
    account.stock.deny(BTreeSet::from(["NVIDIA B200".to_owned()]));
    let mount = json!({"network": [{"volumeId": volume, "path": "/v"}]});
    let cpu = json!({"id": "cpu5c", "vcpuCount": 2});
    for (changes, status, word) in [
        (json!({"gpu": {"id": "NVIDIA B200"}}), 403, "denied"),
        (json!({"registry": "r"}), 404, "registry"),
        (json!({"mounts": {"network": [{"volumeId": "x", "path": "/v"}]}}), 404, "network volume"),
        (json!({"mounts": mount, "dataCenterIds": ["EU-RO-1"]}), 400, "US-KS-2"),
        (json!({"dataCenterIds": ["MOON-1"]}), 400, "MOON-1"),
        (json!({"gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 9}}), 400, PHRASES[0]),
        (json!({"gpu": {"id": "NVIDIA L4", "minRamPerGpu": 51}}), 400, PHRASES[0]),
        (json!({"gpu": {"id": "NVIDIA L4", "allowedCudaVersions": ["11.8"]}}), 400, PHRASES[0]),
        (json!({"gpu": {"id": "NVIDIA L4"}, "cloud": "COMMUNITY"}), 400, PHRASES[0]),
        (json!({"gpu": {"id": "NVIDIA L4"}, "dataCenterIds": ["AP-JP-1"]}), 400, PHRASES[0]),
        (json!({"gpu": null, "cpu": cpu, "disk": 10}), 400, PHRASES[2]),
        (json!({"globalNetworking": true, "dataCenterIds": ["US-CA-2"]}), 400, PHRASES[0]),
    ] {
        let problem = create(&mut account, changes.clone(), at(0)).unwrap_err();
        assert!(problem.status == status && problem.detail.contains(word), "{changes}: {problem}");
    }
    assert!(account.pods.is_empty());
    let id = create(&mut account, json!({"mounts": mount}), at(0)).unwrap();
    assert_eq!(account.pod(&id).unwrap().placement.data_center, "US-KS-2");
    let cuda = json!({"gpu": {"id": "NVIDIA L4", "minCudaVersion": "12.5"}});
    let id = create(&mut account, cuda, at(0)).unwrap();
    assert_eq!(account.pod(&id).unwrap().placement.cuda, Some("12.8"));
}

#[test]
fn money_runs_out_at_a_bill_and_only_pods_with_a_volume_are_left() {
    let mut account = mk();
    let volume = json!({"name": "v", "size": 10, "dataCenter": "US-KS-2"});
    let volume = crate::runpod::volumes::create(&mut account, volume).unwrap();
    let mount = json!({"network": [{"volumeId": volume, "path": "/v"}]});
    let kept = create(&mut account, json!({"mounts": mount}), at(0)).unwrap();
    let lost = create(&mut account, json!({}), at(0)).unwrap();
    // Two at $0.69 an hour, and their disks.
    account.bank.funds.balance = 0.05;
    assert_eq!(create(&mut account, json!({}), at(1)).unwrap_err().status, 402);
    account.settle(at(299));
    assert_eq!(account.pod(&lost).unwrap().status, Status::Starting);
    account.settle(at(300));
    assert_eq!(account.pod(&kept).unwrap().status, Status::Exited);
    assert_eq!(account.pod(&lost).unwrap().status, Status::Terminated);
    assert!(account.bank.funds.balance < 0.0, "{:?}", account.bank);
    assert_eq!(account.pod(&lost).unwrap().meter.rate().compute, 0);
    assert_eq!(account.start(&kept, at(301)).unwrap_err().status, 402);
    // It is shown for a minute.
    account.settle(at(359));
    assert!(account.pod(&lost).is_ok());
    account.settle(at(361));
    assert_eq!(account.pod(&lost).unwrap_err().status, 404);
}

#[test]
fn the_limit_of_spending_is_of_all_pods_together() {
    let mut account = mk();
    account.bank.funds.spend_limit = 1.4;
    create(&mut account, json!({}), at(0)).unwrap();
    create(&mut account, json!({}), at(0)).unwrap();
    let refused = create(&mut account, json!({}), at(0)).unwrap_err();
    assert!(refused.status == 402 && refused.detail.contains("limit"), "{refused}");
}

#[test]
fn a_pod_that_is_billed_for_nothing_is_stopped_at_the_bill() {
    let mut account = mk();
    let rule = json!({"scenario": {"kind": "exitAtTick"}});
    account.scenarios.add(serde_json::from_value(rule).unwrap()).unwrap();
    let id = create(&mut account, json!({}), at(0)).unwrap();
    account.settle(at(299));
    assert_eq!(account.pod(&id).unwrap().status, Status::Provisioning);
    account.settle(at(600));
    let pod = account.pod(&id).unwrap();
    assert_eq!((pod.status, pod.history.len()), (Status::Exited, 2));
    assert_eq!(pod.meter.billed(at(0), at(600)).compute_seconds, 300.0);
}

#[test]
fn an_exit_before_its_start_was_told_and_one_of_an_earlier_run_are_told_apart() {
    let mut account = mk();
    let id = create(&mut account, json!({}), at(0)).unwrap();
    let exited =
        |run| ContainerEvent::Exited { id: id.clone(), run, exit: super::super::container::Exit::Code(3) };
    let pod = account.pod(&id).unwrap();
    (pod.container, pod.run) = (Container::Creating, 2);
    account.happened(exited(1), at(1));
    account.created(&id, Ok(Vec::new()), at(1));
    assert_eq!(account.pods[&id].container, Container::Up { since: at(1) });
    account.pod(&id).unwrap().container = Container::Creating;
    account.happened(exited(2), at(2));
    account.created(&id, Ok(Vec::new()), at(2));
    assert_eq!(account.pods[&id].container, Container::Down { at: at(2) });
    assert_eq!(account.pods[&id].endings.len(), 2);
}
