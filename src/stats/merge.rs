//! Pages of many machines as one: each family once, with the samples of all. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::page::{Families, Family};

/// A page, family by family, made as it is read: all of it at once is tens of megabytes when there are many machines.
#[derive(Debug)]
pub(super) struct Merged {
    pages: Vec<Arc<Families>>,
    /// Names of families that are still to come, in order.
    names: std::vec::IntoIter<Box<str>>,
}

impl Merged {
    pub(super) fn new(pages: Vec<Arc<Families>>) -> Self {
        let names: BTreeSet<&str> = pages.iter().flat_map(|page| page.0.keys().map(|name| &**name)).collect();
        let names: Vec<Box<str>> = names.into_iter().map(Box::from).collect();
        Self { pages, names: names.into_iter() }
    }
}

impl Iterator for Merged {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let name = self.names.next()?;
        let families = || self.pages.iter().filter_map(|page| page.0.get(&name));
        let head = families().map(|family| &*family.head).find(|head| !head.is_empty()).unwrap_or_default();
        let size: usize = families().map(|family| family.lines.len()).sum();
        let mut text = String::with_capacity(head.len() + size);
        text.push_str(head);
        families().for_each(|family| text.push_str(&family.lines));
        Some(text)
    }
}

/// A family of our own with one series that has no labels.
pub(super) fn own(name: &str, kind: &str, help: &str, value: &str) -> (Box<str>, Family) {
    let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n").into();
    (name.into(), Family { head, lines: format!("{name} {value}\n").into() })
}
