//! What lies beside a version, as titled texts for a page: what came of trying it here, its README, and what else was attached.
//!
//! Must not know how texts are shown. Invariant: all of it is plain text, whatever its author meant it to be.

use platform_marketplace::{Attachment, Details, Figures, Report, Verdict};

/// Longest README that is shown, in characters.
const README_CHARS_MAX: usize = 20_000;

/// Titles and texts.
pub(super) fn beside(details: &Details) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let mut tell = |title: &str, text: String| told.extend((!text.is_empty()).then(|| (title.to_owned(), text)));
    let version = details.versions.iter().find(|version| version.version == details.version);
    if let Some(report) = version.and_then(|version| version.report.as_ref()) {
        tell("Conformance", conformance(report));
        tell("Benchmark", benchmark(report));
    }
    tell("README", details.readme.chars().take(README_CHARS_MAX).collect());
    tell("Attached", details.attachments.iter().map(attached).collect::<Vec<_>>().join("\n"));
    told
}

fn conformance(report: &Report) -> String {
    let mut text = match report.verdict {
        Verdict::Passed => format!("Passed when it was tried here: it keeps {} promises of its slot.", report.kept),
        Verdict::Failed => format!("Failed when it was tried here: {}", report.why),
        Verdict::NotTried => format!("Not tried here: {}", report.why),
    };
    for broken in &report.broken {
        text.push_str(&format!("\n- {}: {}", broken.promise, broken.found));
    }
    text
}

fn benchmark(report: &Report) -> String {
    let line = |figures: &Figures| {
        let micros = |ns: u64| format!("{}.{:03} µs", ns / 1000, ns % 1000);
        format!(
            "{}: half of {} calls took at most {}, 99 % {}; {} KiB of memory",
            figures.component,
            figures.calls,
            micros(figures.p50_ns),
            micros(figures.p99_ns),
            figures.memory_bytes >> 10
        )
    };
    match &report.measured {
        Some(own) => {
            [Some(own), report.reference.as_ref()].into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
        }
        None => report.unmeasured.clone(),
    }
}

fn attached(attachment: &Attachment) -> String {
    let kind = if attachment.kind.is_empty() { "other" } else { attachment.kind };
    format!("{kind} ({}): {}", attachment.artifact_type, attachment.digest)
}
