use serde_json::json;

use super::*;

fn rule(json: serde_json::Value) -> Result<Rule, String> {
    serde_json::from_value(json).map_err(|error| error.to_string())
}

#[test]
fn a_rule_with_a_wrong_member_kind_or_number_is_refused() {
    for (wrong, word) in [
        (json!({"scenario": {"kind": "throttle", "retryAfter": 1}}), "retryAfter"),
        (json!({"scenario": {"kind": "linger"}}), "polls"),
        (json!({"scenario": {"kind": "nothing"}}), "nothing"),
        (json!({"scenario": {"kind": "drop", "after": 1}}), "after"),
        (json!({"scenario": {"kind": "drop"}, "pod": "*"}), "pod"),
    ] {
        let error = rule(wrong).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
    let mut scenarios = Scenarios::default();
    for (wrong, word) in [
        (json!({"scenario": {"kind": "refuse", "status": 500, "detail": ""}}), "400 to 499"),
        (json!({"scenario": {"kind": "serverError", "status": 404}}), "500 to 599"),
        (json!({"scenario": {"kind": "refuseDelete", "status": 204}}), "400 to 599"),
        (json!({"scenario": {"kind": "noCapacity", "phrase": 8}}), "0 to 7"),
        (json!({"scenario": {"kind": "drop"}, "chance": 2}), "0 to 1"),
    ] {
        let error = scenarios.add(rule(wrong).unwrap()).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(scenarios.rules(), []);
}

#[test]
fn a_rule_happens_to_its_pods_and_calls_at_its_point_as_often_as_it_says() {
    let mut scenarios = Scenarios::default();
    let twice = json!({"scenario": {"kind": "linger", "polls": 3}, "pods": "a-*", "times": 2});
    scenarios.add(rule(twice).unwrap()).unwrap();
    let lists = json!({"scenario": {"kind": "drop"}, "calls": "GET */pods"});
    let lists = scenarios.add(rule(lists).unwrap()).unwrap();
    assert_eq!(scenarios.draw(Point::Fate, Some("a-1"), ""), None);
    assert_eq!(scenarios.draw(Point::Delete, Some("b-1"), ""), None);
    assert_eq!(scenarios.draw(Point::Delete, None, ""), None);
    for _ in 0..2 {
        assert_eq!(scenarios.draw(Point::Delete, Some("a-1"), ""), Some(Scenario::Linger { polls: 3 }));
    }
    assert_eq!(scenarios.draw(Point::Delete, Some("a-1"), ""), None);
    assert_eq!(scenarios.draw(Point::Call, None, "POST /v2/pods"), None);
    assert_eq!(scenarios.draw(Point::Call, None, "GET /v2/pods"), Some(Scenario::Drop {}));
    assert!(scenarios.remove(lists) && !scenarios.remove(lists));
    assert_eq!(scenarios.draw(Point::Call, None, "GET /v2/pods"), None);
}

#[test]
fn patterns_match_as_a_shells() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("a*", "a", true),
        ("a*c", "abbc", true),
        ("a*c", "abcd", false),
        ("*b*b*", "abab", true),
        ("a", "ab", false),
        ("ü*", "üx", true),
    ] {
        assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
    }
}

#[test]
fn a_storm_is_the_same_for_the_same_seed_and_touches_every_point() {
    let draws = |seed| {
        let mut scenarios = Scenarios::default();
        let storm = json!({"seed": seed, "chance": 0.5, "pods": "a-*"});
        scenarios.set_storm(Some(serde_json::from_value(storm).unwrap())).unwrap();
        let points = [Point::Create, Point::Answer, Point::Fate, Point::Delete, Point::Call, Point::Logs];
        let drawn: Vec<_> = (0..600).map(|n| scenarios.draw(points[n % 6], Some("a-1"), "")).collect();
        assert_eq!(scenarios.draw(Point::Fate, Some("b-1"), ""), None);
        for (index, point) in points.iter().enumerate() {
            let own: Vec<_> = drawn.iter().skip(index).step_by(6).flatten().collect();
            assert!((20..80).contains(&own.len()), "{point:?}: {}", own.len());
            assert!(own.iter().all(|scenario| scenario.point() == *point));
        }
        drawn
    };
    assert_eq!(draws(7), draws(7));
    assert_ne!(draws(7), draws(8));
}

#[test]
fn every_kind_reads_back_as_it_was_written() {
    for scenario in everything() {
        let text = serde_json::to_string(&scenario).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario, "{text}");
    }
}
