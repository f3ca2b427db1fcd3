//! What may be in the repository: text, of a sensible size, without words that say nothing or places that exist on one
//! machine alone.

use super::{File, Finding};

/// Bytes from which a file is likely to be data that belongs elsewhere.
const SIZE_MAX: usize = 1 << 20;

/// Parts of names that tell a reader nothing, and what to do.
const WORDS: [(&str, &str); 8] = [
    ("Manager", "name what it is: a slot, a pool, a store"),
    ("Helper", "name what it does"),
    ("utils", "name the topic"),
    ("helpers", "name the topic"),
    ("TODO", "comments say why; plans are issues"),
    ("FIXME", "mend it, or file an issue"),
    ("XXX", "comments say why"),
    ("HACK", "say why it must be so"),
];

/// Where people keep work trees: a path below one of these exists on one machine alone.
const MACHINES: [&str; 4] = ["/root/", "/home/", "/Users/", "/work/"];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    // This file has to name what it forbids.
    if file.path == "xtask/src/tidy/files.rs" {
        return findings;
    }
    if file.bytes.len() > SIZE_MAX && file.path != "Cargo.lock" {
        findings.push(Finding::new(
            &file.path,
            format!("has {} bytes, more than {SIZE_MAX}; data is made by tests, not kept", file.bytes.len()),
        ));
    }
    let Some(text) = file.text().filter(|text| !text.contains('\0')) else {
        findings.push(Finding::new(&file.path, "is binary; what is built is not committed"));
        return findings;
    };
    let code = ["rs", "wit", "proto", "js", "mjs"].iter().any(|extension| file.is(extension));
    for (number, line) in text.lines().enumerate() {
        let mut say = |message: String| findings.push(Finding::at(&file.path, number + 1, message));
        if code && let Some((word, way_out)) = WORDS.iter().find(|(word, _)| has_word(line, word)) {
            say(format!("says `{word}`: {way_out}"));
        }
        if file.path != "LICENSE"
            && let Some(place) = MACHINES.iter().find(|place| names_place(line, place))
        {
            say(format!("names a path below `{place}`, which exists on one machine alone"));
        }
        if file.path.ends_with("package-lock.json") && line.contains("\"resolved\"") {
            say("names the registry of one machine; npm's setting `omit-lockfile-registry-resolved` leaves it out"
                .to_owned());
        }
        if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
            say("is left from a merge".to_owned());
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(&file.path, "does not end with a new line"));
    }
    findings
}

/// Whether the word stands in the line as a word, or as one of the words that a name is made of. Strings are left out:
/// they name what others have named.
fn has_word(line: &str, word: &str) -> bool {
    let capital = word.starts_with(|first: char| first.is_uppercase());
    line.match_indices(word).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line.get(start + word.len()..).and_then(|text| text.chars().next());
        let begins = before.is_none_or(|last| !last.is_alphanumeric() || (capital && last.is_lowercase()));
        let ends = after.is_none_or(|next| {
            !next.is_alphanumeric() || (capital && next.is_uppercase() && word.chars().any(char::is_lowercase))
        });
        let quoted = line.get(..start).is_some_and(|text| text.matches('"').count() % 2 == 1);
        begins && ends && !quoted
    })
}

/// Whether the line names an absolute path below the place.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        before.is_none_or(|last| !(last.is_alphanumeric() || matches!(last, '.' | '-' | '_' | '}' | ')' | '/' | '*')))
    })
}

#[cfg(test)]
mod tests {
    use super::{has_word, names_place};

    #[test]
    fn words_are_found_inside_names() {
        assert!(has_word("struct PoolManager;", "Manager"));
        assert!(has_word("mod utils;", "utils"));
        assert!(has_word("struct HelperPool;", "Helper"));
        assert!(!has_word("// the package manager", "Manager"));
        assert!(!has_word("struct Helpers2;", "Helper"));
        assert!(!has_word("let kind = \"ConnectionManager\";", "Manager"));
    }

    #[test]
    fn only_absolute_paths_are_places() {
        assert!(names_place("cd /root/x", "/root/"));
        assert!(!names_place("plugins/root/x", "/root/"));
    }
}
