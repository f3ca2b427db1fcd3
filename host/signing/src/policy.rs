//! [`Policy`]: whose signatures a plugin needs, by its name.
//!
//! Owns the rules and how a name is matched; must not know what a refusal leads to. Invariant: names that a reader could take for each other fall under
//! the same rule.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use platform_runtime::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    evidence::Evidence,
    key::{InvalidKey, PublicKey},
};

/// Largest file with a key.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// Which keys there are for plugins of some names, as the configuration file says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRule {
    /// Names of plugins; `*` stands for any characters.
    pub names: Vec<String>,
    /// Files with public keys, as PEM; a signature by one of them is enough.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// Whether a plugin without such a signature is refused; else it is taken with a warning.
    #[serde(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}

/// A rule can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// A pattern that no name fits.
    #[error("`{0}` fits no plugin: names are letters, digits, `.`, `_` and `-`, and `*` stands for any of them")]
    Pattern(String),
    /// A rule for nothing.
    #[error("a rule has no `names`; write which plugins it is for, such as `names = [\"acme-*\"]`")]
    Nameless,
    /// A rule that nothing satisfies.
    #[error("the rule for `{0}` has no `keys`; name a file with a public key, or say `required = false`")]
    Keyless(String),
    /// A file that can't be read.
    #[error("`{file}` can't be read: {why}")]
    File {
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// A file that holds no key.
    #[error("`{file}`: {error}")]
    Key {
        /// The file.
        file: String,
        /// What is wrong with it.
        error: InvalidKey,
    },
}

/// Whose signatures are needed.
#[derive(Debug, Clone, Default)]
pub struct Policy(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    names: Vec<String>,
    keys: Vec<PublicKey>,
    required: bool,
}

/// What the policy says of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No rule is about its name.
    Unruled,
    /// It is signed by the key with this id.
    Signed(Digest),
    /// It is not signed as it should be, and the rule lets it pass.
    Tolerated(Untrusted),
}

/// A component is not signed as its name asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` needs a signature by a key of the rule for `{rule}`, and {}; have it signed, or change `[[trust]]` in the configuration file", why(.signatures))]
pub struct Untrusted {
    name: String,
    rule: String,
    signatures: usize,
}

fn why(signatures: &usize) -> String {
    match signatures {
        0 => "none came with it".to_owned(),
        1 => "the one that came with it is by another key, or over other bytes".to_owned(),
        more => format!("the {more} that came with it are by other keys, or over other bytes"),
    }
}

impl Policy {
    /// Reads the keys of rules. Of several rules that fit a name the first counts.
    ///
    /// # Errors
    /// The rule that can't be used.
    pub fn build(rules: &[TrustRule]) -> Result<Self, InvalidPolicy> {
        let rules = rules.iter().map(|rule| {
            let names: Vec<String> = rule.names.iter().map(|name| pattern(name)).collect::<Result<_, _>>()?;
            let first = names.first().ok_or(InvalidPolicy::Nameless)?;
            if rule.keys.is_empty() && rule.required {
                return Err(InvalidPolicy::Keyless(first.clone()));
            }
            let keys = rule.keys.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
            Ok(Rule { names, keys, required: rule.required })
        });
        rules.collect::<Result<_, _>>().map(Self)
    }

    /// All keys of the rule for a name that signed a component, by their ids.
    #[must_use]
    pub fn signers(&self, name: &str, component: &[u8], digest: Digest, evidence: &[Evidence]) -> Vec<Digest> {
        let folded = folded(name);
        let fitting = self.0.iter().find(|rule| rule.names.iter().any(|rule| fits(rule, &folded)));
        let keys = fitting.map_or(&[][..], |rule| rule.keys.as_slice()).iter();
        keys.filter(|key| evidence.iter().any(|one| one.shows(key, component, digest))).map(PublicKey::id).collect()
    }

    /// Judges a component that is to be known by a name.
    ///
    /// # Errors
    /// It is not signed as its name asks for.
    pub fn check(
        &self, name: &str, component: &[u8], digest: Digest, evidence: &[Evidence],
    ) -> Result<Verdict, Untrusted> {
        let folded = folded(name);
        let fitting = self.0.iter().find_map(|rule| Some((rule, rule.names.iter().find(|rule| fits(rule, &folded))?)));
        let Some((rule, pattern)) = fitting else { return Ok(Verdict::Unruled) };
        let signer = rule.keys.iter().find(|key| evidence.iter().any(|one| one.shows(key, component, digest)));
        if let Some(key) = signer {
            return Ok(Verdict::Signed(key.id()));
        }
        let untrusted = Untrusted { name: name.to_owned(), rule: pattern.clone(), signatures: evidence.len() };
        if rule.required { Err(untrusted) } else { Ok(Verdict::Tolerated(untrusted)) }
    }
}

fn read(file: &Path) -> Result<PublicKey, InvalidPolicy> {
    let shown = || file.display().to_string();
    let unreadable = |error: std::io::Error| InvalidPolicy::File { file: shown(), why: error.kind().to_string() };
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(unreadable)?;
    opened.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    PublicKey::parse(&text).map_err(|error| InvalidPolicy::Key { file: shown(), error })
}

fn pattern(text: &str) -> Result<String, InvalidPolicy> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte);
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(InvalidPolicy::Pattern(text.chars().take(140).collect()));
    }
    Ok(folded(text))
}

/// `KV_Storage` is no name for somebody else than `kv-storage`.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace(['.', '_'], "-")
}

/// Whether a name is what a pattern stands for. Takes steps of at most the product of both lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        // The first place is as good as any: what follows may be anything.
        let Some((_, after)) = name.split_once(part) else { return false };
        name = after;
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, SecretKey, evidence::bundle};

    const COMPONENT: &[u8] = b"component";

    fn rule(names: &[&str], keys: &[&Path], required: bool) -> TrustRule {
        let names = names.iter().map(ToString::to_string).collect();
        TrustRule { names, keys: keys.iter().map(|file| file.to_path_buf()).collect(), required }
    }

    fn pair(folder: &Path, name: &str) -> (SecretKey, PathBuf) {
        let key = SecretKey::generate(Algorithm::EcdsaP256);
        let file = folder.join(name);
        fs::write(&file, key.public().unwrap().to_pem()).unwrap();
        (key, file)
    }

    fn evidence(key: &SecretKey) -> Vec<Evidence> {
        let text = bundle(&key.public().unwrap(), Digest::of(COMPONENT), &key.sign(COMPONENT));
        vec![Evidence::parse(&text).unwrap()]
    }

    fn check(policy: &Policy, name: &str, evidence: &[Evidence]) -> Result<Verdict, Untrusted> {
        policy.check(name, COMPONENT, Digest::of(COMPONENT), evidence)
    }

    #[test]
    fn the_first_rule_for_a_name_says_whose_signature_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let ((ours, our_file), (theirs, their_file)) = (pair(folder.path(), "ours"), pair(folder.path(), "theirs"));
        let policy = Policy::build(&[
            rule(&["acme-*", "kv-storage"], &[&our_file], true),
            rule(&["lab-*"], &[&their_file], false),
            rule(&["*"], &[&our_file, &their_file], true),
        ])
        .unwrap();
        let (ours_id, theirs_id) = (ours.public().unwrap().id(), theirs.public().unwrap().id());
        assert_eq!(check(&policy, "acme-policy", &evidence(&ours)), Ok(Verdict::Signed(ours_id)));
        assert_eq!(check(&policy, "other", &evidence(&theirs)), Ok(Verdict::Signed(theirs_id)));
        assert_eq!(
            check(&policy, "other", &[evidence(&ours), evidence(&theirs)].concat()),
            Ok(Verdict::Signed(ours_id))
        );
        // Names that look alike are not for others.
        for name in ["kv-storage", "KV-Storage", "kv_storage", "kv.storage", "Acme_policy"] {
            let error = check(&policy, name, &evidence(&theirs)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("by another key"), "{error}");
            assert!(check(&policy, name, &[]).unwrap_err().to_string().contains("none came with it"));
        }
        assert!(matches!(check(&policy, "lab-x", &[]), Ok(Verdict::Tolerated(_))));
        assert_eq!(check(&Policy::default(), "acme-policy", &[]), Ok(Verdict::Unruled));
    }

    #[test]
    fn patterns_stand_for_whole_names() {
        for (pattern, name, is) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "anything", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("*-*-*", "a-b", false),
        ] {
            assert_eq!(fits(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn rules_that_can_not_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (_, file) = pair(folder.path(), "ours");
        let missing = folder.path().join("missing.pub");
        let wrong = folder.path().join("wrong.pub");
        fs::write(&wrong, "no key").unwrap();
        for (rule, named) in [
            (rule(&[], &[&file], true), "names"),
            (rule(&["acme/*"], &[&file], true), "`acme/*` fits no plugin"),
            (rule(&[""], &[&file], true), "fits no plugin"),
            (rule(&["a"], &[], true), "the rule for `a` has no `keys`"),
            (rule(&["a"], &[&missing], true), "missing.pub"),
            (rule(&["a"], &[&wrong], false), "wrong.pub"),
        ] {
            let error = Policy::build(&[rule]).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(Policy::build(&[rule(&["a"], &[], false)]).is_ok());
    }
}
