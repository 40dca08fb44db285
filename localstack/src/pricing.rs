//! The Price List Query API: GetProducts, for the EC2 instances of the catalog.
//!
//! As in AWS there is more than one price of a type: a caller that does not say tenancy, operating system and
//! capacity status gets them all. Windows and dedicated prices follow from Linux ones by AWS's usual rule.

mod product;
mod request;

use serde_json::{Value, json};

use self::product::Product;
use self::request::Request;
use crate::aws::Refusal;
use crate::world::World;

/// What `X-Amz-Target` begins with.
pub const TARGET: &str = "AWSPriceListService.";
/// Regions that have an endpoint of this API.
pub const REGIONS: [&str; 3] = ["us-east-1", "eu-central-1", "ap-south-1"];

/// Answers an operation.
pub fn call(world: &World, operation: &str, body: &Value) -> Result<Value, Refusal> {
    if operation != "GetProducts" {
        let message = format!("The operation '{operation}' is not played");
        return Err(Refusal::new("UnknownOperationException", message));
    }
    let request = Request::parse(body)?;
    let mut products: Vec<Product> = world.view(|cloud, _| {
        let price = |kind: &_| cloud.prices.on_demand(kind);
        product::all(&world.region, &price).filter(|product| request.matches(product)).collect()
    });
    products.sort_by(|one, other| one.sku.cmp(&other.sku));
    products.retain(|product| request.after.as_ref().is_none_or(|after| product.sku > *after));
    let more = products.len() > request.limit;
    products.truncate(request.limit);
    let mut answer = json!({
        "FormatVersion": "aws_v1",
        "PriceList": products.iter().map(|product| product.json().to_string()).collect::<Vec<_>>(),
    });
    if let Some(last) = products.last().filter(|_| more) {
        answer["NextToken"] = json!(request.token(&last.sku));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
