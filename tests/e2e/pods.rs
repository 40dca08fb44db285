//! What a Pod may ask of its machine: each test is a pod on a machine of its own, run by an unmodified kubelet.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::world::{Namespace, START, condition, container, eventually, exit_code, pod_ip, text};

pub(crate) const TESTS: &[crate::Test] = &[
    ("pod::a_container_gets_command_arguments_and_environment_from_everywhere", environment),
    ("pod::a_mounted_configmap_changes_while_the_pod_runs", configmap_changes),
    ("pod::its_token_is_accepted_by_the_api_server_and_bound_to_it", token),
    ("pod::containers_share_an_emptydir_and_an_init_container_goes_first", shared_volume),
    ("pod::a_failing_init_container_fails_the_pod", failing_init),
    ("pod::a_job_with_a_native_sidecar_completes", sidecar_job),
    ("pod::poststart_and_prestop_hooks_run", hooks),
    ("pod::the_grace_period_is_honoured_then_killed", grace),
    ("pod::restart_policies_are_kept_with_backoff", restarts),
    ("pod::exit_codes_oom_kills_and_termination_messages_are_reported", endings),
    ("pod::an_active_deadline_ends_it", deadline),
    ("pod::an_ephemeral_container_joins_it", ephemeral),
    ("pod::an_image_that_does_not_exist_is_told", no_image),
    ("pod::gpus_are_shared_out_and_others_see_none", gpus),
    ("pod::addresses_are_routable_from_host_and_pods", addresses),
    ("pod::the_host_network_is_the_machines", host_network),
    ("pod::readiness_gates_are_kept", readiness_gates),
];

fn environment(ns: &Namespace<'_>) -> Result<()> {
    ns.run(&["create", "configmap", "settings", "--from-literal=COLOUR=blue"])?;
    ns.run(&["create", "secret", "generic", "login", "--from-literal=password=hunter2"])?;
    ns.pod(
        "env",
        r#"
restartPolicy: Never
containers:
- name: main
  image: busybox:stable
  command: [sh, -c]
  args: ['echo "$0 $COLOUR $PASSWORD $POD_IP $HOST_IP $NODE $CPUS $UID_"; echo $(hostname)', first]
  resources: {requests: {cpu: 100m}, limits: {cpu: 1}}
  envFrom: [{configMapRef: {name: settings}}]
  env:
  - {name: PASSWORD, valueFrom: {secretKeyRef: {name: login, key: password}}}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
  - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
  - {name: UID_, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
  - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
"#,
    )?;
    let pod = ns.await_phase("env", "Succeeded")?;
    let log = ns.run(&["logs", "env"])?;
    let expected = format!(
        "first blue hunter2 {} {} orca 1 {}\nenv\n",
        pod["status"]["podIP"].as_str().context("podIP")?,
        pod["status"]["hostIP"].as_str().context("hostIP")?,
        pod["metadata"]["uid"].as_str().context("uid")?,
    );
    ensure!(log == expected, "the container printed {log:?}, expected {expected:?}");
    Ok(())
}

fn configmap_changes(ns: &Namespace<'_>) -> Result<()> {
    ns.run(&["create", "configmap", "page", "--from-literal=text=before"])?;
    ns.ready_pod(
        "mounted",
        r#"
containers:
- name: main
  image: busybox:stable
  command: [sleep, infinity]
  volumeMounts: [{name: page, mountPath: /page}]
volumes: [{name: page, configMap: {name: page}}]
"#,
    )?;
    ensure!(ns.run(&["exec", "mounted", "--", "cat", "/page/text"])? == "before");
    ns.run(&["patch", "configmap", "page", "-p", r#"{"data":{"text":"after"}}"#])?;
    eventually("the mounted file to change", Duration::from_secs(120), || {
        let seen = ns.run(&["exec", "mounted", "--", "cat", "/page/text"])?;
        Ok(if seen == "after" { Ok(()) } else { Err(seen) })
    })
}

fn token(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "holder",
        "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]",
    )?;
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = ns.run(&["exec", "holder", "--", "cat", path])?;
    let review = format!(
        r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{}"}}}}"#,
        token.trim()
    );
    let answer = ns.pipe(&["create", "-f", "-", "-o", "json"], review.as_bytes())?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    let user = &answer["status"]["user"];
    ensure!(answer["status"]["authenticated"] == true, "the token was refused: {answer}");
    ensure!(user["username"] == format!("system:serviceaccount:{}:default", ns.name).as_str(), "{user}");
    let pod = ns.get_pod("holder")?;
    ensure!(user["extra"]["authentication.kubernetes.io/pod-uid"][0] == pod["metadata"]["uid"], "{user}");
    ensure!(user["extra"]["authentication.kubernetes.io/node-name"][0] == "orca", "{user}");
    Ok(())
}

fn shared_volume(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "shared",
        r#"
volumes: [{name: work, emptyDir: {}}]
initContainers:
- {name: first, image: 'busybox:stable', command: [sh, -c, 'echo one > /data/file'], volumeMounts: [{name: work, mountPath: /data}]}
containers:
- {name: writer, image: 'busybox:stable', command: [sh, -c, 'echo two >> /data/file; sleep infinity'], volumeMounts: [{name: work, mountPath: /data}]}
- {name: reader, image: 'busybox:stable', command: [sleep, infinity], volumeMounts: [{name: work, mountPath: /data}]}
"#,
    )?;
    eventually("both lines", Duration::from_secs(20), || {
        let seen = ns.run(&["exec", "shared", "-c", "reader", "--", "cat", "/data/file"])?;
        Ok(if seen == "one\ntwo\n" { Ok(()) } else { Err(seen) })
    })
}

fn failing_init(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "broken",
        r#"
restartPolicy: Never
initContainers: [{name: first, image: 'busybox:stable', command: [sh, -c, 'exit 3']}]
containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]
"#,
    )?;
    let pod = ns.await_phase("broken", "Failed")?;
    ensure!(exit_code(&pod, "first") == Some(3), "{}", pod["status"]);
    ensure!(
        container(&pod, "main").is_some_and(|main| main["state"]["waiting"]["reason"] == "PodInitializing")
    );
    Ok(())
}

fn sidecar_job(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      nodeSelector: {type: virtual-kubelet}
      tolerations: [{key: virtual-kubelet.io/provider, operator: Exists}]
      initContainers:
      - {name: side, image: 'busybox:stable', restartPolicy: Always, command: [sh, -c, 'echo beside; sleep infinity']}
      containers:
      - {name: main, image: 'busybox:stable', command: [sh, -c, 'echo done']}
"#,
    )?;
    ns.run(&["wait", "job/work", "--for=condition=Complete", "--timeout=120s"])?;
    ensure!(ns.run(&["logs", "job/work", "-c", "main"])? == "done\n");
    ensure!(ns.run(&["logs", "job/work", "-c", "side"])? == "beside\n");
    Ok(())
}

fn hooks(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "hooked",
        r#"
terminationGracePeriodSeconds: 20
containers:
- name: main
  image: busybox:stable
  command: [sh, -c, 'trap "echo term; exit 0" TERM; while true; do sleep 0.2; done']
  lifecycle:
    postStart: {exec: {command: [sh, -c, 'echo started > /proc/1/fd/1']}}
    preStop: {exec: {command: [sh, -c, 'echo stopping > /proc/1/fd/1']}}
"#,
    )?;
    let mut follow = ns.background(&["logs", "-f", "hooked"])?;
    ns.run(&["delete", "pod", "hooked", "--timeout=60s"])?;
    let mut log = String::new();
    std::io::Read::read_to_string(follow.0.stdout.as_mut().context("stdout")?, &mut log)?;
    ensure!(log == "started\nstopping\nterm\n", "the log is {log:?}");
    Ok(())
}

fn grace(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod(
        "stubborn",
        r#"
terminationGracePeriodSeconds: 6
containers:
- {name: main, image: 'busybox:stable', command: [sh, -c, 'trap "echo asked" TERM; while true; do sleep 0.2; done']}
"#,
    )?;
    let mut follow = ns.background(&["logs", "-f", "stubborn"])?;
    let asked = std::time::Instant::now();
    ns.run(&["delete", "pod", "stubborn", "--timeout=60s"])?;
    ensure!(asked.elapsed() >= Duration::from_secs(5), "it was gone after {:?}", asked.elapsed());
    let mut log = String::new();
    std::io::Read::read_to_string(follow.0.stdout.as_mut().context("stdout")?, &mut log)?;
    ensure!(log == "asked\n", "SIGTERM was not seen: the log is {log:?}");
    Ok(())
}

fn restarts(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "flaky",
        r#"
restartPolicy: OnFailure
volumes: [{name: work, emptyDir: {}}]
containers:
- {name: second-try, image: 'busybox:stable', command: [sh, -c, 'test -e /data/tried && exit 0; touch /data/tried; exit 1'], volumeMounts: [{name: work, mountPath: /data}]}
- {name: never, image: 'busybox:stable', command: [sh, -c, 'exit 1']}
"#,
    )?;
    let pod = ns.await_pod("flaky", "to back off", START, |pod| {
        container(pod, "never").is_some_and(|it| it["state"]["waiting"]["reason"] == "CrashLoopBackOff")
    })?;
    ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
    ns.await_pod("flaky", "to have its second try succeed", START, |pod| {
        exit_code(pod, "second-try") == Some(0)
    })?;
    let previous = ns.run(&["logs", "flaky", "-c", "never", "--previous"])?;
    ensure!(previous.is_empty(), "{previous:?}");
    Ok(())
}

fn endings(ns: &Namespace<'_>) -> Result<()> {
    // The greedy one outlives its child: containerd 1.6 may miss an OOM kill that ends the container in the same moment.
    ns.pod(
        "endings",
        r#"
restartPolicy: Never
containers:
- {name: seven, image: 'busybox:stable', command: [sh, -c, 'echo -n "last words" > /dev/termination-log; exit 7']}
- {name: zero, image: 'busybox:stable', command: ['true']}
- name: greedy
  image: python:3
  command:
  - python3
  - -c
  - |
    import subprocess, sys, time
    code = subprocess.call([sys.executable, "-c", "print(len(bytearray(300 << 20)))"])
    time.sleep(1)
    sys.exit(128 - code)
  resources: {limits: {memory: 64Mi}}
- {name: fallback, image: 'busybox:stable', terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, 'echo from the log; exit 1']}
"#,
    )?;
    let pod = ns.await_phase("endings", "Failed")?;
    let ended =
        |name: &str| container(&pod, name).map(|it| it["state"]["terminated"].clone()).unwrap_or_default();
    ensure!(
        ended("seven")["exitCode"] == 7 && ended("seven")["message"] == "last words",
        "{}",
        ended("seven")
    );
    ensure!(ended("zero")["exitCode"] == 0 && ended("zero")["reason"] == "Completed", "{}", ended("zero"));
    ensure!(
        ended("greedy")["exitCode"] == 137 && ended("greedy")["reason"] == "OOMKilled",
        "{}",
        ended("greedy")
    );
    ensure!(ended("fallback")["message"] == "from the log\n", "{}", ended("fallback"));
    Ok(())
}

fn deadline(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "late",
        r#"
restartPolicy: Never
activeDeadlineSeconds: 5
containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]
"#,
    )?;
    let pod = ns.await_phase("late", "Failed")?;
    ensure!(pod["status"]["reason"] == "DeadlineExceeded", "{}", pod["status"]);
    ensure!(
        container(&pod, "main").is_some_and(|main| !main["state"]["terminated"].is_null()),
        "it never ran"
    );
    Ok(())
}

fn ephemeral(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("plain", "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]")?;
    ns.run(&[
        "debug",
        "plain",
        "--image=busybox:stable",
        "--container=look",
        "--target=main",
        "--",
        "sh",
        "-c",
        "ps; exit 4",
    ])?;
    ns.await_pod("plain", "to have run its ephemeral container", START, |pod| {
        exit_code(pod, "look") == Some(4)
    })?;
    let seen = ns.run(&["logs", "plain", "-c", "look"])?;
    ensure!(seen.contains("sleep infinity"), "it does not see its target: {seen}");
    Ok(())
}

fn no_image(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "missing",
        "containers: [{name: main, image: '127.0.0.1:9/none:here', command: [sleep, infinity]}]",
    )?;
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        ns.await_pod("missing", &format!("to say {reason}"), START, |pod| {
            container(pod, "main").is_some_and(|main| main["state"]["waiting"]["reason"] == reason)
        })?;
    }
    Ok(())
}

fn gpus(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: gpus, annotations: {orca.research/instance-type: g5.12xlarge}}
spec:
  restartPolicy: Never
  nodeSelector: {type: virtual-kubelet}
  tolerations: [{key: virtual-kubelet.io/provider, operator: Exists}]
  initContainers:
  - {name: before, image: 'busybox:stable', command: [sh, -c, 'echo $NVIDIA_VISIBLE_DEVICES']}
  containers:
  - name: one
    image: busybox:stable
    command: [sh, -c, 'echo $NVIDIA_VISIBLE_DEVICES']
    env: [{name: NVIDIA_VISIBLE_DEVICES, value: all}]
    resources: {limits: {nvidia.com/gpu: 1}}
  - {name: two, image: 'busybox:stable', command: [sh, -c, 'echo $NVIDIA_VISIBLE_DEVICES'], resources: {limits: {nvidia.com/gpu: 2}}}
  - {name: none, image: 'busybox:stable', command: [sh, -c, 'echo $NVIDIA_VISIBLE_DEVICES']}
"#,
    )?;
    ns.await_phase("gpus", "Succeeded")?;
    for (name, expected) in [("before", "void\n"), ("one", "0\n"), ("two", "1,2\n"), ("none", "void\n")] {
        let seen = ns.run(&["logs", "gpus", "-c", name])?;
        ensure!(seen == expected, "container {name} sees the GPUs {seen:?}, expected {expected:?}");
    }
    Ok(())
}

const WEB: &str = r#"
containers:
- name: web
  image: python:3
  command: [sh, -c, 'mkdir /www && cd /www && hostname > index.html && exec python3 -m http.server 8080']
  readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
"#;

fn addresses(ns: &Namespace<'_>) -> Result<()> {
    ns.pod("a", WEB)?;
    ns.ready_pod("b", WEB)?;
    ns.run(&["wait", "pod/a", "--for=condition=Ready", "--timeout=120s"])?;
    let (a, b) = (pod_ip(&ns.get_pod("a")?)?, pod_ip(&ns.get_pod("b")?)?);
    let page = Command::new("curl").args(["-sS", "-m", "5", &format!("http://{a}:8080/")]).output()?;
    ensure!(text(&page.stdout) == "a\n", "from the host: {}{}", text(&page.stdout), text(&page.stderr));
    let fetch = format!(
        "wget -qO- -T 5 http://{b}:8080/ || python3 -c \"import urllib.request as u; print(u.urlopen('http://{b}:8080/', timeout=5).read().decode(), end='')\""
    );
    let page = ns.run(&["exec", "a", "--", "sh", "-c", &fetch])?;
    ensure!(page == "b\n", "from pod to pod: {page:?}");
    Ok(())
}

fn host_network(ns: &Namespace<'_>) -> Result<()> {
    ns.ready_pod("host", &format!("hostNetwork: true\n{}", WEB.trim_start()))?;
    let pod = ns.get_pod("host")?;
    ensure!(pod["status"]["podIP"] == pod["status"]["hostIP"], "{}", pod["status"]);
    let instance = ns.instance()?;
    ensure!(
        pod["status"]["hostIP"] == instance["addresses"][0],
        "{} and {instance}",
        pod["status"]["hostIP"]
    );
    Ok(())
}

fn readiness_gates(ns: &Namespace<'_>) -> Result<()> {
    ns.pod(
        "gated",
        r#"
readinessGates: [{conditionType: example.com/open}]
containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]
"#,
    )?;
    let pod = ns.await_pod("gated", "to be ContainersReady", START, |pod| {
        condition(pod, "ContainersReady") == Some("True")
    })?;
    ensure!(condition(&pod, "Ready") == Some("False"), "{}", pod["status"]);
    let patch = r#"{"status":{"conditions":[{"type":"example.com/open","status":"True"}]}}"#;
    ns.run(&["patch", "pod", "gated", "--subresource=status", "-p", patch])?;
    let pod = ns.await_pod("gated", "to be Ready", Duration::from_secs(30), |pod| {
        condition(pod, "Ready") == Some("True")
    })?;
    ensure!(condition(&pod, "example.com/open") == Some("True"), "{}", pod["status"]);
    Ok(())
}
