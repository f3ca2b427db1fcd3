//! [`Manifest`]: what a project that is no package of cargo says of itself, in `manifest.json`.
//!
//! Invariant: what goes into the component is what stands there, as compact JSON, whatever its spaces are.

use std::path::Path;

use serde_json::Value;

use crate::Error;

/// The file.
pub(crate) const FILE: &str = "manifest.json";
/// The custom section that the platform reads.
const SECTION: &str = "platform:manifest";

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Name of the plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    json: String,
}

impl Manifest {
    /// The manifest in a folder.
    ///
    /// # Errors
    /// There is none, or it says nothing that makes sense.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let file = folder.join(FILE);
        let wrong = |why: String| Error::Project(format!("`{}`: {why}", file.display()));
        let bytes = std::fs::read(&file).map_err(|error| wrong(error.to_string()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let member = |name: &str| {
            let text = value.get(name).and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| wrong(format!("it has no `{name}`, which is a text")))
        };
        Ok(Self { name: member("name")?, version: member("version")?, json: value.to_string() })
    }

    /// The component with this manifest in it.
    #[must_use]
    pub fn embed(&self, mut component: Vec<u8>) -> Vec<u8> {
        let mut body = Vec::new();
        leb128(SECTION.len(), &mut body);
        body.extend_from_slice(SECTION.as_bytes());
        body.extend_from_slice(self.json.as_bytes());
        // A custom section: 0, its size, then its name and content.
        component.push(0);
        leb128(body.len(), &mut component);
        component.extend(body);
        component
    }
}

/// Writes a size as sections have it: seven bits at a time, the lowest first.
pub(crate) fn leb128(mut value: usize, into: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            into.push(low & 0x7f);
            return;
        }
        into.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use wasmparser::{Parser, Payload};

    use super::*;

    #[test]
    fn a_manifest_is_a_custom_section() {
        let folder = tempfile::tempdir().unwrap();
        let description = "é".repeat(20_000);
        let text = format!("{{ \"name\": \"a\",\n \"version\": \"1.0.0\", \"description\": \"{description}\" }}");
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let manifest = Manifest::read(folder.path()).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("a", "1.0.0"));
        let with = manifest.embed(b"\0asm\x0d\0\x01\0".to_vec());
        let sections: Vec<_> = Parser::new(0).parse_all(&with).map(Result::unwrap).collect();
        let found = sections.iter().find_map(|payload| match payload {
            Payload::CustomSection(section) => Some((section.name(), section.data())),
            _ => None,
        });
        assert_eq!(found, Some((SECTION, manifest.json.as_bytes())));
        crate::validate(&with).unwrap();
    }

    #[test]
    fn what_is_no_manifest_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for (text, words) in [("", "EOF"), ("{}", "no `name`"), (r#"{"name":1}"#, "no `name`")] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(FILE), "{error}");
        }
    }
}
