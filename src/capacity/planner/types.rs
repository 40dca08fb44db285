//! Which types of machine are right for a pod: those that it lists, or the region's that fit.

use super::Selection;
use super::limits;
use super::pass::{Fit, Pass};
use super::rule::Rule;
use super::shape::{self, Demand};
use crate::capacity::world::{Offer, Source, Usable};
use crate::cloud::ReservationState;

/// What came of looking at types.
#[derive(Debug, Default)]
pub(super) struct Types<'a> {
    pub(super) fits: Vec<Fit<'a>>,
    /// `None` if there was nothing to look for: only named reservations may be used.
    pub(super) search: Option<Search<'a>>,
}

/// Where the search came to its end, if nothing fits.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) selection: Selection,
    /// Some type fits.
    pub(super) found: bool,
    pub(super) largest: Largest<'a>,
    /// The rule that the types which came furthest broke.
    pub(super) furthest: Option<Rule>,
}

/// The most that types of the right kind have, each with the type that has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Largest<'a> {
    pub(super) gpus: Most<'a>,
    pub(super) cpu_milli: Most<'a>,
    pub(super) memory_bytes: Most<'a>,
}

/// An amount, and the type that has it.
pub(super) type Most<'a> = Option<(u64, &'a str)>;

impl<'a> Largest<'a> {
    fn see(&mut self, demand: &Demand<'_>, offer: &'a Offer, selection: Selection) {
        let Usable { cpu_milli, memory_bytes } = demand.has(offer, selection);
        let name = offer.shape.name.as_str();
        let larger = |most: &mut Most<'a>, amount: u64| {
            if most.is_none_or(|(before, _)| amount > before) {
                *most = Some((amount, name));
            }
        };
        larger(&mut self.gpus, demand.gpus(&offer.shape));
        larger(&mut self.cpu_milli, cpu_milli);
        larger(&mut self.memory_bytes, memory_bytes);
    }
}

impl<'a> Pass<'a, '_> {
    pub(super) fn find_types(&mut self) -> Types<'a> {
        if !self.ask.wishes.instance_types.is_empty() {
            return self.listed();
        }
        let discovers =
            crate::pod::wishes::CapacityType::ALL.into_iter().any(|market| self.discovers(market));
        let has_group = self.ask.wishes.reservation.group_arn.is_some();
        if self.markets.has_open_market() || discovers || has_group {
            self.cheapest()
        } else {
            Types::default()
        }
    }

    /// Exactly those, in their order.
    fn listed(&mut self) -> Types<'a> {
        let world = self.world;
        let mut search = Search {
            selection: Selection::Listed,
            found: false,
            largest: Largest::default(),
            furthest: None,
        };
        let mut fits: Vec<Fit<'a>> = Vec::new();
        for (name, rank) in self.ask.wishes.instance_types.iter().zip(0..) {
            let Some(offer) = world.catalog.types.get(name) else {
                self.lacks(name);
                continue;
            };
            search.largest.see(&self.demand, offer, Selection::Listed);
            match self.demand.check(offer, Selection::Listed) {
                Ok(()) => {
                    search.found = true;
                    fits.push(self.fit(offer, Selection::Listed, rank));
                }
                Err(Rule::TypeNotAllowed) => self.refuse(Rule::TypeNotAllowed, name),
                Err(rule) => {
                    search.furthest = search.furthest.max(Some(rule));
                    self.ledger.note(rule, || name.clone());
                }
            }
        }
        Types { fits, search: Some(search) }
    }

    fn lacks(&mut self, name: &str) {
        if self.world.catalog.source == Source::Shipped {
            self.ledger.note(Rule::CatalogNotRead, || format!("`{name}`"));
        } else if limits::is_default_type(self.world.rules, name) {
            self.ledger.note(Rule::DefaultType, || format!("`{name}`"));
        } else {
            self.refuse(Rule::UnknownType, name);
        }
    }

    /// Every type that fits, less what costs without being asked for.
    fn cheapest(&mut self) -> Types<'a> {
        let world = self.world;
        let mut search = Search {
            selection: Selection::Cheapest,
            found: false,
            largest: Largest::default(),
            furthest: None,
        };
        let mut offers: Vec<&'a Offer> = Vec::with_capacity(world.catalog.types.len());
        for offer in world.catalog.types.values() {
            let result = self.demand.check(offer, Selection::Cheapest);
            if is_of_the_kind(result) {
                search.largest.see(&self.demand, offer, Selection::Cheapest);
            }
            match result {
                Ok(()) => offers.push(offer),
                Err(rule) => {
                    search.furthest = search.furthest.max(Some(rule));
                    self.ledger.note(rule, || offer.shape.name.clone());
                }
            }
        }
        search.found = !offers.is_empty();
        if !self.markets.has_open_market() {
            self.keep(&mut offers, Rule::NotReserved, |pass, offer| pass.is_reserved_type(&offer.shape.name));
        }
        self.keep_asked_arch(&mut offers);
        self.keep_plain(&mut offers);
        self.keep_next_larger(&mut offers);
        let fits = offers.into_iter().map(|offer| self.fit(offer, Selection::Cheapest, 0)).collect();
        Types { fits, search: Some(search) }
    }

    fn keep(&mut self, offers: &mut Vec<&'a Offer>, rule: Rule, is_kept: impl Fn(&Self, &Offer) -> bool) {
        offers.retain(|offer| {
            let keeps = is_kept(self, offer);
            if !keeps {
                self.ledger.note(rule, || offer.shape.name.clone());
            }
            keeps
        });
    }

    fn is_reserved_type(&self, name: &str) -> bool {
        let mut all = self.world.reservations.iter();
        all.any(|one| one.instance_type == name && one.state != ReservationState::Over)
    }

    /// Most images are for amd64 alone. A pod that does not name an architecture gets arm64 only if it names a kind
    /// of machine that there is in no other.
    fn keep_asked_arch(&mut self, offers: &mut Vec<&'a Offer>) {
        let is_amd64 = |offer: &Offer| offer.shape.arch == "amd64";
        let mut types = self.world.catalog.types.values();
        if self.ask.arch.is_none()
            && types.any(|offer| is_amd64(offer) && self.demand.is_named_kind(&offer.shape))
        {
            self.keep(offers, Rule::OtherArch, |_, offer| is_amd64(offer));
        }
    }

    fn keep_plain(&mut self, offers: &mut Vec<&'a Offer>) {
        let is_plain = |offer: &Offer| !shape::is_exotic(&offer.shape);
        if self.ask.gpus == 0 && offers.iter().any(|offer| is_plain(offer)) {
            self.keep(offers, Rule::Exotic, |_, offer| is_plain(offer));
        }
    }

    /// As many GPUs as asked, or as the next larger machine has.
    fn keep_next_larger(&mut self, offers: &mut Vec<&'a Offer>) {
        let asked = self.ask.gpus;
        if asked > 0 {
            let counts = offers.iter().map(|offer| self.demand.gpus(&offer.shape));
            let next = counts.filter(|count| *count > asked).min().unwrap_or(asked);
            self.keep(offers, Rule::MoreGpus, |pass, offer| pass.demand.gpus(&offer.shape) <= next);
        }
    }
}

/// Whether a type is of the right kind, be it large enough or not.
fn is_of_the_kind(checked: Result<(), Rule>) -> bool {
    matches!(checked, Ok(()) | Err(Rule::Gpus | Rule::Cpu | Rule::Memory))
}
