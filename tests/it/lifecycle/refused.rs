//! Every row of the table of errors in `docs/capacity.md`, for every code in it: what the pod shows, what is tried next,
//! what is avoided, and for how long.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;
use orca::clock;
use orca::cloud::ec2::classify;
use orca::cloud::memory::Call;
use orca::cloud::{LaunchSpec, Purchase, ReservationKind};
use serde_json::Value;

use super::capacity::{RESERVATION, annotated, mk_reservation};
use super::message_of;
use crate::support::{World, phase, reason};

/// One code of a row.
#[derive(Debug)]
struct Case {
    class: String,
    code: String,
    message: String,
    next: String,
    avoided: String,
    lasting: String,
}

/// The table as people read it; another test keeps it equal to the program's.
fn cases() -> Vec<Case> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/capacity.md");
    let text = std::fs::read_to_string(page).unwrap();
    let table =
        text.split_once("<!-- errors: begin -->\n").unwrap().1.split_once("<!-- errors: end -->").unwrap().0;
    let mut cases = Vec::new();
    for row in table.lines().skip(2) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [class, codes, next, avoided, lasting] = cells[..] else { panic!("{row}") };
        let says = codes.split_once('“').map_or("", |(_, rest)| rest.trim_end_matches('”'));
        for code in codes.split('`').skip(1).step_by(2) {
            cases.push(Case {
                class: class.to_owned(),
                code: code.replace('*', ".NotFound"),
                message: format!("m {says}"),
                next: next.to_owned(),
                avoided: avoided.to_owned(),
                lasting: lasting.to_owned(),
            });
        }
    }
    cases
}

/// A pod for which the code can come.
fn mk_pod_for(case: &Case) -> Value {
    let on_demand = ("capacity-type", "on-demand");
    let wishes: &[(&str, &str)] = match case.class.as_str() {
        "reservation" => {
            &[("capacity-reservation-id", RESERVATION), ("capacity-reservation-preference", "prefer")]
        }
        "reservation_id" => &[("capacity-reservation-id", RESERVATION)],
        "spot_price" => &[("capacity-type", "spot,on-demand"), ("max-spot-price", "0.50")],
        "spot_role" => &[("capacity-type", "spot,on-demand")],
        "quota" => &[("capacity-type", "on-demand,spot")],
        _ if case.avoided.contains("placement group") => &[("placement-group", "pg-1"), on_demand],
        _ => &[on_demand],
    };
    let types = ("instance-types", "g5.xlarge,g5.12xlarge");
    annotated("a", &[wishes, &[types]].concat())
}

/// As the page `/capacity` names it; `at` is the call that was refused.
fn avoided_as(case: &Case, at: &LaunchSpec, zone: &str) -> Option<String> {
    let (kind, market) = (&at.instance_type, at.purchase.market());
    Some(match case.avoided.as_str() {
        "nothing" => return None,
        "the type in the zone and market" => format!("{kind} in {zone}, {market}"),
        "the type in the zone, in every market" => format!("{kind} in {zone}"),
        "the quota's family and market" => format!("quota of G and VT, {market}"),
        "the subnet" => at.subnet_id.clone(),
        "the volume type in the zone" => format!("gp3 volumes in {zone}"),
        "the reservation" => format!("reservation {RESERVATION} of {kind} in {zone}"),
        "spot of the type in the zone" => format!("spot price of {kind} in {zone}"),
        "spot" => "spot".to_owned(),
        "the placement group in the zone" => format!("placement group pg-1 in {zone}"),
        other => panic!("no such place: {other}"),
    })
}

/// `3 min, doubled up to 15 min`.
fn first_time(lasting: &str) -> SignedDuration {
    let mut words = lasting.split([' ', ',']);
    let number: i64 = words.next().unwrap().parse().unwrap();
    match words.next() {
        Some("min") => SignedDuration::from_mins(number),
        Some("h") => SignedDuration::from_hours(number),
        other => panic!("no unit: {other:?}"),
    }
}

/// The reason of the event, or of the pod that failed.
fn shown_as(class: &str) -> &'static str {
    match class {
        "quota" => "QuotaExceeded",
        "throttled" | "transient" | "token" | "not_found" => "CloudUnavailable",
        "denied" => "CloudAccessDenied",
        "operator" => "LaunchRefused",
        "pod" | "reservation_id" => "InvalidAnnotation",
        _ => "NoCapacity",
    }
}

async fn check(case: &Case) {
    let mut world = World::without_orca();
    world.config.instances.allowed_placement_groups = vec!["pg-1".to_owned()];
    world.start_orca();
    world.cloud.set_reservation(mk_reservation(RESERVATION, ReservationKind::OnDemand, 2));
    for zone in ["zone-a", "zone-b"] {
        world.cloud.set_spot_price("g5.xlarge", zone, "0.40".parse().unwrap());
    }
    let http_status = match case.class.as_str() {
        "throttled" | "transient" => 503,
        "denied" => 403,
        _ => 400,
    };
    world.cloud.next_error(Call::Launch, classify(&case.code, &case.message, http_status));
    world.api.create(mk_pod_for(case));
    // Longer than the pause before the same call, and shorter than any before the next look.
    world.pass_time(5).await;

    let sent: Vec<LaunchSpec> = world.cloud.sent().into_iter().map(|(_, spec)| spec).collect();
    let stories = world.api.stories();
    let context = format!("{case:#?}\n{stories:#?}\n{sent:#?}");
    let zone_of = |spec: &LaunchSpec| spec.subnet_id.replace("subnet-", "zone-");
    let place =
        |spec: &LaunchSpec| (spec.instance_type.clone(), spec.subnet_id.clone(), spec.purchase.clone());
    let (first, more) = (&sent[0], &sent[1..]);
    let tokens: BTreeSet<_> = sent.iter().map(|spec| &spec.token).collect();
    let (status, launched) = (phase(&world.api.pod("a")), world.cloud.alive().len());
    match case.next.as_str() {
        "the next candidate, at once" => {
            assert_eq!((more.len(), tokens.len(), launched), (1, 2, 1), "{context}");
            assert_ne!(place(first), place(&more[0]), "{context}");
            if case.class.starts_with("spot") {
                assert!(matches!(first.purchase, Purchase::Spot { .. }), "{context}");
            }
        }
        "the same call, after a pause" => {
            assert_eq!((more.len(), launched), (1, 1), "{context}");
            let again = LaunchSpec { is_repeated: true, ..first.clone() };
            assert_eq!(again, more[0], "{context}");
        }
        "what the token made is looked up" => {
            assert_eq!((more.len(), tokens.len(), launched), (1, 2, 1), "{context}");
        }
        "the pod fails" => {
            assert_eq!((more.len(), status.as_str()), (0, "Failed"), "{context}");
            assert_eq!(reason(&world.api.pod("a")), shown_as(&case.class), "{context}");
            let message = message_of(&world, "a");
            assert!(message.contains(&case.code), "{message} {context}");
        }
        "the pod waits for a person" => {
            assert_eq!((more.len(), status.as_str()), (0, "Pending"), "{context}");
            let message = message_of(&world, "a");
            assert!(message.contains(&case.code), "{message} {context}");
        }
        other => panic!("nothing follows like that: {other}"),
    }
    if status != "Failed" {
        let is_told = |story: &String| {
            // The words of these two name the token.
            let named = story.contains(&case.code) || case.class == "token";
            named && story.contains(&format!(" {} ", shown_as(&case.class)))
        };
        assert!(stories.iter().any(is_told), "{context}");
    }
    let avoided = world.live().avoided;
    // What somebody named is not left, so there is nothing to avoid.
    let expected = avoided_as(case, first, &zone_of(first)).filter(|_| status != "Failed");
    assert_eq!(avoided.first().map(|one| one.what.clone()), expected, "{context}");
    if let Some(one) = avoided.first() {
        let (sent_at, _) = world.cloud.sent()[0].clone();
        let lasts: SignedDuration = one.until.duration_since(sent_at);
        let more = lasts - first_time(&case.lasting);
        assert!((0..=2).contains(&more.as_secs()), "{lasts:?} {context}");
        assert!(one.code == case.code && one.until > clock::now(), "{context}");
    }
    world.check();
}

#[tokio::test(start_paused = true)]
async fn every_code_of_ec2_is_answered_as_the_documentation_says() {
    let cases = cases();
    assert!(cases.len() > 100, "{}", cases.len());
    for case in &cases {
        check(case).await;
    }
}
