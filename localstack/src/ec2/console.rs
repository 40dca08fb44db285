//! GetConsoleOutput.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Call;
use super::ids::Kind;
use super::instances;
use crate::aws::Refusal;
use crate::aws::xml::Xml;
use crate::clock;
use crate::world::instance::Machine;

/// EC2 keeps the last 64 KB.
const KEPT: usize = 64 << 10;

pub(super) fn get_console_output(call: &Call<'_>) -> Result<Xml, Refusal> {
    let scope = call.params.root();
    let id = scope.required("InstanceId")?;
    let latest = scope.flag("Latest")?.unwrap_or(false);
    Kind::Instance.check(id)?;
    call.ready()?;
    let instance =
        instances::visible(call, &[id])?.into_iter().next().ok_or_else(|| Kind::Instance.not_found(&[id]))?;
    if latest && instance.kind.hypervisor() == Some("xen") {
        let message = "This instance type does not support retrieving the latest console logs.";
        return Err(Refusal::new("UnsupportedOperation", message));
    }
    let console = match instance.machine {
        Machine::Waiting => String::new(),
        Machine::Gone => instance.console,
        Machine::Booting | Machine::Up | Machine::Halting { .. } | Machine::Off | Machine::Destroying => {
            call.world.machines().console(id)
        }
    };
    let bytes = console.as_bytes();
    let mut xml = Xml::default();
    xml.text("instanceId", id);
    xml.text("timestamp", clock::iso(clock::now()));
    xml.text("output", STANDARD.encode(&bytes[bytes.len().saturating_sub(KEPT)..]));
    Ok(xml)
}
