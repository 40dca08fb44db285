//! Several layers: which one counts. The sentences are the rules of `docs/annotations.md`.

use super::support::{check, mk_rules, with_mode};
use crate::config::SelectionMode;

#[test]
fn for_each_field_the_nearest_layer_counts() {
    check(
        &mk_rules(),
        &[
            ("nobody says anything", "", ""),
            (
                "the pod goes before its owner, that before the namespace, that before the template and the defaults",
                "pod: template=t; max-price=1 | owner: max-price=2; efa=2 | namespace: max-price=3; efa=3; zones=us-east-1a \
                 | template t: max-price=4; efa=4; zones=us-east-1b; max-lifetime=4h \
                 | defaults: max-price=5; efa=5; zones=us-east-1c; max-lifetime=5h; capacity-wait=1h",
                "template=t max=1.00 zones=us-east-1a efa=2 lifetime=14400s wait=3600s",
            ),
            (
                "a template may be named by the namespace",
                "namespace: template=t | template t: max-price=4 | defaults: max-price=5",
                "template=t max=4.00",
            ),
            (
                "and by the node's defaults, before which it stands",
                "defaults: template=t; max-price=5; instance-type=t3.large | template t: max-price=4; instance-type=g6.xlarge",
                "types=g6.xlarge template=t max=4.00",
            ),
            (
                "only the nearest template counts",
                "pod: template=a | namespace: template=b | template a: max-price=1 | template b: max-price=2; efa=2",
                "template=a max=1.00",
            ),
            (
                "a list is never joined with another",
                "pod: zones=us-east-1a | namespace: zones=us-east-1b,us-east-1c",
                "zones=us-east-1a",
            ),
            (
                "of the root volume every part counts for itself, so that the operator's key is kept",
                "pod: template=t; root-volume=size=200Gi | template t: root-volume=size=500Gi,iops=6000,kms=alias/ml",
                "template=t volume=200/6000/-/alias/ml",
            ),
            (
                "`0s` waits for ever in spite of farther layers",
                "pod: capacity-wait=0s | defaults: capacity-wait=1h",
                "",
            ),
        ],
    );
}

#[test]
fn who_says_which_machine_it_is_to_be_is_free_of_farther_machines() {
    check(
        &mk_rules(),
        &[
            (
                "a type beats types of farther layers",
                "pod: instance-type=g6.xlarge | namespace: instance-types=p5.48xlarge,p4d.24xlarge",
                "types=g6.xlarge",
            ),
            (
                "and is not narrowed by models or memory of farther layers",
                "pod: instance-type=g6.xlarge | namespace: gpu-models=h100; gpu-memory-min=80Gi",
                "types=g6.xlarge",
            ),
            (
                "models free the pod from the node's default type",
                "pod: gpu-models=h100 | defaults: instance-type=g6.xlarge",
                "models=h100",
            ),
            (
                "memory per GPU does, too",
                "pod: gpu-memory-min=40Gi | namespace: instance-type=g6.xlarge",
                "memory=40960MiB",
            ),
            (
                "patterns of farther layers still hold beside models: they are no choice, but a fence",
                "pod: gpu-models=l4 | namespace: instance-types=g6.*",
                "patterns=g6.* models=l4",
            ),
            (
                "patterns beat a farther type",
                "pod: instance-types=g6.* | defaults: instance-type=t3.large",
                "patterns=g6.*",
            ),
            (
                "in one layer models narrow types",
                "pod: instance-types=g6.xlarge,p5.48xlarge; gpu-models=h100",
                "types=g6.xlarge,p5.48xlarge models=h100",
            ),
            (
                "a template that the pod names goes before the types of its namespace",
                "pod: template=t | namespace: instance-type=g6.xlarge | template t: instance-type=p5.48xlarge",
                "types=p5.48xlarge template=t",
            ),
            (
                "types of the pod itself go before those of its template",
                "pod: template=t; instance-type=g6.xlarge | template t: instance-type=p5.48xlarge; max-price=9",
                "types=g6.xlarge template=t max=9.00",
            ),
            (
                "types of the pod go before the template of the namespace",
                "pod: instance-type=g6.xlarge | namespace: template=t | template t: instance-type=p5.48xlarge; gpu-models=h100",
                "types=g6.xlarge template=t",
            ),
            (
                "models narrow the types of the template that is named beside them",
                "pod: template=t; gpu-models=l4 | template t: instance-types=p5.48xlarge,g6.xlarge",
                "types=p5.48xlarge,g6.xlarge template=t models=l4",
            ),
            (
                "but not a type that is named beside the template",
                "pod: template=t; instance-type=g6.xlarge | template t: gpu-models=h100",
                "types=g6.xlarge template=t",
            ),
            (
                "a reservation of the pod goes before the types of its template",
                "pod: template=t; capacity-reservation-id=cr-0a1b2c3d | template t: instance-type=p5.48xlarge",
                "template=t reservation=required ids=cr-0a1b2c3d",
            ),
            (
                "shares of GPUs are a permission, which any layer may give",
                "pod: gpu-memory-min=2Gi | namespace: accelerator-fraction=allow",
                "memory=2048MiB share=yes",
            ),
        ],
    );
    check(
        &with_mode(SelectionMode::Explicit),
        &[(
            "where ORCA may not choose, models narrow the types of farther layers",
            "pod: gpu-models=l4 | defaults: instance-types=g6.xlarge,g5.xlarge",
            "types=g6.xlarge,g5.xlarge models=l4",
        )],
    );
}

#[test]
fn a_reservation_that_is_required_brings_its_own_type() {
    check(
        &mk_rules(),
        &[
            (
                "an id frees the pod from the node's default type, and from models",
                "pod: capacity-reservation-id=cr-0a1b2c3d | defaults: instance-type=g6.xlarge; gpu-models=l4",
                "reservation=required ids=cr-0a1b2c3d",
            ),
            (
                "a block does, too",
                "pod: capacity-block-id=cr-0a1b2c3d | defaults: instance-type=g6.xlarge",
                "markets=capacity-block block=cr-0a1b2c3d",
            ),
            (
                "but not where the reservation is only preferred: outside it, the types of farther layers count",
                "pod: capacity-reservation-id=cr-0a1b2c3d; capacity-reservation-preference=prefer | defaults: instance-type=g6.xlarge",
                "types=g6.xlarge reservation=prefer ids=cr-0a1b2c3d",
            ),
            (
                "nor where none is named: any open one of the type",
                "pod: capacity-reservation-preference=required | defaults: instance-type=g6.xlarge",
                "types=g6.xlarge reservation=required",
            ),
            (
                "a nearer type does not leave the namespace's reservation: the plan says whether they fit",
                "pod: instance-type=g6.xlarge | namespace: capacity-reservation-id=cr-0a1b2c3d",
                "types=g6.xlarge reservation=required ids=cr-0a1b2c3d",
            ),
            (
                "a type beside the id narrows nothing, and both are kept",
                "pod: instance-type=p5.48xlarge; capacity-reservation-id=cr-0a1b2c3d",
                "types=p5.48xlarge reservation=required ids=cr-0a1b2c3d",
            ),
        ],
    );
}

#[test]
fn what_excludes_each_other_gives_way_from_the_farther_layer() {
    check(
        &mk_rules(),
        &[
            (
                "spot in the pod leaves the namespace's reservation",
                "pod: capacity-type=spot | namespace: capacity-reservation-id=cr-0a1b2c3d; capacity-reservation-preference=required",
                "markets=spot",
            ),
            (
                "a reservation in the pod leaves the namespace's spot",
                "pod: capacity-reservation-id=cr-0a1b2c3d | namespace: capacity-type=spot,on-demand; max-spot-price=2",
                "reservation=required ids=cr-0a1b2c3d spot-max=2.00",
            ),
            (
                "the namespace says which reservations, the pod that it wants them",
                "pod: capacity-type=reserved | namespace: capacity-reservation-id=cr-0a1b2c3d",
                "markets=reserved reservation=required ids=cr-0a1b2c3d",
            ),
            (
                "or that it can do without",
                "pod: capacity-type=reserved,on-demand | namespace: capacity-reservation-id=cr-0a1b2c3d",
                "markets=reserved,on-demand reservation=prefer ids=cr-0a1b2c3d",
            ),
            (
                "or that it wants none",
                "pod: capacity-reservation-preference=none | namespace: capacity-reservation-id=cr-0a1b2c3d",
                "",
            ),
            (
                "reservations are named by one layer alone",
                "pod: capacity-reservation-id=cr-0a1b2c3d \
                 | namespace: capacity-reservation-group=arn:aws:resource-groups:us-east-1:111122223333:group/ml; capacity-block-id=cb-0a1b2c3d",
                "reservation=required ids=cr-0a1b2c3d",
            ),
            (
                "a block in the pod leaves the namespace's markets",
                "pod: capacity-block-id=cb-0a1b2c3d | namespace: capacity-type=on-demand",
                "markets=capacity-block block=cb-0a1b2c3d",
            ),
            (
                "on demand in the pod leaves the namespace's block",
                "pod: capacity-type=on-demand | namespace: capacity-block-id=cb-0a1b2c3d",
                "markets=on-demand",
            ),
            (
                "a limit for spot of a farther layer binds those who choose spot",
                "pod: capacity-type=spot | namespace: max-spot-price=2",
                "markets=spot spot-max=2.00",
            ),
            (
                "and does not harm the others",
                "pod: capacity-type=on-demand | defaults: max-spot-price=2",
                "markets=on-demand spot-max=2.00",
            ),
            (
                "zones and subnets both say where: the nearer layer does",
                "pod: zones=us-east-1b | namespace: subnets=subnet-aaaa",
                "zones=us-east-1b",
            ),
            (
                "a need of a farther layer gives way to a nearer limit",
                "pod: max-lifetime=1h | namespace: min-runtime=2h; estimated-duration=3h",
                "lifetime=3600s",
            ),
        ],
    );
}

#[test]
fn how_reservations_are_wanted_follows_from_what_is_named() {
    check(
        &mk_rules(),
        &[
            ("`reserved` alone", "pod: capacity-type=reserved", "markets=reserved reservation=required"),
            (
                "`reserved` and another",
                "pod: capacity-type=reserved,spot,on-demand",
                "markets=reserved,spot,on-demand reservation=prefer",
            ),
            ("another alone", "pod: capacity-type=on-demand", "markets=on-demand"),
            (
                "to EC2 a machine in a reservation is on demand, so that is no way out of it",
                "pod: capacity-type=on-demand; capacity-reservation-id=cr-0a1b2c3d",
                "reservation=required ids=cr-0a1b2c3d",
            ),
            (
                "`required` goes before the list",
                "pod: capacity-type=reserved,on-demand; capacity-reservation-preference=required",
                "markets=reserved reservation=required",
            ),
            (
                "`prefer` beside on demand",
                "pod: capacity-type=on-demand; capacity-reservation-preference=prefer",
                "markets=on-demand reservation=prefer",
            ),
            (
                "a block, else something else",
                "pod: capacity-type=capacity-block,on-demand; capacity-block-id=cb-0a1b2c3d",
                "markets=capacity-block,on-demand block=cb-0a1b2c3d",
            ),
        ],
    );
}
