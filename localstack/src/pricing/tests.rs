use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::aws::signer::Signer;
use crate::testing::TestCloud;

const TARGET: [(&str, &str); 2] =
    [("x-amz-target", "AWSPriceListService.GetProducts"), ("content-type", "application/x-amz-json-1.1")];

async fn ask(cloud: &TestCloud, body: Value) -> (u16, Value) {
    let answer = cloud.signed(&Signer::test("pricing"), &TARGET, body.to_string()).await;
    (answer.status, serde_json::from_str(&answer.text).unwrap())
}

fn filter(field: &str, value: &str) -> Value {
    json!({"Type": "TERM_MATCH", "Field": field, "Value": value})
}

/// What callers filter by to get exactly one price of a type.
fn linux() -> Vec<Value> {
    [
        ("regionCode", "us-east-1"),
        ("preInstalledSw", "NA"),
        ("operatingSystem", "Linux"),
        ("capacitystatus", "Used"),
        ("marketoption", "OnDemand"),
        ("tenancy", "Shared"),
    ]
    .map(|(field, value)| filter(field, value))
    .into()
}

async fn products(cloud: &TestCloud, filters: Vec<Value>) -> Vec<Value> {
    let (status, answer) = ask(cloud, json!({"ServiceCode": "AmazonEC2", "Filters": filters})).await;
    assert_eq!(status, 200, "{answer}");
    let list = answer["PriceList"].as_array().unwrap();
    list.iter().map(|entry| serde_json::from_str(entry.as_str().unwrap()).unwrap()).collect()
}

fn price(product: &Value) -> String {
    let first = |value: &Value| value.as_object().unwrap().values().next().unwrap().clone();
    let dimension = first(&first(&product["terms"]["OnDemand"])["priceDimensions"]);
    dimension["pricePerUnit"]["USD"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_type_has_one_price_for_those_who_say_all_that_matters() {
    let cloud = TestCloud::start();
    let mut filters = linux();
    filters.push(filter("instanceType", "g5.xlarge"));
    let found = products(&cloud, filters.clone()).await;
    assert_eq!(found.len(), 1);
    let product = &found[0];
    assert_eq!(price(product), "1.0060000000");
    let attributes = &product["product"]["attributes"];
    for (name, value) in [
        ("instanceType", "g5.xlarge"),
        ("vcpu", "4"),
        ("memory", "16 GiB"),
        ("gpu", "1"),
        ("storage", "1 x 250 NVMe SSD"),
        ("usagetype", "BoxUsage:g5.xlarge"),
        ("regionCode", "us-east-1"),
    ] {
        assert_eq!(attributes[name], value, "{name}");
    }
    let sku = product["product"]["sku"].as_str().unwrap();
    let rate = format!("{sku}.JRTCKXETXF.6YS6EN2CT7");
    let term = &product["terms"]["OnDemand"][format!("{sku}.JRTCKXETXF")];
    let dimension = &term["priceDimensions"][&rate];
    assert_eq!(dimension["description"], "$1.006 per On Demand Linux g5.xlarge Instance Hour");
    assert_eq!((&dimension["unit"], &dimension["rateCode"]), (&json!("Hrs"), &json!(rate)));

    cloud.control("PUT", "prices/g5.xlarge", json!({"price": "2.5"})).await;
    assert_eq!(price(&products(&cloud, filters.clone()).await[0]), "2.5000000000");
    cloud.control("PUT", "prices/g5.xlarge", json!({"price": null})).await;
    assert!(products(&cloud, filters).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_type_has_many_prices_for_those_who_do_not() {
    let cloud = TestCloud::start();
    let found = products(&cloud, vec![filter("instanceType", "t3.medium")]).await;
    let mut prices: Vec<String> = found.iter().map(price).collect();
    prices.sort_unstable();
    assert_eq!(prices, ["0.0000000000", "0.0416000000", "0.0416000000", "0.0440960000", "0.1336000000"]);
    let elsewhere = vec![filter("regionCode", "eu-west-1")];
    assert!(products(&cloud, elsewhere).await.is_empty());
    let unpriced = vec![filter("instanceType", "p5e.48xlarge")];
    assert!(products(&cloud, unpriced).await.is_empty());
    let any = json!({"Type": "ANY_OF", "Field": "instanceType", "Value": "t3.micro,t3.nano"});
    let none = json!({"Type": "NONE_OF", "Field": "capacitystatus", "Value": "Used"});
    let contains = json!({"Type": "CONTAINS", "Field": "usagetype", "Value": "nano"});
    assert_eq!(products(&cloud, vec![any, none, contains]).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn pages_show_every_product_once() {
    let cloud = TestCloud::start();
    let (mut seen, mut token, mut pages) = (BTreeSet::new(), Value::Null, 0);
    loop {
        let mut body = json!({"ServiceCode": "AmazonEC2", "Filters": linux(), "MaxResults": 40});
        if !token.is_null() {
            body["NextToken"] = token;
        }
        let (status, answer) = ask(&cloud, body).await;
        assert_eq!(status, 200, "{answer}");
        for entry in answer["PriceList"].as_array().unwrap() {
            let entry: Value = serde_json::from_str(entry.as_str().unwrap()).unwrap();
            assert!(seen.insert(entry["product"]["attributes"]["instanceType"].to_string()));
        }
        pages += 1;
        token = answer["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    let priced = crate::ec2::catalog::CATALOG.iter().filter(|kind| kind.price.is_some()).count();
    assert_eq!((seen.len(), pages), (priced, priced.div_ceil(40)));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused() {
    let cloud = TestCloud::start();
    let ec2 = |more: Value| {
        let mut body = json!({"ServiceCode": "AmazonEC2"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, expected) in [
        (json!({}), "InvalidParameterException"),
        (json!({"ServiceCode": "AmazonBeer"}), "InvalidParameterException"),
        (ec2(json!({"MaxResults": 0})), "InvalidParameterException"),
        (ec2(json!({"MaxResults": 101})), "InvalidParameterException"),
        (ec2(json!({"FormatVersion": "aws_v2"})), "InvalidParameterException"),
        (ec2(json!({"Filters": [filter("colour", "red")]})), "InvalidParameterException"),
        (
            ec2(json!({"Filters": [{"Type": "LIKE", "Field": "vcpu", "Value": "1"}]})),
            "InvalidParameterException",
        ),
        (ec2(json!({"Filters": [{"Type": "EQUALS", "Field": "vcpu"}]})), "InvalidParameterException"),
        (ec2(json!({"Colour": "red"})), "InvalidParameterException"),
        (ec2(json!({"NextToken": "abc"})), "InvalidNextTokenException"),
    ] {
        let (status, answer) = ask(&cloud, body.clone()).await;
        assert_eq!((status, answer["__type"].as_str().unwrap()), (400, expected), "{body}");
    }
    let (_, page) = ask(&cloud, ec2(json!({"MaxResults": 1}))).await;
    let foreign = ec2(json!({"Filters": linux(), "NextToken": page["NextToken"]}));
    assert_eq!(ask(&cloud, foreign).await.1["__type"], "InvalidNextTokenException");
}

#[tokio::test(start_paused = true)]
async fn only_requests_signed_for_a_region_with_an_endpoint_are_answered() {
    let cloud = TestCloud::start();
    let body = json!({"ServiceCode": "AmazonEC2", "MaxResults": 1}).to_string();
    for (region, status) in
        [("us-east-1", 200), ("eu-central-1", 200), ("ap-south-1", 200), ("eu-west-1", 400)]
    {
        let signer = Signer { region: region.to_owned(), ..Signer::test("pricing") };
        assert_eq!(cloud.signed(&signer, &TARGET, body.clone()).await.status, status, "{region}");
    }
    assert_eq!(cloud.signed(&Signer::test("ec2"), &TARGET, body.clone()).await.status, 400);
    let other = [("x-amz-target", "AWSPriceListService.DescribeServices")];
    let answer = cloud.signed(&Signer::test("pricing"), &other, body).await;
    assert!(answer.text.contains("UnknownOperationException"), "{}", answer.text);
    let (_, calls) = cloud.control("GET", "calls", Value::Null).await;
    assert_eq!(calls["log"][0]["service"], "pricing");
}
