//! What every package's manifest says: the lints of the workspace, and nothing that is to be published by accident.

use super::{File, Finding};
use crate::workspace::Workspace;

pub(super) fn check(workspace: &Workspace, files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let place = format!("{}/Cargo.toml", package.folder);
        let Some(text) = files.iter().find(|file| file.path == place).and_then(File::text) else {
            findings.push(Finding::new(&place, "the manifest is not part of the repository; is the folder ignored?"));
            continue;
        };
        if !takes_lints(text) {
            findings.push(Finding::new(
                &place,
                "does not take the lints of the workspace; add `[lints]` with `workspace = true`",
            ));
        }
        for (number, line) in text.lines().enumerate() {
            if own_version(line) {
                let message = "names a version of its own; put it into `[workspace.dependencies]` and say `workspace = true` here";
                findings.push(Finding::at(&place, number + 1, message));
            }
        }
    }
    findings
}

fn takes_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(|line| line.replace(' ', ""));
    lines.any(|line| line == "lints.workspace=true") || {
        let text = manifest.replace(' ', "");
        text.contains("[lints]\nworkspace=true")
    }
}

/// Whether the line declares a dependency from a registry with a version of its own.
fn own_version(line: &str) -> bool {
    let line = line.replace(' ', "");
    let Some((_, value)) = line.split_once('=') else { return false };
    value.starts_with('{') && value.contains("version=\"")
}

#[cfg(test)]
mod tests {
    use super::{own_version, takes_lints};

    #[test]
    fn both_forms_of_lints_count() {
        assert!(takes_lints("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n"));
        assert!(takes_lints("[package]\nlints.workspace = true\n"));
        assert!(!takes_lints("[package]\nname = \"x\"\n\n[lints.rust]\nunsafe_code = \"deny\"\n"));
    }

    #[test]
    fn versions_belong_to_the_workspace() {
        assert!(own_version("serde = { version = \"1\", features = [\"derive\"] }"));
        assert!(!own_version("serde = { workspace = true }"));
        assert!(!own_version("version.workspace = true"));
    }
}
