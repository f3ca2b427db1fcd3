//! What a component says of itself: the JSON in its custom section `platform:manifest`.
//!
//! Written by whoever made the component, so it is a request and never a decision: grants are asked for, not given.

use platform_capability::{Grants, Name, SlotKind};
use platform_runtime::Mode;
use serde::Deserialize;
use serde_json::Value;

/// Name of the custom section.
pub const SECTION: &str = "platform:manifest";
/// Largest manifest, in bytes.
pub const BYTES_MAX: usize = 256 << 10;
/// Longest text of a manifest that is kept, in characters.
const TEXT_CHARS_MAX: usize = 1000;

/// A manifest.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Manifest {
    /// Name of the plugin.
    pub name: Option<Name>,
    /// Its version.
    pub version: Option<String>,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// Its licence.
    #[serde(default)]
    pub license: String,
    /// Where its source is.
    #[serde(default)]
    pub source: String,
    /// The slot that it is for.
    pub slot: Option<SlotKind>,
    /// How it wants its instances to be used.
    pub mode: Option<Mode>,
    /// What it asks for.
    #[serde(default)]
    pub grants: Grants,
    /// JSON Schema of its settings.
    pub settings_schema: Option<Value>,
    /// Members that this version of the platform does not know.
    #[serde(flatten)]
    unknown: serde_json::Map<String, Value>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// The member that is wrong, and what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.len() > BYTES_MAX {
            return Err(format!("it is {} bytes long; {BYTES_MAX} are allowed", json.len()));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let manifest: Self = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            if path == "." { error.inner().to_string() } else { format!("`{path}`: {}", error.inner()) }
        })?;
        deserializer.end().map_err(|error| error.to_string())?;
        let texts =
            [("description", &manifest.description), ("license", &manifest.license), ("source", &manifest.source)];
        for (member, text) in texts {
            if text.chars().nth(TEXT_CHARS_MAX).is_some() {
                return Err(format!("`{member}` is longer than {TEXT_CHARS_MAX} characters"));
            }
        }
        Ok(manifest)
    }

    /// What an operator should know about it.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unknown.keys().take(10).map(|member| {
            let member: String = member.chars().take(100).collect();
            format!("the manifest has a member `{member}` that this platform does not know and leaves alone")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_optional_and_unknown_ones_are_told() {
        let manifest = Manifest::parse(br#"{"name":"a","slot":"kv.store","grants":["storage"],"colour":1}"#).unwrap();
        assert_eq!(manifest.name.as_ref().map(Name::as_str), Some("a"));
        assert_eq!(manifest.slot, Some(SlotKind::KvStore));
        assert_eq!(manifest.grants.len(), 1);
        let warnings: Vec<_> = manifest.warnings().collect();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("`colour`"));
    }

    #[test]
    fn the_wrong_member_is_named() {
        for (json, named) in [
            (r#"{"name":"../x"}"#, "name"),
            (r#"{"slot":"kv"}"#, "slot"),
            (r#"{"mode":"often"}"#, "mode"),
            (r#"{"grants":["root"]}"#, "grants"),
            (r#"{"version":1}"#, "version"),
            ("", "EOF"),
            ("[]", "struct"),
            ("{}{}", "trailing"),
        ] {
            let error = Manifest::parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{json}: {error}");
        }
        assert!(Manifest::parse(&vec![b' '; BYTES_MAX + 1]).unwrap_err().contains("allowed"));
        let deep = format!("{{\"x\":{}", "[".repeat(10_000));
        assert!(Manifest::parse(deep.as_bytes()).is_err());
    }
}
