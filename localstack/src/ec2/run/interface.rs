//! Where a launch goes: `NetworkInterface.1`, or the same at the instance's own level, never both.
//!
//! Further interfaces are EFA-only ones, one on a network card: no others are played.

use std::net::Ipv4Addr;

use super::not_played;
use crate::aws::Refusal;
use crate::aws::query::Scope;
use crate::ec2::catalog::InstanceType;

/// The network side of a launch.
#[derive(Debug)]
pub(super) struct Interface<'a> {
    pub subnet: Option<&'a str>,
    pub groups: Vec<&'a str>,
    pub address: Option<Ipv4Addr>,
    pub secondary: u32,
    pub description: &'a str,
    /// `DeleteOnTermination`.
    pub deleted: bool,
    /// Whether it is an EFA.
    pub efa: bool,
    /// Network cards of the EFA-only interfaces beside it.
    pub efa_cards: Vec<u32>,
}

const NOT_PLAYED: [&str; 13] = [
    "AssociateCarrierIpAddress",
    "ConnectionTrackingSpecification",
    "EnaQueueCount",
    "EnaSrdSpecification",
    "Ipv4Prefix",
    "Ipv4PrefixCount",
    "Ipv6AddressCount",
    "Ipv6Addresses",
    "Ipv6Prefix",
    "Ipv6PrefixCount",
    "NetworkInterfaceId",
    "PrimaryIpv6",
    "PrivateIpAddresses",
];

pub(super) fn parse<'a>(scope: &Scope<'a>) -> Result<Interface<'a>, Refusal> {
    let combination = |what: &str| {
        let message = format!(
            "Network interfaces and an instance-level {what} may not be specified on the same request"
        );
        Refusal::new("InvalidParameterCombination", message)
    };
    let (subnet, groups) =
        (scope.text("SubnetId").filter(|id| !id.is_empty()), scope.texts("SecurityGroupId"));
    let (names, address) = (scope.texts("SecurityGroup"), address(scope)?);
    let interfaces = scope.list("NetworkInterface");
    let Some((interface, further)) = interfaces.split_first() else {
        if !names.is_empty() {
            let message = "The parameter groupName cannot be used with the parameter subnet";
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        return Ok(Interface {
            subnet,
            groups,
            address,
            secondary: 0,
            description: "",
            deleted: true,
            efa: false,
            efa_cards: Vec::new(),
        });
    };
    for (given, what) in [
        (subnet.is_some(), "subnet ID"),
        (!groups.is_empty() || !names.is_empty(), "security groups"),
        (address.is_some(), "private address"),
    ] {
        if given {
            return Err(combination(what));
        }
    }
    let primary = of_interface(interface)?;
    let mut efa_cards = Vec::new();
    for one in further {
        efa_cards.push(card_of(one, &primary)?);
    }
    Ok(Interface { efa_cards, ..primary })
}

/// The network card of an EFA-only interface.
fn card_of(interface: &Scope<'_>, primary: &Interface<'_>) -> Result<u32, Refusal> {
    let mut not_here = NOT_PLAYED.iter().chain(&["AssociatePublicIpAddress", "Description"]);
    if let Some(name) = not_here.find(|name| interface.given(name)) {
        return Err(not_played(&interface.name(name)));
    }
    if interface.text("InterfaceType") != Some("efa-only") {
        return Err(not_played(&interface.name("InterfaceType")));
    }
    if interface.given("PrivateIpAddress") || interface.given("SecondaryPrivateIpAddressCount") {
        let message = "EFA-only network interfaces do not support IP addresses.";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    let device = interface.number::<i64>("DeviceIndex")?;
    let card = interface.number::<i64>("NetworkCardIndex")?.and_then(|card| u32::try_from(card).ok());
    let (Some(1), Some(card @ 1..)) = (device, card) else {
        let message = "A further network interface requires device index 1 on a network card of its own.";
        return Err(Refusal::new("InvalidParameterValue", message));
    };
    let (subnet, groups) = (interface.text("SubnetId"), interface.texts("SecurityGroupId"));
    // EC2 takes different ones; nobody here asks for that.
    if subnet != primary.subnet || groups != primary.groups {
        return Err(not_played(&interface.name("SubnetId")));
    }
    if interface.flag("DeleteOnTermination")? == Some(false) {
        return Err(not_played(&interface.name("DeleteOnTermination")));
    }
    Ok(card)
}

fn of_interface<'a>(interface: &Scope<'a>) -> Result<Interface<'a>, Refusal> {
    if let Some(name) = NOT_PLAYED.iter().find(|name| interface.given(name)) {
        return Err(not_played(&interface.name(name)));
    }
    match interface.number::<i64>("DeviceIndex")? {
        Some(0) => {}
        Some(other) => {
            let message = format!("A network interface with device index 0 is required, got {other}.");
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        None => {
            let message = "Each network interface requires a device index.";
            return Err(Refusal::new("InvalidParameterValue", message));
        }
    }
    if interface.flag("AssociatePublicIpAddress")? == Some(true) {
        return Err(not_played(&interface.name("AssociatePublicIpAddress")));
    }
    if interface.number::<i64>("NetworkCardIndex")?.is_some_and(|card| card != 0) {
        return Err(not_played(&interface.name("NetworkCardIndex")));
    }
    let efa = match interface.text("InterfaceType") {
        None | Some("interface") => false,
        Some("efa") => true,
        Some("efa-only") => {
            let message = "The primary network interface cannot be an EFA-only one.";
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        Some(other) => {
            return Err(Refusal::value("interfaceType", other, "Expected 'interface', 'efa' or 'efa-only'."));
        }
    };
    let secondary = interface.number::<i64>("SecondaryPrivateIpAddressCount")?.unwrap_or(0);
    let secondary = u32::try_from(secondary).map_err(|_| {
        let why = "Expected a number that is not negative.";
        Refusal::value("secondaryPrivateIpAddressCount", &secondary.to_string(), why)
    })?;
    Ok(Interface {
        subnet: interface.text("SubnetId").filter(|id| !id.is_empty()),
        groups: interface.texts("SecurityGroupId"),
        address: address(interface)?,
        secondary,
        description: interface.text("Description").unwrap_or(""),
        deleted: interface.flag("DeleteOnTermination")?.unwrap_or(true),
        efa,
        efa_cards: Vec::new(),
    })
}

fn address(scope: &Scope<'_>) -> Result<Option<Ipv4Addr>, Refusal> {
    let parse = |text: &str| {
        let message =
            format!("Value ({text}) for parameter privateIpAddress is invalid. Expected an IPv4 address.");
        text.parse().map_err(|_| Refusal::new("InvalidParameterValue", message))
    };
    scope.text("PrivateIpAddress").map(parse).transpose()
}

impl Interface<'_> {
    /// Refuses more addresses and EFA interfaces than the type takes, and one address for several instances.
    pub(super) fn check(&self, kind: &InstanceType, most: u32) -> Result<(), Refusal> {
        if self.secondary >= kind.addresses_per_interface {
            let message = format!(
                "Number of private addresses will exceed limit. {} takes {} for each interface.",
                kind.name, kind.addresses_per_interface
            );
            return Err(Refusal::new("PrivateIpAddressLimitExceeded", message));
        }
        let efas = u32::from(self.efa) + u32::try_from(self.efa_cards.len()).unwrap_or(u32::MAX);
        if efas > 0 && kind.efa == 0 {
            // EC2's words are not on record; the code is.
            let message = format!("EFA interfaces are not supported on {}.", kind.name);
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        if efas > kind.efa {
            let message = format!("Interface count {efas} exceeds the limit for {}.", kind.name);
            return Err(Refusal::new("AttachmentLimitExceeded", message));
        }
        let mut cards = self.efa_cards.clone();
        cards.sort_unstable();
        cards.dedup();
        if cards.len() < self.efa_cards.len() || cards.last().is_some_and(|card| *card >= kind.cards) {
            let message = format!("{} has {} network cards, one for each EFA.", kind.name, kind.cards);
            return Err(Refusal::new("InvalidParameterValue", message));
        }
        if self.address.is_some() && most > 1 {
            let message = "A private address cannot be specified when launching more than one instance.";
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        Ok(())
    }
}
