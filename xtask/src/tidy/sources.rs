//! How Rust files look: each says what it owns, stays small, and waives a lint only with a reason.

use super::{File, Finding};

/// Lines from which a file is likely to hold a second topic.
const LINES_MAX: usize = 500;

/// Files that may be longer, and why.
const LONG: [(&str, &str); 0] = [];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.is("rs") {
        return findings;
    }
    let Some(text) = file.text() else {
        return vec![Finding::new(&file.path, "is no UTF-8")];
    };
    if !text.starts_with("//!") {
        findings.push(Finding::at(&file.path, 1, "does not open with a `//!` line that says what it owns"));
    }
    if file.path.ends_with("/mod.rs") {
        findings.push(Finding::new(&file.path, "name the module's file after it: `name.rs` beside `name/`"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX && !LONG.iter().any(|(path, _)| *path == file.path) {
        let message = format!(
            "has {lines} lines, more than {LINES_MAX}: look for its second topic, or list it with a reason in xtask/src/tidy/sources.rs"
        );
        findings.push(Finding::new(&file.path, message));
    }
    findings.extend(waivers(&file.path, text));
    findings
}

/// Attributes that switch a lint off without saying why.
fn waivers(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for opening in ["allow(", "expect("] {
        for (start, _) in text.match_indices(opening) {
            let before = text.get(..start).unwrap_or_default();
            let attribute =
                before.ends_with("#[") || before.ends_with("#![") || before.trim_end().ends_with("#[cfg_attr(test,");
            // A comment may speak of attributes.
            let commented = before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with("//"));
            let inside = text.get(start..).and_then(|rest| rest.split(")]").next()).unwrap_or_default();
            if attribute && !commented && !inside.contains("reason") {
                let message = format!("`{}` has no `reason = \"...\"`", inside.trim_end());
                findings.push(Finding::at(path, before.lines().count().max(1), message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::waivers;

    #[test]
    fn waivers_need_a_reason() {
        let bare = ["#[", "allow(clippy::unwrap_used)]\nfn f() {}"].concat();
        assert_eq!(waivers("x.rs", &bare).len(), 1);
        let reasoned = ["#[", "expect(clippy::unwrap_used, reason = \"because\")]"].concat();
        assert!(waivers("x.rs", &reasoned).is_empty());
        assert!(waivers("x.rs", "value.expect(\"call\")").is_empty());
    }
}
