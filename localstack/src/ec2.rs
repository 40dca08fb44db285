//! EC2's Query API (version 2016-11-15): every action reads its parameters, refuses what it must, and answers XML.
//!
//! Refusals come first and in EC2's own words; nothing here touches a machine.

mod blocks;
pub mod catalog;
mod console;
pub mod filter;
pub mod ids;
mod images;
mod instances;
mod interfaces;
mod network;
pub mod page;
mod render;
mod reservations;
mod run;
pub mod spot;
mod status;
mod tags;
mod terminate;
mod types;
mod volumes;

use crate::aws::Refusal;
use crate::aws::query::Params;
use crate::aws::xml::Xml;
use crate::world::World;
use crate::world::throttle::{Scope, Throttled};

const VERSION: &str = "2016-11-15";
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// One call.
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    world: &'a World,
    params: &'a Params,
    /// A refusal that a test asked for.
    asked: Option<&'a Refusal>,
}

impl Call<'_> {
    /// To be called when everything was read: refuses unknown parameters.
    fn known(&self) -> Result<(), Refusal> {
        self.params.root().flag("DryRun")?;
        self.params.all_known()
    }

    /// To be called when all else was refused and before anything is done: refuses dry runs.
    fn wet(&self) -> Result<(), Refusal> {
        if self.params.root().flag("DryRun")? == Some(true) {
            let message = "Request would have succeeded, but DryRun flag is set.";
            return Err(Refusal::new("DryRunOperation", message).with_status(412));
        }
        Ok(())
    }

    /// Both at once.
    fn ready(&self) -> Result<(), Refusal> {
        self.known()?;
        self.wet()
    }
}

/// Answers a call. `asked` is a refusal that a test asked for.
pub fn call(
    world: &World,
    params: &Params,
    asked: Option<&Refusal>,
    request_id: &str,
) -> Result<String, Refusal> {
    let root = params.root();
    let action = root
        .text("Action")
        .filter(|action| !action.is_empty())
        .ok_or_else(|| Refusal::new("MissingAction", "The request must contain the parameter Action"))?;
    if root.text("Version") != Some(VERSION) {
        let version = root.text("Version").unwrap_or("");
        let message = format!("The requested version ({version}) of service AmazonEC2 does not exist");
        return Err(Refusal::new("NoSuchVersion", message));
    }
    let handle = handler(action).ok_or_else(|| {
        Refusal::new("InvalidAction", format!("The action {action} is not valid for this web service."))
    })?;
    let scope = if params.any(narrows) { Scope::Narrowed } else { Scope::Everything };
    world.view(|cloud, now| cloud.throttle.request(action, scope, now)).map_err(|Throttled| throttled())?;
    if let Some(refusal) = asked.filter(|refusal| action != "RunInstances" || run::at_the_door(refusal)) {
        return Err(refusal.clone());
    }
    let answer = handle(&Call { world, params, asked })?;
    let mut xml = Xml::default();
    xml.text("requestId", request_id);
    xml.append(&answer);
    Ok(xml.document(&format!("{action}Response"), NAMESPACE))
}

/// Whether a parameter makes a description more than one of everything: ids, filters, pages.
fn narrows(name: &str) -> bool {
    name.contains('.') || ["MaxResults", "NextToken"].contains(&name)
}

/// A server's error, as EC2 has it.
fn throttled() -> Refusal {
    Refusal::new("RequestLimitExceeded", "Request limit exceeded.").with_status(503)
}

/// A refusal, as EC2 writes it.
#[must_use]
pub fn error_document(refusal: &Refusal, request_id: &str) -> String {
    let mut xml = Xml::default();
    xml.element("Errors", |xml| {
        xml.element("Error", |xml| {
            xml.text("Code", &refusal.code);
            xml.text("Message", &refusal.message);
        });
    });
    xml.text("RequestID", request_id);
    xml.bare_document("Response")
}

type Handler = fn(&Call<'_>) -> Result<Xml, Refusal>;

fn handler(action: &str) -> Option<Handler> {
    Some(match action {
        "RunInstances" => run::run_instances,
        "DescribeInstances" => instances::describe_instances,
        "DescribeInstanceStatus" => status::describe_instance_status,
        "TerminateInstances" => terminate::terminate_instances,
        "DescribeVolumes" => volumes::describe_volumes,
        "DeleteVolume" => volumes::delete_volume,
        "DescribeNetworkInterfaces" => interfaces::describe_network_interfaces,
        "DeleteNetworkInterface" => interfaces::delete_network_interface,
        "CreateTags" => tags::create_tags,
        "DescribeTags" => tags::describe_tags,
        "DescribeInstanceTypes" => types::describe_instance_types,
        "DescribeInstanceTypeOfferings" => types::describe_instance_type_offerings,
        "DescribeCapacityReservations" => reservations::describe_capacity_reservations,
        "DescribeCapacityBlocks" => blocks::describe_capacity_blocks,
        "DescribeSpotPriceHistory" => spot::describe_spot_price_history,
        "DescribeAvailabilityZones" => network::describe_availability_zones,
        "DescribeVpcs" => network::describe_vpcs,
        "DescribeSubnets" => network::describe_subnets,
        "DescribeSecurityGroups" => network::describe_security_groups,
        "DescribeImages" => images::describe_images,
        "GetConsoleOutput" => console::get_console_output,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
