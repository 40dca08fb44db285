//! Tags: their rules, CreateTags and DescribeTags.

use std::collections::BTreeMap;

use super::Call;
use super::filter::{Field, Filtered, Filters};
use super::ids::Kind;
use super::page::Page;
use crate::aws::Refusal;
use crate::aws::query::Scope;
use crate::aws::xml::Xml;
use crate::world::instance::State;
use crate::world::state::Cloud;

const MOST_TAGS: usize = 50;
/// In characters, not bytes.
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;
/// The most resources of one CreateTags.
const MOST_RESOURCES: usize = 1000;

/// Reads and checks `Tag.N.Key`, `Tag.N.Value`.
pub(super) fn parse(scope: &Scope<'_>) -> Result<BTreeMap<String, String>, Refusal> {
    let invalid = |message: String| Refusal::new("InvalidParameterValue", message);
    let mut tags = BTreeMap::new();
    for tag in scope.list("Tag") {
        let key = tag.required("Key")?;
        let value = tag.text("Value").unwrap_or("");
        if key.chars().count() > LONGEST_KEY {
            return Err(invalid(format!("Tag key exceeds the maximum length of {LONGEST_KEY} characters")));
        }
        if value.chars().count() > LONGEST_VALUE {
            return Err(invalid(format!(
                "Tag value exceeds the maximum length of {LONGEST_VALUE} characters"
            )));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(invalid("Tag keys starting with 'aws:' are reserved for internal use".to_owned()));
        }
        if key.chars().chain(value.chars()).any(char::is_control) {
            return Err(invalid("Tags must not contain control characters".to_owned()));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(invalid(format!("Duplicate tag key '{key}' specified.")));
        }
    }
    within_limit(tags.len())?;
    Ok(tags)
}

fn within_limit(count: usize) -> Result<(), Refusal> {
    if count > MOST_TAGS {
        let message = format!("The maximum number of tags for a resource is {MOST_TAGS}");
        return Err(Refusal::new("TagLimitExceeded", message));
    }
    Ok(())
}

pub(super) fn create_tags(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("ResourceId");
    let tags = parse(&scope);
    call.known()?;
    let tags = tags?;
    if ids.is_empty() {
        return Err(Refusal::missing("resourceIdSet"));
    }
    if tags.is_empty() {
        return Err(Refusal::missing("tagSet"));
    }
    if ids.len() > MOST_RESOURCES {
        let message = format!("At most {MOST_RESOURCES} resources can be tagged in one request.");
        return Err(Refusal::new("InvalidParameterValue", message));
    }
    for id in &ids {
        let kind =
            Kind::of(id).ok_or_else(|| Refusal::new("InvalidID", format!("The ID '{id}' is not valid")))?;
        kind.check(id)?;
    }
    let world = call.world;
    world.change(|cloud, now| {
        let hidden: Vec<String> = cloud
            .instances
            .values()
            .filter(|instance| !instance.visible(now, &cloud.timing))
            .flat_map(|instance| {
                let volumes = instance.volumes.iter().map(|volume| volume.id.clone());
                volumes.chain([instance.id.clone(), instance.interface.id.clone()])
            })
            .collect();
        let fixed = |id: &str| {
            let estate = &world.estate;
            estate.vpc.id == id
                || estate.subnet(id).is_some()
                || estate.group(id).is_some()
                || estate.image(id).is_some()
        };
        // All or nothing: every refusal before the first tag.
        for &id in &ids {
            let known =
                !hidden.iter().any(|hidden| hidden == id) && (fixed(id) || tags_of(cloud, id).is_some());
            let Some(kind) = Kind::of(id) else { continue };
            if !known {
                return Err(kind.not_found(&[id]));
            }
            let mut all = tags_of(cloud, id).cloned().unwrap_or_default();
            all.extend(tags.clone());
            within_limit(all.len())?;
        }
        call.wet()?;
        for &id in &ids {
            if fixed(id) {
                cloud.tags.entry(id.to_owned()).or_default().extend(tags.clone());
            } else if let Some(own) = tags_of(cloud, id) {
                own.extend(tags.clone());
            }
        }
        Ok(())
    })?;
    let mut xml = Xml::default();
    xml.text("return", true);
    Ok(xml)
}

/// The tags of something launched, or of something fixed that has some.
fn tags_of<'a>(cloud: &'a mut Cloud, id: &str) -> Option<&'a mut BTreeMap<String, String>> {
    if cloud.tags.contains_key(id) {
        return cloud.tags.get_mut(id);
    }
    if let Some(reservation) = cloud.reservations.get_mut(id) {
        return Some(&mut reservation.tags);
    }
    if let Some(volume) = cloud.left.volumes.get_mut(id) {
        return Some(&mut volume.volume.tags);
    }
    if let Some(interface) = cloud.left.interfaces.get_mut(id) {
        return Some(&mut interface.tags);
    }
    for instance in cloud.instances.values_mut() {
        if instance.id == id {
            return Some(&mut instance.tags);
        }
        if let Some(spot) = instance.purchase.spot.as_mut().filter(|spot| spot.id == id) {
            return Some(&mut spot.tags);
        }
        // What it had is no longer its own.
        if instance.state == State::Terminated {
            continue;
        }
        if instance.interface.id == id {
            return Some(&mut instance.interface.tags);
        }
        if let Some(further) = instance.interface.efa_only.iter_mut().find(|further| further.id == id) {
            return Some(&mut further.tags);
        }
        if let Some(volume) = instance.volumes.iter_mut().find(|volume| volume.id == id) {
            return Some(&mut volume.tags);
        }
    }
    None
}

/// One tag of one resource.
#[derive(Clone, Debug)]
struct Tag {
    resource: String,
    kind: &'static str,
    key: String,
    value: String,
}

pub(super) fn describe_tags(call: &Call<'_>) -> Result<Xml, Refusal> {
    let filters = Filters::parse::<Tag>(&call.params.root())?;
    let page = Page::parse(call.params, 5..=1000)?;
    call.ready()?;
    let all: Vec<Tag> = call.world.view(|cloud, now| {
        let mut all = Vec::new();
        let mut add = |id: &str, tags: &BTreeMap<String, String>| {
            let kind = Kind::of(id).map_or("", Kind::resource_type);
            all.extend(tags.iter().map(|(key, value)| Tag {
                resource: id.to_owned(),
                kind,
                key: key.clone(),
                value: value.clone(),
            }));
        };
        for instance in cloud.visible(now) {
            add(&instance.id, &instance.tags);
            if let Some(spot) = &instance.purchase.spot {
                add(&spot.id, &spot.tags);
            }
        }
        cloud.volumes(now).iter().for_each(|seen| add(&seen.volume.id, &seen.volume.tags));
        cloud.interfaces(now).iter().for_each(|seen| add(&seen.id, &seen.tags));
        cloud.tags.iter().for_each(|(id, tags)| add(id, tags));
        cloud.reservations.values().for_each(|reservation| add(&reservation.id, &reservation.tags));
        all
    });
    let passing = all.into_iter().filter(|tag| filters.pass(tag)).collect();
    let (shown, next) = page.cut(passing, |tag| format!("{} {}", tag.resource, tag.key));
    let mut xml = Xml::default();
    xml.list("tagSet", shown, |xml, tag| {
        xml.text("resourceId", tag.resource);
        xml.text("resourceType", tag.kind);
        xml.text("key", tag.key);
        xml.text("value", tag.value);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

impl Filtered for Tag {
    const TAGGED: bool = false;
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
    const FIELDS: &'static [Field<Self>] = &[
        Field { name: "key", values: |tag| vec![tag.key.clone()] },
        Field { name: "resource-id", values: |tag| vec![tag.resource.clone()] },
        Field { name: "resource-type", values: |tag| vec![tag.kind.to_owned()] },
        Field { name: "value", values: |tag| vec![tag.value.clone()] },
    ];
}
