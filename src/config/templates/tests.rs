//! What the operator may write for templates and defaults, and what is said about mistakes.

use crate::config::resolve::tests::MINIMAL;
use crate::config::{Config, Facts, Instances, SelectionMode};

const ENTIRELY: &str = "defaultInstanceType: g6.xlarge";

fn resolve(instances: &str) -> Result<(Instances, Vec<String>), Vec<String>> {
    let instances: String = instances.lines().map(|line| format!("  {line}\n")).collect();
    let file = MINIMAL.replace(&format!("  {ENTIRELY}\n"), &instances);
    let facts = Facts { outward_ip: Some([10, 0, 0, 1].into()), ..Facts::default() };
    match Config::resolve(&file, &facts) {
        Ok((config, warnings)) => {
            Ok((config.instances, warnings.into_iter().map(|warning| warning.text).collect()))
        }
        Err(problems) => Err(problems.0.into_iter().map(|problem| problem.text).collect()),
    }
}

/// `key=value` of a layer, in the order of the keys.
fn values(instances: &Instances, template: &str) -> String {
    let layer = instances.templates.get(template).unwrap();
    assert_eq!(layer.origin, format!("instances.templates.{template}"));
    let pairs = layer.values.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join("; ")
}

#[test]
fn the_section_is_read_with_what_wishes_are_checked_against() {
    let (instances, _) = resolve(
        "selectionMode: template
allowedCapacityTypes: [reserved, on-demand]
allowedAMIs: [ami-0a1b2c3d, '/ml/*']
allowedTenancies: [dedicated]
maxRootVolumeSizeGiB: 200",
    )
    .unwrap();
    assert_eq!(instances.selection_mode, SelectionMode::Template);
    assert_eq!(instances.allowed_capacity_types.len(), 2);
    assert_eq!(instances.allowed_amis, ["ami-0a1b2c3d", "/ml/*"]);
    assert_eq!(instances.allowed_tenancies.len(), 1);
    assert_eq!((instances.region.as_str(), instances.subnet_ids.len()), ("us-east-1", 1));
    assert_eq!(instances.default_instance_type(), None);
    let (plain, _) = resolve("").unwrap();
    let expected = Instances {
        region: plain.region.clone(),
        subnet_ids: plain.subnet_ids.clone(),
        ..Instances::default()
    };
    assert_eq!(plain, expected, "`Instances::default` has the documented defaults");
}

#[test]
fn the_default_type_is_short_for_a_default() {
    let (instances, _) = resolve(ENTIRELY).unwrap();
    assert_eq!(instances.defaults.values, [("instance-type".to_owned(), "g6.xlarge".to_owned())].into());
    assert_eq!(instances.default_instance_type(), Some("g6.xlarge"));
    let (instances, _) = resolve("defaults: {instance-types: [g5.xlarge, g6.xlarge]}").unwrap();
    assert_eq!(instances.default_instance_type(), Some("g5.xlarge"));
    let (instances, _) = resolve("defaults: {instance-types: 'g6.*'}").unwrap();
    assert_eq!(instances.default_instance_type(), None);
    assert_eq!(
        resolve(&format!("{ENTIRELY}\ndefaults: {{instance-type: t3.large}}")).unwrap_err(),
        [
            "instances.defaultInstanceType is set beside instances.defaults.instance-type, expected only one of them"
        ]
    );
}

#[test]
fn a_template_has_what_it_extends_and_does_not_say_itself() {
    let (instances, warnings) = resolve(
        "templates:
  base: {instance-types: [g6.xlarge, g5.xlarge], zones: us-east-1a, root-volume: 'size=100Gi,iops=6000'}
  large: {extends: base, instance-type: p5.48xlarge, root-volume: size=500Gi, max-price: 60}
  larger: {extends: large, capacity-type: [reserved, on-demand], max-price: 90.5}
  empty:",
    )
    .unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        values(&instances, "larger"),
        "capacity-type=reserved,on-demand; instance-type=p5.48xlarge; max-price=90.5; root-volume=size=500Gi,iops=6000; zones=us-east-1a"
    );
    assert_eq!(
        values(&instances, "base"),
        "instance-types=g6.xlarge,g5.xlarge; root-volume=size=100Gi,iops=6000; zones=us-east-1a"
    );
    assert_eq!(values(&instances, "empty"), "");
    assert_eq!(instances.named_types(), ["g6.xlarge", "g5.xlarge", "p5.48xlarge", "p5.48xlarge"]);
}

#[test]
fn what_a_template_says_excludes_what_it_inherits() {
    let (instances, _) = resolve(
        "templates:
  reserved: {capacity-reservation-id: cr-0a1b2c3d, instance-types: [g6.xlarge, p5.48xlarge]}
  spot: {extends: reserved, capacity-type: spot, gpu-models: h100}
  limit: {max-spot-price: 2}",
    )
    .unwrap();
    assert_eq!(
        values(&instances, "spot"),
        "capacity-type=spot; gpu-models=h100; instance-types=g6.xlarge,p5.48xlarge",
        "models narrow what is inherited; a reservation that is inherited gives way to spot"
    );
    assert_eq!(values(&instances, "limit"), "max-spot-price=2", "a limit for those who choose spot");
}

#[test]
fn older_names_are_accepted_with_a_warning_but_not_beside_the_new_ones() {
    let (instances, warnings) =
        resolve("templates:\n  gpu: {instanceType: g6.xlarge, launchType: spot, maxSpotPrice: 0.50}")
            .unwrap();
    assert_eq!(values(&instances, "gpu"), "capacity-type=spot; instance-type=g6.xlarge; max-spot-price=0.5");
    assert_eq!(
        warnings,
        [
            "instances.templates.gpu.instanceType is an older spelling, use instances.templates.gpu.instance-type",
            "instances.templates.gpu.launchType is an older spelling, use instances.templates.gpu.capacity-type",
            "instances.templates.gpu.maxSpotPrice is an older spelling, use instances.templates.gpu.max-spot-price"
        ]
    );
    assert_eq!(
        resolve("defaults: {instance-type: g6.xlarge, instanceType: g5.xlarge}").unwrap_err(),
        [
            "instances.defaults.instanceType is an older spelling of instances.defaults.instance-type, expected only one of them"
        ]
    );
}

#[test]
fn every_mistake_is_told_at_once_with_its_path() {
    let found = resolve(
        "selectionMode: manual
allowedCapacityTypes: [reserved, spots]
allowedInstanceTypes: ['g6.*']
defaults: {max-price: cheap, template: none, instance-type: t3.large}
templates:
  base: {max-prize: 1, capacity-type: spot, capacity-reservation-id: cr-0a1b2c3d}
  child: {extends: base, efa: 99}
  orphan: {extends: nobody}
  grandchild: {extends: orphan}
  one: {extends: two}
  two: {extends: three}
  three: {extends: two}
  self: {extends: self}
  -bad-: {}
  nested: {template: base, zones: {a: b}, launch: '{}', user-data: abc, root-volume: throughput=1000}
  number: 5",
    )
    .unwrap_err();
    insta::assert_snapshot!(found.join("\n"), @r"
    instances.selectionMode is `manual`, expected `explicit`, `template` or `auto`
    instances.allowedCapacityTypes[1] is `spots`, expected an element of a list of `reserved`, `capacity-block`, `interruptible`, `spot` and `on-demand`
    instances.templates.nested.zones is a mapping, expected a text, a number, or a list of such
    instances.templates.number is `5`, expected a mapping
    instances.templates.-bad- is not a name, expected letters, digits, `-`, `_` and `.`, 63 at most
    instances.templates.nested.template is for pods, expected instances.templates.nested.extends
    instances.templates.base.capacity-type is `spot`, and `instances.allowedCapacityTypes` does not list `spot`: expected `reserved`
    instances.templates.base.max-prize is not a key, did you mean `max-price`?
    instances.templates.base.capacity-type is `spot`, and a spot machine is never in a reservation: expected no `spot`, or no instances.templates.base.capacity-reservation-id
    instances.templates.child.efa is `99`, expected `true`, `false` or 0 to 32
    instances.templates.nested.launch is not a key
    instances.templates.nested.user-data is not for pods: ORCA's own bootstrap is the user data of every machine; use an init container, or an image of your own
    instances.templates.nested.root-volume is `throughput=1000`, and with it and `instances.rootVolume` the volume's throughput is `1000`, expected at most 750, a quarter of the IOPS
    instances.templates.orphan.extends is `nobody`, expected one of the names in instances.templates
    instances.templates.self.extends is `self`, which closes a loop: `self` → `self`
    instances.templates.two.extends is `three`, which closes a loop: `three` → `two` → `three`
    instances.templates.three.extends is `two`, which closes a loop: `two` → `three` → `two`
    instances.defaults.instance-type is `t3.large`, and `t3.large` is not allowed: expected one of `g6.*`
    instances.defaults.max-price is `cheap`, expected US dollars per hour such as `1.25`
    instances.defaults.template is `none`, expected one of the names in instances.templates
    ");
}

#[test]
fn templates_do_not_suit_every_mode() {
    let gpu = "templates: {gpu: {instance-types: ['g6.*']}}";
    assert!(resolve(&format!("selectionMode: auto\n{gpu}")).is_ok());
    assert_eq!(
        resolve(&format!("selectionMode: template\n{gpu}")).unwrap_err(),
        [
            "instances.templates.gpu.instance-types is `g6.*`, but `instances.selectionMode` is `template`, and only `auto` \
             chooses by pattern: expected types in full"
        ]
    );
    assert_eq!(
        resolve("selectionMode: explicit\ndefaults: {template: gpu}\ntemplates: {gpu: {}}").unwrap_err(),
        [
            "instances.defaults.template is `gpu`, but `instances.selectionMode` is `explicit`, and only `template` and `auto` \
             allow templates: expected an instance type or a reservation"
        ]
    );
}
