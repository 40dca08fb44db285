//! Two clouds as one: who is asked, and what a list is worth while one of them is away.

use super::*;
use crate::cloud::InstanceState;
use crate::cloud::testing::mk_instance;

/// A cloud that says what it is told to say, and remembers what it was asked.
#[derive(Debug, Default)]
struct Told {
    list: Mutex<Vec<&'static str>>,
    is_away: std::sync::atomic::AtomicBool,
    /// How long a list takes.
    takes: Mutex<Duration>,
    asked: Mutex<Vec<String>>,
}

impl Told {
    fn new(list: &[&'static str]) -> Arc<Self> {
        Arc::new(Self { list: Mutex::new(list.to_vec()), ..Self::default() })
    }

    fn show(&self, list: &[&'static str]) {
        *self.list.lock().unwrap() = list.to_vec();
    }

    fn is_away(&self, is_away: bool) {
        self.is_away.store(is_away, std::sync::atomic::Ordering::SeqCst);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn ask(&self, what: String) -> Result<(), CloudError> {
        self.asked.lock().unwrap().push(what);
        let is_away = self.is_away.load(std::sync::atomic::Ordering::SeqCst);
        if is_away {
            Err(CloudError::Transient { code: "Away".to_owned(), message: String::new() })
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Cloud for Told {
    async fn admit(&self, _spec: &LaunchSpec) -> Result<(), CloudError> {
        self.ask("admit".to_owned())
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance, CloudError> {
        self.ask(format!("launch {}", spec.token))?;
        Ok(mk_instance("new", InstanceState::Pending))
    }

    async fn instances(&self) -> Result<Vec<Instance>, CloudError> {
        self.ask("list".to_owned())?;
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        let list = self.list.lock().unwrap();
        Ok(list.iter().map(|id| mk_instance(id, InstanceState::Running)).collect())
    }

    async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError> {
        self.ask(format!("get {id}")).map(|()| None)
    }

    async fn terminate(&self, id: &str) -> Result<(), CloudError> {
        self.ask(format!("end {id}"))
    }

    async fn tag(&self, id: &str, _tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        self.ask(format!("tag {id}"))
    }

    async fn console(&self, id: &str) -> Result<String, CloudError> {
        self.ask(format!("console {id}")).map(|()| String::new())
    }

    async fn scheduled_events(&self) -> Result<Vec<ScheduledEvent>, CloudError> {
        self.ask("events".to_owned()).map(|()| Vec::new())
    }

    async fn leftovers(&self, kind: LeftoverKind) -> Result<Vec<Leftover>, CloudError> {
        self.ask(format!("leftover {}s", kind.label())).map(|()| Vec::new())
    }

    async fn discard(&self, _kind: LeftoverKind, id: &str) -> Result<(), CloudError> {
        self.ask(format!("discard {id}"))
    }
}

#[tokio::test]
async fn what_only_ec2_has_is_asked_of_ec2_alone() {
    let (_, runpod, clouds) = clouds();
    assert_eq!(clouds.scheduled_events().await, Ok(Vec::new()));
    assert_eq!(clouds.leftovers(LeftoverKind::Volume).await, Ok(Vec::new()));
    assert_eq!(clouds.discard(LeftoverKind::Volume, "vol-1").await, Ok(()));
    let without = Clouds::new(None, Some(runpod));
    assert_eq!(without.scheduled_events().await, Ok(Vec::new()));
    assert_eq!(without.leftovers(LeftoverKind::Volume).await, Ok(Vec::new()));
    assert!(without.discard(LeftoverKind::Volume, "vol-1").await.is_err());
}

fn clouds() -> (Arc<Told>, Arc<Told>, Clouds) {
    let (ec2, runpod) = (Told::new(&["i-1"]), Told::new(&["7h9k"]));
    let clouds = Clouds::new(Some(ec2.clone()), Some(runpod.clone()));
    (ec2, runpod, clouds)
}

async fn ids(clouds: &Clouds) -> Result<Vec<String>, &'static str> {
    let list = clouds.instances().await.map_err(|error| error.kind())?;
    Ok(list.into_iter().map(|one| one.id).collect())
}

fn mk_order_spec() -> LaunchSpec {
    use crate::cloud::runpod::{CloudTier, Hardware, Order};
    let order = Order {
        name: String::new(),
        image: "busybox".to_owned(),
        entrypoint: Vec::new(),
        command: Vec::new(),
        env: BTreeMap::new(),
        hardware: Hardware::Cpu { id: "cpu3c".to_owned(), vcpus: 2 },
        cloud: CloudTier::Secure,
        data_center_ids: Vec::new(),
        disk_gb: 20,
        ports: Vec::new(),
        registry_id: None,
        network_volume: None,
    };
    LaunchSpec { token: "r".to_owned(), runpod: Some(Box::new(order)), ..LaunchSpec::default() }
}

#[tokio::test(start_paused = true)]
async fn everything_goes_to_whose_it_is() {
    let (ec2, runpod, clouds) = clouds();
    let spec = LaunchSpec { token: "e".to_owned(), ..LaunchSpec::default() };
    for spec in [spec, mk_order_spec()] {
        clouds.admit(&spec).await.unwrap();
        clouds.launch(&spec).await.unwrap();
    }
    for id in ["i-0abc", "7h9k2m4n6p"] {
        clouds.instance(id).await.unwrap();
        clouds.terminate(id).await.unwrap();
        clouds.tag(id, &BTreeMap::new()).await.unwrap();
        clouds.console(id).await.unwrap();
    }
    assert_eq!(
        ec2.asked(),
        ["admit", "launch e", "get i-0abc", "end i-0abc", "tag i-0abc", "console i-0abc"]
    );
    let expected =
        ["admit", "launch r", "get 7h9k2m4n6p", "end 7h9k2m4n6p", "tag 7h9k2m4n6p", "console 7h9k2m4n6p"];
    assert_eq!(runpod.asked(), expected);
}

#[tokio::test(start_paused = true)]
async fn who_is_away_shows_what_it_showed_last_and_hides_nothing_of_the_other() {
    let (ec2, runpod, clouds) = clouds();
    assert!(!clouds.is_read(Provider::Ec2) && !clouds.is_read(Provider::RunPod));
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1", "7h9k"]);
    tokio::time::sleep(PACE).await;
    runpod.is_away(true);
    ec2.show(&["i-1", "i-2"]);
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1", "i-2", "7h9k"]);
    assert!(matches!(&clouds.troubles()[..], [(Provider::RunPod, CloudError::Transient { .. })]));
    runpod.is_away(false);
    runpod.show(&["8i0l"]);
    ec2.is_away(true);
    tokio::time::sleep(PACE).await;
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1", "i-2", "8i0l"]);
    assert!(matches!(&clouds.troubles()[..], [(Provider::Ec2, _)]));
    ec2.is_away(false);
    ids(&clouds).await.unwrap();
    assert_eq!(clouds.troubles(), []);
}

#[tokio::test(start_paused = true)]
async fn at_the_start_ec2_waits_for_nobody_and_nothing_is_listed_without_it() {
    let (ec2, runpod, clouds) = clouds();
    runpod.is_away(true);
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1"]);
    assert!(clouds.is_read(Provider::Ec2) && !clouds.is_read(Provider::RunPod));
    runpod.is_away(false);
    tokio::time::sleep(PACE).await;
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1", "7h9k"]);
    let (late, other) = (Told::new(&["i-1"]), Told::new(&["7h9k"]));
    let clouds = Clouds::new(Some(late.clone()), Some(other));
    late.is_away(true);
    assert_eq!(ids(&clouds).await, Err("transient"));
    late.is_away(false);
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1", "7h9k"]);
    drop(ec2);
}

#[tokio::test(start_paused = true)]
async fn ec2_does_not_wait_for_a_runpod_that_hangs_and_its_list_comes_when_it_comes() {
    let (ec2, runpod, clouds) = clouds();
    *runpod.takes.lock().unwrap() = Duration::from_secs(50);
    let start = Instant::now();
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1"]);
    assert_eq!(start.elapsed(), RUNPOD_PATIENCE);
    assert!(clouds.trouble().is_some_and(|trouble| trouble.code() == "Timeout"));
    while start.elapsed() < Duration::from_secs(44) {
        assert_eq!(ids(&clouds).await.unwrap(), ["i-1"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1", "7h9k"]);
    assert_eq!((clouds.trouble(), runpod.asked().len()), (None, 1));
    // The same the other way round: what EC2 showed last.
    *ec2.takes.lock().unwrap() = Duration::from_secs(600);
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1", "7h9k"]);
    assert!(clouds.trouble().is_some());
}

#[tokio::test(start_paused = true)]
async fn runpod_is_listed_less_often_than_ec2() {
    let (ec2, runpod, clouds) = clouds();
    for _ in 0..16 {
        ids(&clouds).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((ec2.asked().len(), runpod.asked().len()), (16, 2));
}

#[tokio::test(start_paused = true)]
async fn one_alone_is_as_it_is() {
    let ec2 = Told::new(&["i-1"]);
    let clouds = Clouds::new(Some(ec2.clone()), None);
    assert_eq!(ids(&clouds).await.unwrap(), ["i-1"]);
    assert!(clouds.is_read(Provider::RunPod), "there is nothing to read");
    let refused = clouds.launch(&mk_order_spec()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), ("invalid", "NotConfigured"));
    assert_eq!(clouds.terminate("7h9k").await.unwrap_err().kind(), "invalid");
    let runpod = Told::new(&["7h9k"]);
    let clouds = Clouds::new(None, Some(runpod.clone()));
    runpod.is_away(true);
    assert_eq!(ids(&clouds).await, Err("transient"));
    runpod.is_away(false);
    assert_eq!(ids(&clouds).await.unwrap(), ["7h9k"]);
    runpod.is_away(true);
    assert_eq!(ids(&clouds).await, Err("transient"), "nothing old is shown as if it were new");
}
