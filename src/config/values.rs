//! What single values look like: ids, names, quantities, durations. Pure.

use std::time::Duration;

use super::quantity;

/// Some text, if it passes.
pub(crate) fn text_if(accept: impl Fn(&str) -> bool) -> impl Fn(&str) -> Option<String> {
    move |text| accept(text).then(|| text.to_owned())
}

/// `vpc-0a1b…`: a prefix, then letters and digits.
pub(crate) fn is_id(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).is_some_and(|rest| {
        rest.len() >= 4 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

/// `us-east-1`, `us-gov-west-1`.
pub(crate) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() >= 3
        && parts.iter().all(|part| !part.is_empty())
        && parts.last().is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
        && parts[..parts.len() - 1].iter().all(|part| part.bytes().all(|b| b.is_ascii_lowercase()))
}

/// `g6.xlarge`, `u-6tb1.56xlarge`.
pub(crate) fn is_instance_type(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.split_once('.').is_some_and(|(family, size)| plain(family) && plain(size))
}

/// An instance type, or the beginning of some with `*` at the end.
pub(crate) fn is_type_pattern(text: &str) -> bool {
    match text.strip_suffix('*') {
        Some(start) => {
            start.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        }
        None => is_instance_type(text),
    }
}

/// The zone's name (`us-east-1a`, `us-east-1-bos-1a`) or id (`use1-az1`).
pub(crate) fn is_zone(text: &str) -> bool {
    text.len() <= 64
        && text.contains('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// The region that a zone's name begins with; `None` for a zone's id, which does not tell.
pub(crate) fn region_of_zone(zone: &str) -> Option<&str> {
    let name = zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
    // `us-east-1` of `us-east-1a`, and of the local zone `us-east-1-bos-1a`.
    let end = name
        .find(|c: char| c.is_ascii_digit())
        .map(|digit| name[digit..].find('-').map_or(name.len(), |dash| digit + dash))?;
    Some(&name[..end]).filter(|region| is_region(region))
}

/// The name of a template: letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit.
pub(crate) fn is_template_name(text: &str) -> bool {
    is_label_name(text)
}

/// A name or an ARN: what AWS calls resources by.
pub(crate) fn is_name_or_arn(text: &str) -> bool {
    (1..=2048).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@-_:/".contains(&b))
}

/// An endpoint without TLS: a collector of traces beside ORCA needs none.
pub(crate) fn is_plain_endpoint(text: &str) -> bool {
    text.starts_with("http://") && is_endpoint(text)
}

/// `http://host:port` or `https://host`, without a query.
pub(crate) fn is_endpoint(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    })
}

/// A node's name that no cloud controller takes for one of its own.
pub(crate) fn is_node_name(text: &str) -> bool {
    text.len() <= 63 && is_dns_subdomain(text) && !text.starts_with("i-") && !text.starts_with("fargate-")
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| plain(b) || b == b'-')
                && label.bytes().next().is_some_and(plain)
                && label.bytes().last().is_some_and(plain)
        })
}

/// A Kubernetes label key, with or without a prefix.
pub(crate) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}

/// A Kubernetes label value.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

fn is_label_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| plain(b) || b"-_.".contains(&b))
        && text.bytes().next().is_some_and(plain)
        && text.bytes().last().is_some_and(plain)
}

/// An extended resource: with a domain that is not Kubernetes' own.
pub(crate) fn is_extended_resource(text: &str) -> bool {
    is_label_key(text)
        && text
            .split_once('/')
            .is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// Who signs a CertificateSigningRequest: a domain and a path.
pub(super) fn is_signer(text: &str) -> bool {
    text.split_once('/')
        .is_some_and(|(domain, path)| domain.contains('.') && is_dns_subdomain(domain) && is_label_name(path))
}

/// A positive Kubernetes quantity.
pub(crate) fn is_quantity(text: &str) -> bool {
    quantity::nanos(text).is_some_and(|nanos| nanos > 0)
}

/// `info`, or `target=level` pairs beside it. Stricter than the parser of `tracing`, which takes a misspelt level
/// for the name of a target.
pub(crate) fn is_log_filter(text: &str) -> bool {
    let is_level =
        |text: &str| !text.is_empty() && text.parse::<tracing::level_filters::LevelFilter>().is_ok();
    text.split(',').all(|part| match part.split_once('=') {
        Some((target, level)) => !target.trim().is_empty() && is_level(level),
        None => is_level(part),
    })
}

/// `90s`, `5m`, `1h30m`, `24h`, `7d`, `1d12h`: ten years at most. A day has 24 hours.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let days =
        text.split_once('d').filter(|(days, _)| !days.is_empty() && days.bytes().all(|b| b.is_ascii_digit()));
    let (days, rest) = match days {
        Some((days, rest)) => (days.parse::<u32>().ok()?, rest),
        None => (0, text),
    };
    let rest = if days > 0 && rest.is_empty() { Duration::ZERO } else { clock_time(rest)? };
    let duration = Duration::from_secs(u64::from(days) * 86_400).checked_add(rest)?;
    // Far from where adding it to a time overflows.
    (duration <= Duration::from_secs(3650 * 86_400)).then_some(duration)
}

fn clock_time(text: &str) -> Option<Duration> {
    // A bare number would be read as ISO 8601 or not at all; a unit is what makes it readable.
    text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_log_level_is_not_a_filter() {
        for good in ["info", "orca=debug,info", "off", "WARN"] {
            assert!(is_log_filter(good), "{good}");
        }
        for bad in ["", "verbose", "orca=loud", "=debug", "info,"] {
            assert!(!is_log_filter(bad), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_are_not_negative() {
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("24h"), Some(Duration::from_secs(86400)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(duration("1d12h"), Some(Duration::from_secs(129_600)));
        for bad in [
            "",
            "5",
            "-5m",
            "five minutes",
            "5 fortnights",
            "d",
            "-1d",
            "1d-1h",
            "1d5",
            "99999999999d",
            "4000d",
            "99999999h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_checked_as_kubernetes_and_aws_check_them() {
        assert!(is_region("us-east-1") && is_region("us-gov-west-1"));
        assert!(!is_region("us-east-1a") && !is_region("useast1") && !is_region("us--1"));
        assert!(is_instance_type("g6.xlarge") && is_instance_type("u-6tb1.56xlarge"));
        assert!(!is_instance_type("g6") && !is_instance_type("g6.*") && !is_instance_type("G6.xlarge"));
        assert!(is_type_pattern("g6.*") && is_type_pattern("g6*") && !is_type_pattern("g6 *"));
        assert!(is_zone("us-east-1a") && is_zone("use1-az1") && !is_zone("a") && !is_zone("US-EAST-1A"));
        assert_eq!(region_of_zone("us-gov-west-1b"), Some("us-gov-west-1"));
        assert_eq!(region_of_zone("us-east-1-bos-1a"), Some("us-east-1"));
        assert_eq!(region_of_zone("use1-az1"), None);
        assert!(is_node_name("orca") && is_node_name("orca.burst-1"));
        assert!(!is_node_name("i-0abc") && !is_node_name("fargate-1") && !is_node_name("Orca"));
        assert!(is_label_key("example.com/team") && is_label_key("team") && !is_label_key("a/b/c"));
        assert!(is_label_value("") && is_label_value("a.b_c") && !is_label_value("-a"));
        assert!(is_extended_resource("nvidia.com/gpu"));
        assert!(!is_extended_resource("gpu") && !is_extended_resource("requests.kubernetes.io/gpu"));
        assert!(is_id("vpc", "vpc-0a1b2c3d") && !is_id("vpc", "subnet-0a1b2c3d") && !is_id("vpc", "vpc-"));
        assert!(is_endpoint("http://127.0.0.1:4566") && !is_endpoint("localhost:4566"));
    }
}
