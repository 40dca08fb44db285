//! The smaller structures of a launch: counts, placement, tags, metadata options, user data, profile.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Specified, not_played};
use crate::aws::Refusal;
use crate::aws::query::Scope;
use crate::ec2::{render, tags as rules};
use crate::world::World;
use crate::world::estate::{Profile, Subnet};
use crate::world::instance::Metadata;
use crate::world::purchase::Tenancy;

/// Of the raw data, before base64.
const MOST_USER_DATA: usize = 16_384;

pub(super) fn count((least, most): (Option<i64>, Option<i64>)) -> Result<(u32, u32), Refusal> {
    let (least, most) = (
        least.ok_or_else(|| Refusal::missing("MinCount"))?,
        most.ok_or_else(|| Refusal::missing("MaxCount"))?,
    );
    let valid = |count: i64| u32::try_from(count).ok().filter(|count| *count > 0);
    match (valid(least), valid(most)) {
        (None, _) => Err(Refusal::value("minCount", &least.to_string(), "Expected a positive number.")),
        (_, None) => Err(Refusal::value("maxCount", &most.to_string(), "Expected a positive number.")),
        (Some(least), Some(most)) if least > most => {
            let message = format!("The parameter MinCount ({least}) must not exceed MaxCount ({most})");
            Err(Refusal::new("InvalidParameterCombination", message))
        }
        (Some(least), Some(most)) => Ok((least, most)),
    }
}

/// `Placement`.
pub(super) struct Placement<'a> {
    pub(super) tenancy: Tenancy,
    zone: Option<&'a str>,
    zone_id: Option<&'a str>,
}

pub(super) fn placement<'a>(scope: &Scope<'a>) -> Result<Placement<'a>, Refusal> {
    let placement = scope.scope("Placement");
    let tenancy = match placement.text("Tenancy") {
        None | Some("default") => Tenancy::Default,
        Some("dedicated") => Tenancy::Dedicated,
        Some("host") => return Err(not_played("Placement.Tenancy=host")),
        Some(other) => {
            return Err(Refusal::value("tenancy", other, "Expected 'default', 'dedicated' or 'host'."));
        }
    };
    if let Some(group) = placement.text("GroupName").filter(|group| !group.is_empty()) {
        let message = format!("The placement group '{group}' is unknown.");
        return Err(Refusal::new("InvalidPlacementGroup.Unknown", message));
    }
    let (zone, zone_id) = (placement.text("AvailabilityZone"), placement.text("AvailabilityZoneId"));
    Ok(Placement { tenancy, zone, zone_id })
}

impl Placement<'_> {
    pub(super) fn check(&self, subnet: &Subnet) -> Result<(), Refusal> {
        let other = |zone: Option<&str>, own: &str| zone.is_some_and(|zone| zone != own);
        if other(self.zone, &subnet.zone) || other(self.zone_id, &subnet.zone_id) {
            let message =
                format!("The subnet '{}' is not in the Availability Zone that was asked for", subnet.id);
            return Err(Refusal::new("InvalidParameterValue", message));
        }
        Ok(())
    }
}

/// `TagSpecification.N`.
pub(super) fn tags(scope: &Scope<'_>) -> Result<Specified, Refusal> {
    let mut specified = Specified::default();
    let mut seen = Vec::new();
    for specification in scope.list("TagSpecification") {
        let kind = specification.required("ResourceType")?;
        let tags = rules::parse(&specification)?;
        if seen.contains(&kind) {
            let message = format!("The resource type '{kind}' is specified more than once");
            return Err(Refusal::new("InvalidParameterValue", message));
        }
        seen.push(kind);
        match kind {
            "instance" => specified.instance = tags,
            "volume" => specified.volume = tags,
            "network-interface" => specified.interface = tags,
            "spot-instances-request" => specified.spot = Some(tags),
            other => {
                let message = format!("'{other}' is not a valid taggable resource type for this operation.");
                return Err(Refusal::new("InvalidParameterValue", message));
            }
        }
    }
    Ok(specified)
}

/// `MetadataOptions`. The images of this cloud want IMDSv2 where the launch says nothing, as AL2023's do.
pub(super) fn metadata(scope: &Scope<'_>) -> Result<Metadata, Refusal> {
    let options = scope.scope("MetadataOptions");
    let tokens_required = match options.text("HttpTokens") {
        None | Some("required") => true,
        Some("optional") => false,
        Some(other) => return Err(Refusal::value("HttpTokens", other, "Expected 'optional' or 'required'.")),
    };
    let hop_limit = match options.number::<i64>("HttpPutResponseHopLimit")? {
        None => 2,
        Some(limit) => {
            u8::try_from(limit).ok().filter(|limit| (1..=64).contains(limit)).ok_or_else(|| {
                Refusal::value(
                    "HttpPutResponseHopLimit",
                    &limit.to_string(),
                    "Expected a number from 1 to 64.",
                )
            })?
        }
    };
    for (name, played) in
        [("HttpEndpoint", "enabled"), ("HttpProtocolIpv6", "disabled"), ("InstanceMetadataTags", "disabled")]
    {
        match options.text(name) {
            Some(value) if value != played && ["enabled", "disabled"].contains(&value) => {
                return Err(not_played(&format!("MetadataOptions.{name}={value}")));
            }
            Some(value) if value != played => {
                return Err(Refusal::value(name, value, "Expected 'enabled' or 'disabled'."));
            }
            Some(_) | None => {}
        }
    }
    Ok(Metadata { tokens_required, hop_limit })
}

pub(super) fn user_data(scope: &Scope<'_>) -> Result<Vec<u8>, Refusal> {
    let malformed = |message: &str| Refusal::new("InvalidUserData.Malformed", message);
    let text = scope.text("UserData").unwrap_or("");
    let raw = STANDARD.decode(text).map_err(|_| malformed("Invalid BASE64 encoding of user data."))?;
    if raw.len() > MOST_USER_DATA {
        return Err(malformed("User data is limited to 16384 bytes"));
    }
    Ok(raw)
}

/// `IamInstanceProfile`.
pub(super) struct ProfileName<'a> {
    arn: Option<&'a str>,
    name: Option<&'a str>,
}

pub(super) fn profile<'a>(scope: &Scope<'a>) -> Result<ProfileName<'a>, Refusal> {
    let profile = scope.scope("IamInstanceProfile");
    let profile = ProfileName { arn: profile.text("Arn"), name: profile.text("Name") };
    if profile.arn.is_some() && profile.name.is_some() {
        let message = "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    Ok(profile)
}

impl ProfileName<'_> {
    pub(super) fn find(&self, world: &World) -> Result<Option<Profile>, Refusal> {
        if let Some(name) = self.name {
            let found = world.estate.profile(name).cloned();
            let why = "Invalid IAM Instance Profile name";
            return found.map(Some).ok_or_else(|| Refusal::value("iamInstanceProfile.name", name, why));
        }
        let Some(arn) = self.arn else { return Ok(None) };
        let form = arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(":instance-profile/"));
        if form.is_none() {
            let message = format!("The IAM instance profile ARN '{arn}' is malformed");
            return Err(Refusal::new("InvalidIamInstanceProfileArn.Malformed", message));
        }
        let found =
            world.estate.profiles.iter().find(|profile| render::profile_arn(world, &profile.name) == arn);
        let why = "Invalid IAM Instance Profile ARN";
        found.cloned().map(Some).ok_or_else(|| Refusal::value("iamInstanceProfile.arn", arn, why))
    }
}
