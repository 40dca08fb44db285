//! What a file must say, and what is said about a file that does not.

use super::*;
use crate::config::keys::{KEYS, Need};

pub(crate) const MINIMAL: &str = "
aws:
  region: us-east-1
  vpcID: vpc-0a1b2c3d
  subnetIDs: [subnet-0a1b2c3d]
  securityGroupIDs: [sg-0a1b2c3d]
instances:
  defaultInstanceType: g6.xlarge
";

fn facts() -> Facts {
    Facts { pod_ip: Some(IpAddr::from([10, 0, 0, 7])), outward_ip: None }
}

fn problems(file: &str) -> Vec<String> {
    match Config::resolve(file, &facts()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.into_iter().map(|problem| problem.text).collect(),
    }
}

/// The problems of [`MINIMAL`] with more text under it.
fn with(more: &str) -> Vec<String> {
    problems(&format!("{MINIMAL}{more}"))
}

#[test]
fn a_minimal_file_gets_the_documented_defaults() {
    let (config, warnings) = Config::resolve(MINIMAL, &facts()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.aws.image, ImageSource::EksOptimized);
    assert_eq!(config.aws.tunnel, TunnelKind::Ssm);
    assert_eq!(config.node.name, "orca");
    assert_eq!(
        config.node.taints,
        [Taint {
            key: "virtual-kubelet.io/provider".into(),
            value: Some("orca".into()),
            effect: "NoSchedule".into()
        }]
    );
    assert_eq!(config.node.gpu, NodeGpu { resource: "nvidia.com/gpu".into(), count: 16 });
    assert_eq!(config.instances.root_volume.size_gib, 100);
    assert!(config.instances.root_volume.encrypted);
    assert_eq!(config.limits.keep_finished, Duration::ZERO);
    assert_eq!(config.kubelet.address, IpAddr::from([10, 0, 0, 7]));
    assert_eq!(config.metrics.listen, Some("0.0.0.0:9464".parse().unwrap()));
}

#[test]
fn without_an_archive_the_machine_of_a_finished_pod_stays_for_its_logs() {
    let with = |more: &str| Config::resolve(&format!("{MINIMAL}{more}"), &facts()).map(|(config, _)| config);
    let off = with("logs: { enabled: false }").unwrap();
    assert_eq!((off.logs, off.limits.keep_finished), (None, Duration::from_secs(300)));
    let kept = with("limits: { keepFinished: 1m }").unwrap();
    assert_eq!(kept.limits.keep_finished, Duration::from_secs(60));
    let logs = with("logs: { group: /ml/pods, retentionDays: 0, drainDeadline: 30s }").unwrap().logs.unwrap();
    assert_eq!((logs.group.as_deref(), logs.retention_days), (Some("/ml/pods"), None));
    let wrong = with("logs: { enabled: false, group: a b, retentionDays: 31, kmsKeyId: alias/logs }");
    let told = wrong.unwrap_err().to_string();
    for part in ["logs.group is `a b`", "the nearest is `30`", "logs.kmsKeyId is `alias/logs`"] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn all_problems_are_reported_at_once_with_their_paths_and_what_was_expected() {
    let found = problems(
        "
aws:
  regoin: us-east-1
  vpcID: subnet-0a1b2c3d
  subnetIDs: []
  securityGroupIDs: [sg-0a1b2c3d, 7]
  tunnel: telnet
node:
  pods: 0
  cpu: lots
  taints: [{key: a, effect: Never}, {effect: NoExecute, colour: red}]
  gpu: 3
instances:
  defaultInstanceType: [g6.xlarge]
limits:
  keepFinished: 5
kubelet: {listen: ':10250', tls: {certFile: /a}}
surprise: {}
",
    );
    insta::assert_snapshot!(found.join("\n"), @r"
    aws.regoin is not a key, did you mean `aws.region`?
    node.taints[1].colour is not a key
    node.gpu is `3`, expected a mapping
    surprise is not a key
    aws.subnetIDs is an empty list, expected a list of one or more ids such as `subnet-0a1b2c3d4e5f60718`
    aws.region is missing, expected an AWS region such as `us-east-1`
    aws.vpcID is `subnet-0a1b2c3d`, expected an id such as `vpc-0a1b2c3d4e5f60718`
    aws.securityGroupIDs[1] is `7`, expected an element of a list of 1 to 16 ids such as `sg-0a1b2c3d4e5f60718`
    aws.tunnel is `telnet`, expected `ssm` or `direct`
    node.taints[0].effect is `Never`, expected `NoSchedule`, `PreferNoSchedule` or `NoExecute`
    node.taints[1].key is missing, expected a label key
    node.cpu is `lots`, expected a positive Kubernetes quantity
    node.pods is `0`, expected 1 to 500
    limits.keepFinished is `5`, expected a duration such as `90s`, `5m` or `24h`
    kubelet.listen is `:10250`, expected an address and port such as `0.0.0.0:10250`
    kubelet.tls.keyFile is missing, expected both files (kubelet.tls.mode `files`)
    instances.defaultInstanceType is a list, expected an instance type such as `g6.xlarge`
    ");
}

#[test]
fn a_file_that_is_no_mapping_or_no_yaml_is_one_problem_that_says_so() {
    assert!(problems("[1, 2]").contains(&"the file is a list, expected a mapping".to_owned()));
    let broken = problems("aws: {region: us-east-1");
    assert_eq!(broken.len(), 1);
    assert!(broken[0].starts_with("the file is not YAML: "), "{broken:?}");
    let twice = problems("aws: {}\naws: {}\n");
    assert!(twice[0].contains("duplicate"), "{twice:?}");
}

#[test]
fn an_empty_file_names_every_key_that_is_required() {
    let found = problems("");
    for key in KEYS.iter().filter(|key| key.need == Need::Required && !key.path.contains('[')) {
        let start = format!("{} is missing, expected ", key.path);
        assert!(found.iter().any(|text| text.starts_with(&start)), "{start} not in {found:?}");
    }
    assert_eq!(found.len(), 4);
}

#[test]
fn the_serving_certificate_comes_from_where_the_mode_says_or_the_files_imply() {
    let tls = |more: &str| Config::resolve(&format!("{MINIMAL}{more}"), &facts()).unwrap().0.kubelet.tls;
    let files = Tls::Files(TlsFiles { cert_file: "/a".into(), key_file: "/b".into() });
    let csr = |signer: &str| Tls::Csr { signer: signer.to_owned() };
    assert_eq!(tls(""), Tls::SelfSigned);
    assert_eq!(tls("kubelet: {tls: {certFile: /a, keyFile: /b}}"), files);
    assert_eq!(tls("kubelet: {tls: {mode: files, certFile: /a, keyFile: /b}}"), files);
    assert_eq!(tls("kubelet: {tls: {mode: csr}}"), csr("kubernetes.io/kubelet-serving"));
    assert_eq!(tls("kubelet: {tls: {mode: csr, signer: a.b/c}}"), csr("a.b/c"));
    let found = with("kubelet: {tls: {mode: csr, certFile: /a, keyFile: /b}}");
    assert_eq!(
        found,
        [
            "kubelet.tls.certFile is set, expected none with kubelet.tls.mode `csr`",
            "kubelet.tls.keyFile is set, expected none with kubelet.tls.mode `csr`",
        ]
    );
}

#[test]
fn contradictions_are_problems() {
    let check = |more: &str, expected: &str| assert_eq!(with(more), [expected], "{more}");
    check(
        "  allowedInstanceTypes: [p5.48xlarge, 'g5.*']",
        "instances.defaultInstanceType is `g6.xlarge`, expected one that instances.allowedInstanceTypes \
         (p5.48xlarge, g5.*) allows",
    );
    check(
        "  rootVolume: {type: io2}",
        "instances.rootVolume.iops is missing, expected it with the type `io2`",
    );
    check(
        "  rootVolume: {type: gp2, iops: 3000}",
        "instances.rootVolume.iops is set, expected none with the type `gp2`",
    );
    check(
        "  rootVolume: {throughput: 1000}",
        "instances.rootVolume.throughput is `1000`, expected at most 750, a quarter of the IOPS",
    );
    check(
        "  rootVolume: {encrypted: false, kmsKeyId: alias/mine}",
        "instances.rootVolume.kmsKeyId is set, expected none while instances.rootVolume.encrypted is `false`",
    );
    check(
        "kubelet: {tls: {keyFile: /key}}",
        "kubelet.tls.certFile is missing, expected both files (kubelet.tls.mode `files`)",
    );
    check(
        "kubelet: {tls: {signer: example.com/mine}}",
        "kubelet.tls.signer is set, expected it with kubelet.tls.mode `csr` only",
    );
    check(
        "kubelet: {tls: {mode: csr, signer: mine}}",
        "kubelet.tls.signer is `mine`, expected a signer such as `kubernetes.io/kubelet-serving`",
    );
    check(
        "metrics: {listen: '127.0.0.1:10250'}",
        "metrics.listen has the port 10250 of kubelet.listen, expected another",
    );
    check(
        "limits: {bootDeadline: 2h, maxInstanceLifetime: 1h}",
        "limits.bootDeadline is longer than limits.maxInstanceLifetime, expected it shorter",
    );
    let both =
        MINIMAL.replace("  region", "  amiID: ami-0a1b2c3d\n  amiSSMParameter: /aws/service/x\n  region");
    assert_eq!(problems(&both), ["aws.amiSSMParameter is set beside aws.amiID, expected only one of them"]);
}

#[test]
fn older_spellings_are_accepted_with_a_warning_but_not_beside_the_new_ones() {
    let old = MINIMAL.replace(
        "  subnetIDs: [subnet-0a1b2c3d]",
        "  subnetID: subnet-0a1b2c3d\n  localStackEndpoint: http://127.0.0.1:4566",
    );
    let (config, warnings) = Config::resolve(&old, &facts()).unwrap();
    assert_eq!(config.aws.subnet_ids, ["subnet-0a1b2c3d"]);
    assert_eq!(config.aws.endpoint.as_deref(), Some("http://127.0.0.1:4566"));
    let texts: Vec<_> = warnings.iter().map(|warning| warning.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "aws.subnetID is an older spelling, use aws.subnetIDs",
            "aws.localStackEndpoint is an older spelling, use aws.endpoint"
        ]
    );

    let both = MINIMAL.replace("  subnetIDs:", "  subnetID: subnet-0a1b2c3d\n  subnetIDs:");
    assert_eq!(
        problems(&both),
        ["aws.subnetID is an older spelling of aws.subnetIDs, expected only one of them"]
    );
}

#[test]
fn unknown_keys_come_with_the_key_that_was_probably_meant() {
    let check = |more: &str, expected: &str| assert_eq!(with(more), [expected], "{more}");
    check(
        "limits: {maxConcurentInstances: 5}",
        "limits.maxConcurentInstances is not a key, did you mean `limits.maxConcurrentInstances`?",
    );
    check(
        "node: {maxInstanceLifetime: 5h}",
        "node.maxInstanceLifetime is not a key, did you mean `limits.maxInstanceLifetime`?",
    );
    check("region: us-east-1", "region is not a key, did you mean `aws.region`?");
    check("node: {gpu: {cuont: 5}}", "node.gpu.cuont is not a key, did you mean `node.gpu.count`?");
    check("kublet: {}", "kublet is not a key, did you mean `kubelet`?");
    check("node: {zebra: 5}", "node.zebra is not a key");
    check("node.pods: 5", "node.pods is not a key, did you mean `node.pods`?");
}

#[test]
fn tags_and_labels_that_cannot_be_used_are_named() {
    let tags = MINIMAL.replace("  region", "  tags: {'aws:x': a, team: 5, ok: fine}\n  region");
    assert_eq!(
        problems(&tags),
        [
            "aws.tags: the tag `aws:x` is reserved, expected none that begins with `aws:` or `orca.research/`",
            "aws.tags: `team` is `5`, expected a string (in quotes)"
        ]
    );
    assert_eq!(
        with("node: {labels: {'a b': c, type: mine, ok: '-'}}"),
        [
            "node.labels: `a b` is not a label key, expected a name with an optional domain",
            "node.labels: `type` is set by ORCA, expected other labels",
            "node.labels: `ok` is `-`, expected a label value"
        ]
    );
}

#[test]
fn the_published_address_is_the_typed_one_else_the_pods_else_the_machines() {
    let outward = Facts { pod_ip: None, outward_ip: Some(IpAddr::from([192, 0, 2, 1])) };
    let address = |file: &str, facts: &Facts| Config::resolve(file, facts).unwrap().0.kubelet.address;
    assert_eq!(address(MINIMAL, &outward), IpAddr::from([192, 0, 2, 1]));
    let typed = format!("{MINIMAL}kubelet: {{address: 10.1.1.1}}");
    assert_eq!(address(&typed, &facts()), IpAddr::from([10, 1, 1, 1]));
    let nowhere = Config::resolve(MINIMAL, &Facts::default()).unwrap_err();
    assert_eq!(nowhere.0[0].path, "kubelet.address");
}

#[test]
fn every_key_of_the_table_is_read() {
    for key in KEYS {
        // A mapping is wrong for every key but those that are mappings, where a list is.
        let mappings =
            ["aws.tags", "runpod.registryAuth", "node.labels", "instances.defaults", "instances.templates"];
        let wrong = if mappings.contains(&key.path) { "[1]" } else { "{wrong: 1}" };
        let mut file = String::new();
        let path = key.path.replace("[]", "");
        let steps: Vec<&str> = path.split('.').collect();
        for (depth, step) in steps.iter().enumerate() {
            let last = depth + 1 == steps.len();
            let indent = "  ".repeat(depth);
            let dash = if depth == 2 && path.starts_with("node.taints.") { "- " } else { "" };
            file +=
                &format!("{indent}{dash}{step}:{}\n", if last { format!(" {wrong}") } else { String::new() });
        }
        let found = Config::resolve(&file, &facts()).unwrap_err();
        let expected = format!(" is a mapping, expected {}", key.expected);
        let expected =
            if wrong == "[1]" { format!(" is a list, expected {}", key.expected) } else { expected };
        assert!(
            found.0.iter().any(|problem| problem.text.ends_with(&expected)),
            "`{}` is not read: {found:#?}\n{file}",
            key.path
        );
    }
}

proptest::proptest! {
    /// Whatever is typed gets an answer, and one that is wrong says where.
    #[test]
    fn no_file_makes_it_panic(
        text in "[ \\n]{0,2}((aws|runpod|node|limits|kubelet|instances)(\\.[a-z]{1,6})?: ?|- |[{}\\[\\]:,&*!|>'\"#%@]|[a-zA-Z]{1,9}|[0-9]{1,20}|\\n  ){0,40}"
    ) {
        if let Err(problems) = Config::resolve(&text, &facts()) {
            proptest::prop_assert!(!problems.0.is_empty());
            proptest::prop_assert!(problems.0.iter().all(|problem| !problem.text.is_empty()));
        }
    }

    #[test]
    fn no_value_of_a_known_key_makes_it_panic(index in 0..KEYS.len(), value in "[ -~]{0,30}") {
        let path: Vec<&str> = KEYS[index].path.split('.').collect();
        let mut file = String::new();
        for (depth, step) in path.iter().enumerate() {
            file += &format!("{}{}:\n", " ".repeat(depth), step.trim_end_matches("[]"));
        }
        let file = format!("{}: {value}", file.trim_end().trim_end_matches(':'));
        drop(Config::resolve(&file, &facts()));
    }
}
