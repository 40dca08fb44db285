//! XML as AWS's services answer it: elements without attributes, lists of `item`.

use std::fmt::{Display, Write};

use quick_xml::escape::escape;

/// An XML text that grows.
#[derive(Debug, Default)]
pub struct Xml(String);

impl Xml {
    /// An element with a value.
    pub fn text(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        write!(self.0, "<{name}>{}</{name}>", escape(value.as_str())).expect("a string takes everything");
    }

    /// An element with a value, if there is one.
    pub fn maybe(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// An element with elements inside.
    pub fn element(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        write!(self.0, "<{name}>").expect("a string takes everything");
        inside(self);
        write!(self.0, "</{name}>").expect("a string takes everything");
    }

    /// A list: every item is an `item` element.
    pub fn list<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, each: impl Fn(&mut Self, T)) {
        self.element(name, |xml| {
            for item in items {
                xml.element("item", |xml| each(xml, item));
            }
        });
    }

    /// A list of plain values.
    pub fn values<T: Display>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        self.element(name, |xml| {
            for item in items {
                xml.text("item", item);
            }
        });
    }

    /// What another text holds.
    pub fn append(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    /// A document of this content.
    #[must_use]
    pub fn document(&self, root: &str, namespace: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{namespace}\">{}</{root}>",
            self.0
        )
    }

    /// A document whose root has no namespace, as EC2's errors have none.
    #[must_use]
    pub fn bare_document(&self, root: &str) -> String {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}>{}</{root}>", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_lists_nest() {
        let mut xml = Xml::default();
        xml.text("name", "a<b>&\"c\"");
        xml.maybe("absent", None::<u8>);
        xml.list("tagSet", [1, 2], |xml, n| xml.text("key", n));
        xml.values("set", ["x"]);
        insta::assert_snapshot!(xml.document("R", "urn:x"), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <R xmlns="urn:x"><name>a&lt;b&gt;&amp;&quot;c&quot;</name><tagSet><item><key>1</key></item><item><key>2</key></item></tagSet><set><item>x</item></set></R>
        "#);
    }
}
