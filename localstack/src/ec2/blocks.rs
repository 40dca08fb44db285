//! DescribeCapacityBlocks. A block is launched into by its reservation, which is where its capacity is.

use std::collections::BTreeMap;

use super::Call;
use super::filter::{Field, Filtered, Filters};
use super::ids::Kind;
use super::page::Page;
use super::render;
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::clock;
use crate::world::reservations::{Block, Reservation, State};

/// A block with its one reservation, as it is now.
struct Seen {
    block: Block,
    reservation: Reservation,
    state: State,
}

pub(super) fn describe_capacity_blocks(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("CapacityBlockId");
    let filters = Filters::parse::<Seen>(&scope)?;
    Page::not_with(call.params, "CapacityBlockId", "capacityBlockIdSet")?;
    let page = Page::parse(call.params, 1..=1000)?;
    call.ready()?;
    let mut all: BTreeMap<String, Seen> = call.world.view(|cloud, now| {
        let see = |reservation: &Reservation| {
            let block = reservation.block()?.clone();
            let state = reservation.state(now);
            Some((block.id.clone(), Seen { block, state, reservation: reservation.clone() }))
        };
        cloud.reservations.values().filter_map(see).collect()
    });
    if !ids.is_empty() {
        let found: Vec<String> =
            Kind::Block.find_all(&ids, |id| all.contains_key(id).then(|| id.to_owned()))?;
        all.retain(|id, _| found.contains(id));
    }
    let passing: Vec<Seen> = all.into_values().filter(|seen| filters.pass(seen)).collect();
    let (shown, next) = page.cut(passing, |seen| seen.block.id.clone());
    let mut xml = Xml::default();
    xml.list("capacityBlockSet", &shown, |xml, Seen { block, reservation, state }| {
        xml.text("capacityBlockId", &block.id);
        xml.maybe("ultraserverType", block.ultraserver.as_ref());
        xml.text("availabilityZone", &reservation.zone);
        xml.text("availabilityZoneId", &reservation.zone_id);
        xml.values("capacityReservationIdSet", [&reservation.id]);
        xml.text("startDate", clock::iso(reservation.start));
        xml.maybe("endDate", reservation.end.map(clock::iso));
        xml.text("createDate", clock::iso(reservation.created));
        xml.text("state", state.name());
        render::tags(xml, &reservation.tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

impl Filtered for Seen {
    const TAGGED: bool = true;

    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.reservation.tags)
    }

    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "availability-zone", values: |s| vec![s.reservation.zone.clone()] },
        Field { name: "capacity-block-id", values: |s| vec![s.block.id.clone()] },
        Field { name: "create-date", values: |s| vec![clock::iso(s.reservation.created)] },
        Field { name: "end-date", values: |s| s.reservation.end.map(clock::iso).into_iter().collect() },
        Field { name: "start-date", values: |s| vec![clock::iso(s.reservation.start)] },
        Field { name: "state", values: |s| vec![s.state.name().to_owned()] },
        Field { name: "ultraserver-type", values: |s| s.block.ultraserver.iter().cloned().collect() },
    ];
}
