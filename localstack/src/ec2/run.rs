//! RunInstances: reads a request whole, refuses what EC2 refuses, then launches.
//!
//! Order: unknown parameters; forms and values; things that must exist; dry run; and under the world's lock
//! client token, offering, capacity, addresses.

mod interface;
mod purchase;
mod specs;
mod volumes;

use std::collections::BTreeMap;

use super::catalog::{self, InstanceType};
use super::ids::Kind;
use super::{Call, render};
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::world::World;
use crate::world::addresses::Taken;
use crate::world::estate::{Image, Subnet};
use crate::world::instance::{Features, OnShutdown};
use crate::world::launch::{Launch, LaunchError};
use crate::world::pools::Market;
use crate::world::purchase::{Lifecycle, Purchase};

/// EC2 has these; this cloud does not play them yet, and says so instead of ignoring them.
const NOT_PLAYED: [&str; 20] = [
    "AdditionalInfo",
    "CpuOptions",
    "CreditSpecification",
    "DisableApiStop",
    "ElasticGpuSpecification",
    "ElasticInferenceAccelerator",
    "EnablePrimaryIpv6",
    "EnclaveOptions",
    "HibernationOptions",
    "Ipv6Address",
    "Ipv6AddressCount",
    "KernelId",
    "LaunchTemplate",
    "LicenseSpecification",
    "MaintenanceOptions",
    "NetworkPerformanceOptions",
    "Operator",
    "PrivateDnsNameOptions",
    "RamdiskId",
    "SecondaryInterface",
];

/// Refusals that are given before a launch is looked at. They bind no client token.
pub(super) fn at_the_door(refusal: &Refusal) -> bool {
    matches!(
        refusal.code.as_str(),
        "RequestLimitExceeded"
            | "Throttling"
            | "ThrottlingException"
            | "EC2ThrottledException"
            | "UnauthorizedOperation"
            | "AccessDenied"
            | "AuthFailure"
            | "ExpiredToken"
            | "RequestExpired"
            | "OptInRequired"
            | "Blocked"
            | "ServiceUnavailable"
            | "Unavailable"
    )
}

pub(super) fn run_instances(call: &Call<'_>) -> Result<Xml, Refusal> {
    let launch = read(call)?;
    call.wet()?;
    let launched = call.world.change(|cloud, now| cloud.launch(&launch, call.asked.cloned(), now));
    let instances = launched.map_err(|error| refusal(call.world, &launch, error))?;
    let mut xml = Xml::default();
    if let Some(first) = instances.first() {
        render::reservation(&mut xml, call.world, &first.reservation_id);
    }
    xml.list("instancesSet", &instances, |xml, instance| render::instance(xml, call.world, instance));
    Ok(xml)
}

fn read(call: &Call<'_>) -> Result<Launch, Refusal> {
    let scope = call.params.root();
    if let Some(name) = NOT_PLAYED.iter().find(|name| scope.given(name)) {
        return Err(not_played(name));
    }
    let counts = (scope.number::<i64>("MinCount")?, scope.number::<i64>("MaxCount")?);
    let (kind_name, image_id) = (scope.text("InstanceType"), scope.text("ImageId"));
    let placement = specs::placement(&scope)?;
    let interface = interface::parse(&scope)?;
    let specified = specs::tags(&scope)?;
    let drives = volumes::parse(&scope)?;
    let metadata = specs::metadata(&scope)?;
    let user_data = specs::user_data(&scope)?;
    let profile = specs::profile(&scope)?;
    let on_shutdown = match scope.text("InstanceInitiatedShutdownBehavior") {
        None | Some("stop") => OnShutdown::Stop,
        Some("terminate") => OnShutdown::Terminate,
        Some(other) => {
            let expected = "Expected 'stop' or 'terminate'.";
            return Err(Refusal::value("InstanceInitiatedShutdownBehavior", other, expected));
        }
    };
    let features = Features {
        monitoring: scope.scope("Monitoring").flag("Enabled")?.unwrap_or(false),
        ebs_optimized: scope.flag("EbsOptimized")?.unwrap_or(false),
        protected: scope.flag("DisableApiTermination")?.unwrap_or(false),
    };
    let token = scope.text("ClientToken").filter(|token| !token.is_empty());
    let (key, purchase) = (scope.text("KeyName"), purchase::parse(&scope, specified.spot.as_ref())?);
    call.known()?;

    let count = specs::count(counts)?;
    if let Some(token) = token.filter(|token| !token.is_ascii() || token.len() > 64) {
        let message =
            format!("The client token '{token}' is not valid: expected at most 64 ASCII characters");
        return Err(Refusal::new("InvalidClientToken", message));
    }
    if let Some(key) = key {
        return Err(Refusal::new("InvalidKeyPair.NotFound", format!("The key pair '{key}' does not exist")));
    }
    let kind = kind(kind_name)?;
    let image = image(call.world, image_id)?;
    if image.architecture != kind.architecture {
        let message = format!(
            "The architecture '{}' of the specified instance type does not match the architecture '{}' of the specified AMI. \
             Specify an instance type and an AMI that have matching architectures, and try again.",
            kind.architecture, image.architecture
        );
        return Err(Refusal::new("InvalidParameterValue", message));
    }
    let subnet = subnet(call.world, interface.subnet)?;
    placement.check(&subnet)?;
    interface.check(kind, count.1)?;
    let groups = groups(call.world, &interface.groups)?;
    let profile = profile.find(call.world)?;
    let mut volumes = volumes::resolve(drives, &image)?;
    volumes.iter_mut().for_each(|volume| volume.tags.clone_from(&specified.volume));
    Ok(Launch {
        token: token.map(str::to_owned),
        fingerprint: call.params.fingerprint(&["ClientToken", "DryRun"]),
        count,
        kind,
        image,
        subnet,
        groups,
        address: interface.address,
        secondary: interface.secondary,
        interface_description: interface.description.to_owned(),
        interface_deleted: interface.deleted,
        efa: interface.efa,
        efa_cards: interface.efa_cards,
        volumes,
        interface_tags: specified.interface,
        tags: specified.instance,
        on_shutdown,
        metadata,
        user_data,
        profile,
        features,
        purchase: Purchase { tenancy: placement.tenancy, ..purchase },
    })
}

fn not_played(name: &str) -> Refusal {
    Refusal::new("UnsupportedOperation", format!("This local cloud does not play the parameter {name}"))
}

fn kind(name: Option<&str>) -> Result<&'static InstanceType, Refusal> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| Refusal::missing("InstanceType"))?;
    catalog::find(name).ok_or_else(|| {
        Refusal::new("InvalidParameterValue", format!("Invalid value '{name}' for InstanceType."))
    })
}

fn image(world: &World, id: Option<&str>) -> Result<Image, Refusal> {
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| Refusal::missing("ImageId"))?;
    Kind::Image.check(id)?;
    world.estate.image(id).cloned().ok_or_else(|| Kind::Image.not_found(&[id]))
}

fn subnet(world: &World, id: Option<&str>) -> Result<Subnet, Refusal> {
    let Some(id) = id else {
        let message = "No default VPC for this user. A subnet must be specified.";
        return Err(Refusal::new("VPCIdNotSpecified", message));
    };
    Kind::Subnet.check(id)?;
    world.estate.subnet(id).cloned().ok_or_else(|| Kind::Subnet.not_found(&[id]))
}

/// The named groups, or the VPC's default one.
fn groups(world: &World, ids: &[&str]) -> Result<Vec<String>, Refusal> {
    let found = Kind::Group.find_all(ids, |id| world.estate.group(id))?;
    if found.is_empty() {
        let default = world.estate.groups.iter().find(|group| group.name == "default");
        return Ok(default.map(|group| group.id.clone()).into_iter().collect());
    }
    Ok(ids.iter().map(|id| (*id).to_owned()).collect())
}

fn refusal(world: &World, launch: &Launch, error: LaunchError) -> Refusal {
    let (kind, zone) = (launch.kind.name, &launch.subnet.zone);
    let others = || {
        let offered = |other: &&str| launch.kind.offered_in(other) && *other != zone;
        let others: Vec<&str> = world.estate.zones().filter(offered).collect();
        others.join(", ")
    };
    match error {
        LaunchError::TokenMismatch => Refusal::new(
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        ),
        LaunchError::TokenSpent => Refusal::new(
            "IdempotentInstanceTerminated",
            "The instance that was launched with this client token is terminated. Use another client token.",
        ),
        LaunchError::NotOffered => Refusal::new(
            "Unsupported",
            format!(
                "Your requested instance type ({kind}) is not supported in your requested Availability Zone ({zone}). \
                 Please retry your request by not specifying an Availability Zone or choosing {}.",
                others()
            ),
        ),
        LaunchError::NoCapacity => no_capacity(world, launch),
        LaunchError::ReservationNotFound(id) => Kind::Reservation.not_found(&[&id]),
        LaunchError::WrongMarket => Refusal::new(
            "InvalidParameterValue",
            "The market type (purchasing) option is not valid. Choose a different market type and try again",
        ),
        LaunchError::Throttled => super::throttled(),
        LaunchError::OverQuota { market: Market::OnDemand, limit } => Refusal::new(
            "VcpuLimitExceeded",
            format!(
                "You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance \
                 bucket that the specified instance type belongs to. Please visit \
                 http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
            ),
        ),
        LaunchError::OverQuota { market: Market::Spot, .. } => {
            Refusal::new("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
        }
        LaunchError::PriceTooLow { price } => {
            let most = launch.purchase.spot.as_ref().and_then(|spot| spot.max_price).unwrap_or_default();
            let message = format!(
                "Your Spot request price of {} is lower than the minimum required Spot request fulfillment price of {}.",
                short(most),
                short(price)
            );
            Refusal::new("SpotMaxPriceTooLow", message)
        }
        LaunchError::Reclaimed(id) => Refusal::new(
            "InvalidCapacityReservationState.Unavailable",
            format!("The interruptible Capacity Reservation {id} is being reclaimed."),
        ),
        LaunchError::NotActive(id) => Refusal::new(
            "InvalidCapacityReservationState.PendingActivation",
            format!("Your Capacity Block reservation {id} is not active yet."),
        ),
        LaunchError::ReservationFull => Refusal::new(
            "ReservationCapacityExceeded",
            "The requested reservation does not have sufficient compatible and available capacity for this request.",
        ),
        LaunchError::NoAddresses => Refusal::new(
            "InsufficientFreeAddressesInSubnet",
            format!(
                "There are not enough free addresses in subnet '{}' to satisfy the requested number of instances.",
                launch.subnet.id
            ),
        ),
        LaunchError::AddressTaken(Taken::InUse) => {
            Refusal::new("InvalidIPAddress.InUse", "Address is in use.")
        }
        LaunchError::AddressTaken(Taken::OutOfRange) => {
            Refusal::new("InvalidParameterValue", "Address does not fall within the subnet's address range")
        }
        LaunchError::Asked(refusal) => refusal,
    }
}

/// Dollars without the zeros at their end.
fn short(micros: u64) -> String {
    catalog::dollars(micros, 6).trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A server's error, which is why SDKs repeat it by default.
fn no_capacity(world: &World, launch: &Launch) -> Refusal {
    if launch.purchase.lifecycle == Lifecycle::Spot {
        let message = "There is no Spot capacity available that matches your request.";
        return Refusal::new("InsufficientInstanceCapacity", message).with_status(500);
    }
    let (kind, zone) = (launch.kind, &launch.subnet.zone);
    let elsewhere: Vec<&str> = world.view(|cloud, _| {
        let has = |zone: &str| cloud.pools.left(kind.name, zone, Market::OnDemand) != Some(0);
        world.estate.zones().filter(|other| *other != zone && kind.offered_in(other) && has(other)).collect()
    });
    let name = kind.name;
    let mut message = format!(
        "We currently do not have sufficient {name} capacity in the Availability Zone you requested ({zone}). \
         Our system will be working on provisioning additional capacity."
    );
    if !elsewhere.is_empty() {
        message.push_str(&format!(
            " You can currently get {name} capacity by not specifying an Availability Zone in your request or choosing {}.",
            elsewhere.join(", ")
        ));
    }
    Refusal::new("InsufficientInstanceCapacity", message).with_status(500)
}

/// Tags by the kind of resource.
#[derive(Debug, Default)]
struct Specified {
    instance: BTreeMap<String, String>,
    volume: BTreeMap<String, String>,
    interface: BTreeMap<String, String>,
    /// If any were given for the spot request.
    spot: Option<BTreeMap<String, String>>,
}
