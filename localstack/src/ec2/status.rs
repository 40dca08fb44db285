//! DescribeInstanceStatus: the checks of the hypervisor and of the system, and scheduled events.

use std::collections::BTreeMap;

use super::filter::{Field, Filtered, Filters};
use super::page::Page;
use super::{Call, instances, render};
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::clock;
use crate::world::events::Event;
use crate::world::instance::{Instance, State};

/// An instance with its checks.
struct Checked {
    instance: Instance,
    /// `ok`, `initializing` or `not-applicable`.
    status: &'static str,
}

pub(super) fn describe_instance_status(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("InstanceId");
    let all = scope.flag("IncludeAllInstances")?.unwrap_or(false);
    scope.flag("IncludeManagedResources")?;
    let filters = Filters::parse::<Checked>(&scope)?;
    Page::not_with(call.params, "InstanceId", "instancesSet")?;
    let page = Page::parse(call.params, 5..=1000)?;
    call.ready()?;
    let transition = call.world.view(|cloud, _| cloud.timing.transition);
    let passing: Vec<Checked> = instances::visible(call, &ids)?
        .into_iter()
        .filter(|instance| all || instance.state == State::Running)
        .map(|instance| {
            // The checks take as long as a transition.
            let status = match instance.state {
                State::Running if clock::after(instance.since, transition) <= clock::now() => "ok",
                State::Running => "initializing",
                State::Pending
                | State::ShuttingDown
                | State::Terminated
                | State::Stopping
                | State::Stopped => "not-applicable",
            };
            Checked { instance, status }
        })
        .filter(|checked| filters.pass(checked))
        .collect();
    let (shown, next) = page.cut(passing, |checked| format!("{:016}", checked.instance.sequence));
    let mut xml = Xml::default();
    xml.list("instanceStatusSet", shown, |xml, Checked { instance, status }| {
        xml.text("instanceId", &instance.id);
        xml.text("availabilityZone", &instance.subnet.zone);
        xml.text("availabilityZoneId", &instance.subnet.zone_id);
        render::state(xml, "instanceState", instance.state);
        if !instance.events.is_empty() {
            xml.list("eventsSet", &instance.events, |xml, event| {
                xml.text("instanceEventId", &event.id);
                xml.text("code", event.code.name());
                xml.text("description", event.description());
                xml.text("notBefore", clock::iso(event.not_before));
                xml.maybe("notAfter", event.not_after.map(clock::iso));
            });
        }
        for name in ["systemStatus", "instanceStatus"] {
            xml.element(name, |xml| {
                xml.text("status", status);
                let check = match status {
                    "ok" => Some("passed"),
                    "initializing" => Some("initializing"),
                    _ => None,
                };
                xml.list("details", check, |xml, check| {
                    xml.text("name", "reachability");
                    xml.text("status", check);
                });
            });
        }
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn of_events(checked: &Checked, what: fn(&Event) -> String) -> Vec<String> {
    checked.instance.events.iter().map(what).collect()
}

impl Filtered for Checked {
    const TAGGED: bool = false;

    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        None
    }

    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "availability-zone", values: |c| vec![c.instance.subnet.zone.clone()] },
        Field { name: "availability-zone-id", values: |c| vec![c.instance.subnet.zone_id.clone()] },
        Field { name: "event.code", values: |c| of_events(c, |event| event.code.name().to_owned()) },
        Field { name: "event.description", values: |c| of_events(c, Event::description) },
        Field { name: "event.instance-event-id", values: |c| of_events(c, |event| event.id.clone()) },
        Field {
            name: "event.not-after",
            values: |c| {
                c.instance.events.iter().filter_map(|event| event.not_after.map(clock::iso)).collect()
            },
        },
        Field { name: "event.not-before", values: |c| of_events(c, |event| clock::iso(event.not_before)) },
        Field { name: "instance-state-code", values: |c| vec![c.instance.state.code().to_string()] },
        Field { name: "instance-state-name", values: |c| vec![c.instance.state.name().to_owned()] },
        Field { name: "instance-status.status", values: |c| vec![c.status.to_owned()] },
        Field { name: "system-status.status", values: |c| vec![c.status.to_owned()] },
    ];
}
