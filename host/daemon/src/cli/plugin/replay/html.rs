//! A replay as a web page.
//!
//! Invariant: nothing that a client or a policy wrote is markup, and the page loads and runs nothing.

use platform_base::html::escape;

use super::report::{Change, Counted, Summary};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1a1a1a;background:#fff}\
table{border-collapse:collapse;width:100%}th,td{border-bottom:1px solid #c8c8c8;padding:.4rem .6rem;text-align:left;vertical-align:top;\
overflow-wrap:anywhere}td.number{text-align:right}ul{margin:0;padding-left:1.2rem}code{font-size:.9em}\
@media(max-width:40rem){thead{display:none}tr,td{display:block}td.number{text-align:left}}";

/// The page.
pub(super) fn page(summary: &Summary) -> String {
    let about = &summary.about;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Replay of {slot}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Replay of {slot}</h1>\n\
         <p>{} decisions, {} to {}, asked of <code>{}</code> (<code>{}</code>).</p>\n<p><strong>{}.</strong></p>\n",
        summary.replayed,
        escape(&summary.since),
        escape(&summary.until),
        escape(&about.file),
        escape(&about.digest),
        summary.verdict(),
        slot = escape(&about.slot),
    );
    let notes: Vec<_> = summary.notes().iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
    if !notes.is_empty() {
        page.push_str(&format!("<ul>\n{}</ul>\n", notes.concat()));
    }
    if !summary.changes.is_empty() {
        page.push_str(&changes(summary));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn changes(summary: &Summary) -> String {
    let mut text = "<h2>What changes</h2>\n<table>\n<thead><tr>".to_owned();
    for heading in ["Count", "Change", "Rule before", "Rule after", "Subjects", "Paths", "Examples"] {
        text.push_str(&format!("<th scope=\"col\">{heading}</th>"));
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for told in &summary.changes {
        let Change { rule_before, rule_after, .. } = &told.change;
        let examples = told.examples.iter();
        let examples = examples.map(|one| format!("{} {} {} by {}", one.time, one.action, one.target, one.subject));
        text.push_str(&format!(
            "<tr><td class=\"number\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            told.count,
            escape(&told.change.words()),
            escape(rule_before),
            escape(rule_after),
            list(counted(&told.subjects)),
            list(counted(&told.paths)),
            list(examples),
        ));
    }
    text.push_str("</tbody>\n</table>\n");
    text
}

fn counted(counted: &[Counted]) -> impl Iterator<Item = String> {
    counted.iter().map(|Counted { name, count }| format!("{name} ({count})"))
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.map(|item| format!("<li>{}</li>", escape(&item))).collect();
    if items.is_empty() { String::new() } else { format!("<ul>{}</ul>", items.concat()) }
}
