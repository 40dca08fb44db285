//! What machines leave behind, for tests: nothing, until one is told to.

use crate::clock;
use crate::cloud::{CloudError, Disk, InstanceState, Leftover, LeftoverKind};

use super::machine::Machine;
use super::world::World;

/// Something that outlives its machine, or never had one.
#[derive(Clone, Debug)]
pub(super) struct Left {
    leftover: Leftover,
    /// Nothing else has it, once that is terminated.
    machine: Option<String>,
}

impl World {
    /// What a machine has does not go with it.
    pub(super) fn leave(&mut self, id: &str) {
        let Some(Machine { instance, launched_at, .. }) = self.machines.get(id) else { return };
        let (number, tags) = (id.trim_start_matches("i-"), &instance.tags);
        let volume = Leftover {
            kind: LeftoverKind::Volume,
            id: format!("vol-{number}"),
            created_at: Some(*launched_at),
            place: instance.zone.clone(),
            disk: Some(Disk { kind: "gp3".to_owned(), size_gib: 100, iops: 3000, throughput: 125 }),
            tags: tags.clone(),
        };
        let interface = Leftover {
            kind: LeftoverKind::NetworkInterface,
            id: format!("eni-{number}"),
            created_at: None,
            place: instance.subnet_id.clone(),
            disk: None,
            tags: tags.clone(),
        };
        let machine = Some(id.to_owned());
        self.left.extend([volume, interface].map(|leftover| Left { leftover, machine: machine.clone() }));
    }

    /// Somebody makes such a thing.
    pub(super) fn put(&mut self, leftover: Leftover) {
        self.left.push(Left { leftover, machine: None });
    }

    /// Everything of a kind that nothing has, whosever it is.
    pub(super) fn leftovers(&self, kind: LeftoverKind) -> Vec<Leftover> {
        let free = self.left.iter().filter(|one| one.leftover.kind == kind && self.is_free(one));
        free.map(|one| one.leftover.clone()).collect()
    }

    pub(super) fn discard(&mut self, id: &str) -> Result<(), CloudError> {
        let Some(at) = self.left.iter().position(|one| one.leftover.id == id) else {
            return Ok(());
        };
        if !self.is_free(&self.left[at]) {
            let code = "VolumeInUse".to_owned();
            return Err(CloudError::Invalid { code, message: format!("{id} is attached") });
        }
        self.left.remove(at);
        self.discarded.push((clock::now(), id.to_owned()));
        Ok(())
    }

    fn is_free(&self, one: &Left) -> bool {
        let machine = one.machine.as_ref().and_then(|id| self.machines.get(id));
        machine.is_none_or(|machine| machine.seen(&self.timing).state == InstanceState::Terminated)
    }
}
