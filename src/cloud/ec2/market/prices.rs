//! Prices: the region's price list, and what spot costs now.

use std::collections::{BTreeMap, HashMap};

use aws_config::{Region, SdkConfig};
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_pricing::types::{Filter, FilterType};
use serde::Deserialize;

use super::super::calls::call;
use super::super::{Ec2, decode};
use super::next_page;
use crate::capacity::money::MicroUsd;
use crate::clock;
use crate::cloud::{CloudError, SpotPrice};

/// The products of spot that are our machines: the second is what very old accounts call them.
const SPOT_PRODUCTS: [&str; 2] = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"];
/// EC2's most for a page of spot prices, and the price list's for a page of products.
const PAGE_OF_SPOT: i32 = 1000;
const PAGE_OF_PRODUCTS: i32 = 100;
/// Bare metal is listed as dedicated, though it is bought as any other.
const TENANCIES: [&[(&str, &str)]; 2] = [
    &[("tenancy", "Shared")],
    &[("tenancy", "Dedicated"), ("productFamily", "Compute Instance (bare metal)")],
];

/// The price list has an endpoint in few regions; an endpoint of the configuration stands for all of them.
pub(in super::super) fn client(sdk: &SdkConfig, region: &str) -> aws_sdk_pricing::Client {
    let config = aws_sdk_pricing::config::Builder::from(sdk).region(Region::new(endpoint_region(region)));
    aws_sdk_pricing::Client::from_conf(config.build())
}

/// The nearest region that has the endpoint.
fn endpoint_region(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("eu" | "il" | "me" | "af") => "eu-central-1",
        Some("ap") => "ap-south-1",
        Some("cn") => "cn-northwest-1",
        Some(_) | None => "us-east-1",
    }
}

/// Hourly prices of Linux machines in the region, by type.
pub(super) async fn on_demand(ec2: &Ec2) -> Result<BTreeMap<String, MicroUsd>, CloudError> {
    let mut prices = BTreeMap::new();
    for tenancy in TENANCIES {
        let mut token = None;
        loop {
            let request = ec2
                .pricing
                .get_products()
                .service_code("AmazonEC2")
                .format_version("aws_v1")
                .set_filters(Some(filters(&ec2.market.region, tenancy)?))
                .max_results(PAGE_OF_PRODUCTS)
                .set_next_token(token);
            let page = call(&ec2.calls.counted, "GetProducts", request.send()).await?;
            prices.extend(page.price_list().iter().filter_map(|product| price(product)));
            token = next_page(page.next_token());
            if token.is_none() {
                break;
            }
        }
    }
    if prices.is_empty() {
        return Err(CloudError::NotFound {
            code: "NoPrices".to_owned(),
            message: format!("the price list has no prices in US dollars for `{}`", ec2.market.region),
        });
    }
    Ok(prices)
}

fn filters(region: &str, tenancy: &[(&str, &str)]) -> Result<Vec<Filter>, CloudError> {
    let always = [
        ("regionCode", region),
        ("preInstalledSw", "NA"),
        ("operatingSystem", "Linux"),
        ("capacitystatus", "Used"),
        ("marketoption", "OnDemand"),
    ];
    let all = always.iter().chain(tenancy);
    all.map(|(field, value)| {
        Filter::builder().r#type(FilterType::TermMatch).field(*field).value(*value).build()
    })
    .collect::<Result<_, _>>()
    .map_err(|error| CloudError::Invalid { code: "InvalidRequest".to_owned(), message: error.to_string() })
}

/// The parts of a product that we need; there is much more.
#[derive(Deserialize)]
struct Product {
    product: Described,
    terms: Terms,
}

#[derive(Deserialize)]
struct Described {
    attributes: Attributes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    instance_type: Option<String>,
}

#[derive(Deserialize)]
struct Terms {
    #[serde(rename = "OnDemand", default)]
    on_demand: HashMap<String, Term>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term {
    price_dimensions: HashMap<String, Dimension>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dimension {
    unit: Option<String>,
    price_per_unit: HashMap<String, String>,
}

/// `None` for a product that is no type, or has no price by the hour in US dollars.
fn price(product: &str) -> Option<(String, MicroUsd)> {
    let product: Product = serde_json::from_str(product)
        .inspect_err(|error| tracing::debug!(%error, "a product of the price list is not understood"))
        .ok()?;
    let name = product.product.attributes.instance_type?;
    let dimensions =
        product.terms.on_demand.into_values().flat_map(|term| term.price_dimensions.into_values());
    let price = dimensions
        .filter(|dimension| dimension.unit.as_deref().is_none_or(|unit| unit.eq_ignore_ascii_case("hrs")))
        .filter_map(|dimension| dimension.price_per_unit.get("USD")?.parse::<MicroUsd>().ok())
        .filter(|price| price.0 > 0)
        .max()?;
    Some((name, price))
}

/// The latest of every type and zone.
pub(super) async fn spot(ec2: &Ec2) -> Result<Vec<SpotPrice>, CloudError> {
    let now = clock::now();
    let mut latest = BTreeMap::<(String, String), SpotPrice>::new();
    let mut token = None;
    loop {
        let request = ec2
            .calls
            .client
            .describe_spot_price_history()
            // From now on: of every type and zone the price that holds.
            .start_time(DateTime::from_secs(now.as_second()))
            .set_product_descriptions(Some(SPOT_PRODUCTS.map(str::to_owned).to_vec()))
            .max_results(PAGE_OF_SPOT)
            .set_next_token(token);
        let page = ec2.calls.read("DescribeSpotPriceHistory", || request.clone().send()).await?;
        for price in page.spot_price_history().iter().filter_map(decode::spot_price) {
            let key = (price.instance_type.clone(), price.zone.clone());
            if latest.get(&key).is_none_or(|known| known.since < price.since) {
                latest.insert(key, price);
            }
        }
        token = next_page(page.next_token());
        if token.is_none() {
            return Ok(latest.into_values().collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_taken_from_the_hours_of_the_on_demand_term() {
        let product = |unit: &str, price: &str| {
            format!(
                r#"{{"product":{{"productFamily":"Compute Instance","attributes":{{"instanceType":"g5.xlarge",
                "tenancy":"Shared"}},"sku":"X"}},"serviceCode":"AmazonEC2","terms":{{"OnDemand":{{"X.Y":{{
                "priceDimensions":{{"X.Y.Z":{{"unit":"{unit}","pricePerUnit":{price},"appliesTo":[]}}}},
                "sku":"X","effectiveDate":"2026-07-01T00:00:00Z"}}}},"Reserved":{{"R":{{}}}}}},"version":"1"}}"#
            )
        };
        let read = |unit, value| price(&product(unit, value));
        assert_eq!(
            read("Hrs", r#"{"USD":"1.0060000000"}"#),
            Some(("g5.xlarge".to_owned(), MicroUsd(1_006_000)))
        );
        assert_eq!(read("Hrs", r#"{"CNY":"7.0"}"#), None);
        assert_eq!(read("Hrs", r#"{"USD":"0.0000000000"}"#), None);
        assert_eq!(read("Quantity", r#"{"USD":"1.0"}"#), None);
        assert_eq!(price("{}"), None);
        assert_eq!(price(r#"{"product":{"attributes":{"storage":"x"}},"terms":{}}"#), None);
    }

    #[test]
    fn the_price_list_is_asked_in_the_nearest_region_that_has_it() {
        for (region, expected) in [
            ("us-west-2", "us-east-1"),
            ("sa-east-1", "us-east-1"),
            ("ca-central-1", "us-east-1"),
            ("eu-north-1", "eu-central-1"),
            ("me-south-1", "eu-central-1"),
            ("ap-northeast-1", "ap-south-1"),
            ("cn-north-1", "cn-northwest-1"),
        ] {
            assert_eq!(endpoint_region(region), expected, "{region}");
        }
    }
}
