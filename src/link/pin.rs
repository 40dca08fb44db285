//! Whose machine this is: the host key is pinned before anything secret goes over.
//!
//! By SSM the first key is taken, since nobody but the agent of that very instance answers there.
//! By `direct` anybody in the network may answer, so the key must be the one that the machine printed to its console.

use std::collections::BTreeMap;

use super::task::{Link, Setback};
use crate::cloud::TAG_HOST_KEY;
use crate::cloud::audit::Deed;
use crate::config::TunnelKind;
use crate::failpoint::{self, Write};
use crate::guest::host_key_on_console;

/// Makes `found` the machine's host key, in a tag too, so that the next ORCA knows it. With a pin already there is
/// nothing to do: the connection was verified with it.
pub(super) async fn pin(link: &Link, found: String) -> Result<(), Setback> {
    if link.pin().is_some() {
        return Ok(());
    }
    let machine = &link.machine;
    match link.hub.settings.tunnel {
        TunnelKind::Ssm => {}
        TunnelKind::Direct if !machine.instance_type.nitro => {
            return Err(Setback::Broken(format!(
                "a `direct` tunnel needs an instance type whose console can be read, and `{}` is not on Nitro",
                machine.instance_type.name
            )));
        }
        TunnelKind::Direct => {
            let console = link.hub.cloud.console(&machine.instance_id).await;
            let console = console.map_err(|error| Setback::Again(format!("console: {error}")))?;
            match host_key_on_console(&console) {
                None => {
                    return Err(Setback::Again("the console does not show one host key yet".to_owned()));
                }
                Some(shown) if shown != found => {
                    return Err(Setback::Broken(format!(
                        "host key is `{found}`, the console shows `{shown}`"
                    )));
                }
                Some(_) => {}
            }
        }
    }
    let tags = BTreeMap::from([(TAG_HOST_KEY.to_owned(), found.clone())]);
    let call = link.hub.cloud.tag(&machine.instance_id, &tags);
    let tagged = failpoint::around(Write::Pin, call).await;
    let pod = format!("{}/{}", machine.pod_namespace, machine.pod_name);
    Deed {
        action: "CreateTags",
        pod_uid: &machine.pod_uid,
        pod: &pod,
        instance_id: &machine.instance_id,
        detail: TAG_HOST_KEY,
        why: "first contact pins the host key",
    }
    .record(&tagged);
    tagged.map_err(|error| Setback::Again(format!("tag `{TAG_HOST_KEY}`: {error}")))?;
    link.set_pin(found);
    Ok(())
}
