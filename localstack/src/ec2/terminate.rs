//! TerminateInstances: all or nothing, and as often as one likes.

use super::Call;
use super::ids::Kind;
use super::{render, throttled};
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::world::instance::{Power, Reason};
use crate::world::throttle::Throttled;

pub(super) fn terminate_instances(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let ids = scope.texts("InstanceId");
    let skip = scope.flag("SkipOsShutdown")?.unwrap_or(false);
    let force = scope.flag("Force")?.unwrap_or(false);
    call.known()?;
    if ids.is_empty() {
        return Err(Refusal::missing("InstanceId"));
    }
    let power = if skip || force { Power::Cut } else { Power::Button };
    // Every refusal before the first end.
    call.world.view(|cloud, now| {
        let visible = cloud.visible(now);
        let found = Kind::Instance.find_all(&ids, |id| visible.iter().find(|one| one.id == id))?;
        match found.iter().find(|instance| instance.features.protected && !instance.state.ending()) {
            Some(protected) => Err(Refusal::new(
                "OperationNotPermitted",
                format!(
                    "The instance '{}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.",
                    protected.id
                ),
            )),
            None => Ok(()),
        }
    })?;
    call.wet()?;
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    call.world.view(|cloud, now| cloud.throttle.terminate(count, now)).map_err(|Throttled| throttled())?;
    let changes = call.world.change(|cloud, now| {
        let transition = format!("User initiated ({})", now.strftime("%Y-%m-%d %H:%M:%S GMT"));
        let mut changes = Vec::new();
        for id in &ids {
            let Some(instance) = cloud.instances.get_mut(*id) else { continue };
            let before = instance.state;
            instance.end(Reason::new("Client.UserInitiatedShutdown"), transition.clone(), power, now);
            changes.push(((*id).to_owned(), before, instance.state));
        }
        changes
    });
    let mut xml = Xml::default();
    xml.list("instancesSet", changes, |xml, (id, before, after)| {
        xml.text("instanceId", id);
        render::state(xml, "currentState", after);
        render::state(xml, "previousState", before);
    });
    Ok(xml)
}
