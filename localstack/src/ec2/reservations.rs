//! DescribeCapacityReservations: our own ones, and those that others share with us.

use std::collections::BTreeMap;

use super::Call;
use super::filter::{Field, Filtered, Filters};
use super::ids::Kind;
use super::page::Page;
use super::render;
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::clock;
use crate::world::reservations::{Nature, Reservation, State};

/// EC2's own tag on a Capacity Block that has not begun: its size, while nothing of it is available.
const QUANTITY: &str = "aws:ec2capacityreservation:incrementalRequestedQuantity";

/// A reservation as it is now.
struct Seen {
    reservation: Reservation,
    arn: String,
    state: State,
    available: u32,
    used: u32,
    /// Those carved from it: id and size.
    carved: Option<(String, u32)>,
}

pub(super) fn describe_capacity_reservations(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("CapacityReservationId");
    let filters = Filters::parse::<Seen>(&scope)?;
    Page::not_with(call.params, "CapacityReservationId", "capacityReservationIdSet")?;
    let page = Page::parse(call.params, 1..=1000)?;
    call.ready()?;
    let region = &call.world.region;
    let seen = call.world.view(|cloud, now| {
        let see = |reservation: &Reservation| Seen {
            arn: format!(
                "arn:aws:ec2:{region}:{}:capacity-reservation/{}",
                reservation.owner, reservation.id
            ),
            state: reservation.state(now),
            available: cloud.available(&reservation.id, now),
            used: cloud.used(&reservation.id) + reservation.used_elsewhere,
            carved: carved(cloud.reservations.values(), &reservation.id),
            reservation: reservation.clone(),
        };
        if ids.is_empty() {
            return Ok(cloud.reservations.values().map(see).collect());
        }
        Kind::Reservation.find_all(&ids, |id| cloud.reservations.get(id).map(see))
    })?;
    let passing: Vec<Seen> = seen.into_iter().filter(|seen| filters.pass(seen)).collect();
    let (shown, next) = page.cut(passing, |seen| seen.reservation.id.clone());
    let mut xml = Xml::default();
    xml.list("capacityReservationSet", &shown, reservation);
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn reservation(xml: &mut Xml, seen: &Seen) {
    let Seen { reservation, arn, state, available, used, carved } = seen;
    xml.text("capacityReservationId", &reservation.id);
    xml.text("ownerId", &reservation.owner);
    xml.text("capacityReservationArn", arn);
    xml.text("availabilityZoneId", &reservation.zone_id);
    xml.text("instanceType", reservation.kind.name);
    xml.text("instancePlatform", &reservation.platform);
    xml.text("availabilityZone", &reservation.zone);
    xml.text("tenancy", reservation.tenancy.name());
    xml.text("totalInstanceCount", reservation.total);
    xml.text("availableInstanceCount", available);
    xml.text("ebsOptimized", reservation.ebs_optimized);
    xml.text("ephemeralStorage", false);
    xml.text("state", state.name());
    xml.text("startDate", clock::iso(reservation.start));
    xml.maybe("endDate", reservation.end.map(clock::iso));
    xml.text("endDateType", reservation.end_type());
    xml.text("instanceMatchCriteria", reservation.matching.name());
    xml.text("createDate", clock::iso(reservation.created));
    let mut tags = reservation.tags.clone();
    if reservation.block().is_some() && *state == State::Scheduled {
        tags.insert(QUANTITY.to_owned(), reservation.total.to_string());
    }
    render::tags(xml, &tags);
    xml.maybe("placementGroupArn", reservation.placement_group.as_ref());
    xml.list("capacityAllocationSet", (*used > 0).then_some(used), |xml, used| {
        xml.text("allocationType", "used");
        xml.text("count", used);
    });
    xml.text("reservationType", if reservation.block().is_some() { "capacity-block" } else { "default" });
    xml.maybe("capacityBlockId", reservation.block().map(|block| &block.id));
    xml.maybe("unusedReservationBillingOwnerId", reservation.billing_owner.as_ref());
    if let Nature::Interruptible { source } = &reservation.nature {
        xml.text("interruptible", true);
        xml.element("interruptionInfo", |xml| {
            xml.maybe("sourceCapacityReservationId", source.as_ref());
            xml.text("interruptionType", "adhoc");
        });
    } else {
        xml.text("interruptible", false);
    }
    if let Some((id, count)) = carved {
        xml.element("interruptibleCapacityAllocation", |xml| {
            xml.text("instanceCount", count);
            xml.text("targetInstanceCount", count);
            xml.text("status", "active");
            xml.text("interruptibleCapacityReservationId", id);
            xml.text("interruptionType", "adhoc");
        });
    }
    let launchable = reservation.block().and_then(|block| block.ultraserver.as_ref());
    xml.maybe("launchStatus", launchable.map(|_| if *available > 0 { "launchable" } else { "unlaunchable" }));
    if let Some((count, end)) = reservation.commitment {
        xml.element("commitmentInfo", |xml| {
            xml.text("committedInstanceCount", count);
            xml.text("commitmentEndDate", clock::iso(end));
        });
        xml.text("deliveryPreference", "fixed");
    }
}

/// The interruptible reservation that was carved from another.
fn carved<'a>(mut all: impl Iterator<Item = &'a Reservation>, from: &str) -> Option<(String, u32)> {
    let is_carved = |one: &&Reservation| match &one.nature {
        Nature::Interruptible { source } => source.as_deref() == Some(from),
        Nature::OnDemand | Nature::Block(_) => false,
    };
    all.find(is_carved).map(|one| (one.id.clone(), one.total))
}

fn one(value: &(impl ToString + ?Sized)) -> Vec<String> {
    vec![value.to_string()]
}

impl Filtered for Seen {
    const TAGGED: bool = true;

    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.reservation.tags)
    }

    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "availability-zone", values: |s| one(&s.reservation.zone) },
        Field { name: "availability-zone-id", values: |s| one(&s.reservation.zone_id) },
        Field { name: "end-date", values: |s| s.reservation.end.map(clock::iso).into_iter().collect() },
        Field { name: "end-date-type", values: |s| one(s.reservation.end_type()) },
        Field { name: "instance-match-criteria", values: |s| one(s.reservation.matching.name()) },
        Field { name: "instance-platform", values: |s| one(&s.reservation.platform) },
        Field { name: "instance-type", values: |s| one(s.reservation.kind.name) },
        // There are no Outposts here, and then no value matches.
        Field { name: "outpost-arn", values: |_| Vec::new() },
        Field { name: "owner-id", values: |s| one(&s.reservation.owner) },
        Field {
            name: "placement-group-arn",
            values: |s| s.reservation.placement_group.iter().cloned().collect(),
        },
        Field { name: "start-date", values: |s| one(&clock::iso(s.reservation.start)) },
        Field { name: "state", values: |s| one(s.state.name()) },
        Field { name: "tenancy", values: |s| one(s.reservation.tenancy.name()) },
    ];
}
