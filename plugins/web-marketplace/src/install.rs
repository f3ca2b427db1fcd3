//! Installing: the review of what a component asks for, and what came of it.

use maud::{Markup, html};
use platform_sdk::{
    client::marketplace::{Grant, Installed, Plan},
    web::Response,
};

use crate::{
    ROOT,
    fields::encoded,
    layout::{Look, page, warnings},
};

/// The form that has to be ticked.
pub(crate) fn review(look: &Look<'_>, name: &str, plan: &Plan) -> Response {
    let held: Vec<String> = plan.grants.iter().filter(|grant| grant.held).map(|grant| grant.grant.clone()).collect();
    shown(look, 200, name, plan, &held, "")
}

/// The same again, because it was not done.
pub(crate) fn refused(look: &Look<'_>, name: &str, plan: &Plan, accepted: &[String], why: &str) -> Response {
    shown(look, 409, name, plan, accepted, why)
}

fn shown(look: &Look<'_>, status: u16, name: &str, plan: &Plan, ticked: &[String], why: &str) -> Response {
    let title = format!("Install {} {}", plan.plugin, plan.version);
    let (network, other): (Vec<&Grant>, Vec<&Grant>) =
        plan.grants.iter().partition(|grant| grant.grant.starts_with("network:"));
    let content = html! {
        h1 { (title) }
        @if !why.is_empty() { p role="alert" id="why" { (why) } }
        p { "For the slot " code { (plan.slot) } ". Installing runs nothing of it: it serves when it is bound." }
        @if plan.installed { p { "This version is installed already; installing it again gives it what is ticked." } }
        @if let Some(from) = &plan.upgrade_from { (difference(plan, from)) }
        form method="post" action={ (ROOT) "/install" } {
            input type="hidden" name="name" value=(name);
            input type="hidden" name="version" value=(plan.version);
            input type="hidden" name="digest" value=(plan.digest);
            (grants("What it asks for", "It asks for nothing besides its settings and the question.", &other, ticked, 0))
            (grants("Network", "It reaches no network.", &network, ticked, other.len()))
            h2 { "Limits" }
            p { "What a binding allows it unless you say otherwise there:" }
            dl { @for (what, value) in &plan.limits { dt { (what) } dd { (value) } } }
            (warnings(&plan.warnings))
            p { "Digest " code { (plan.digest) } }
            @if !plan.grants.is_empty() { p { "It is installed when everything that it asks for is ticked." } }
            button { "Install" }
        }
        p { a href={ (ROOT) "/c/" (encoded(name)) } { "Back to " (name) } }
    };
    page(look, status, &title, &content)
}

fn grants(title: &str, none: &str, asked: &[&Grant], ticked: &[String], from: usize) -> Markup {
    html! {
        fieldset {
            legend { (title) }
            @if asked.is_empty() { p { (none) } }
            @for (number, grant) in asked.iter().enumerate() {
                @let id = format!("grant-{}", from + number);
                p .tick {
                    input id=(id) type="checkbox" name="grant" value=(grant.grant) checked[ticked.contains(&grant.grant)];
                    label for=(id) {
                        "It may " (grant.words) " " code { (grant.grant) }
                        @if grant.held { " (it has this already)" } @else { " " strong { "new" } }
                    }
                }
            }
        }
    }
}

fn difference(plan: &Plan, from: &str) -> Markup {
    let new = plan.grants.iter().filter(|grant| !grant.held).count();
    html! {
        h2 { "Beside version " (from) ", which is installed" }
        ul {
            @match new {
                0 => li { "It asks for nothing that the other version has not." },
                1 => li { "It asks for one thing more, which is marked as new below." },
                _ => li { "It asks for " (new) " things more, which are marked as new below." },
            }
            @for grant in &plan.dropped { li { "It no longer asks to " (grant.words) " " code { (grant.grant) } } }
            li { "Limits are those of the binding and stay as they are." }
            @for slot in &plan.bound { li { code { (slot) } " goes on with what it has until you bind this version." } }
        }
    }
}

/// What came of it.
pub(crate) fn done(look: &Look<'_>, name: &str, installed: &Installed) -> Response {
    let title = if installed.existed { "It was installed already" } else { "Installed" };
    let content = html! {
        h1 { (title) }
        p role="status" { code { (installed.plugin) } " is installed. It does nothing until it is bound:" }
        pre { code { "platform plugin bind " (installed.slot) " " (installed.plugin) } }
        h2 { "What it may do" }
        @if installed.grants.is_empty() {
            p { "Nothing besides its work." }
        } @else {
            ul { @for grant in &installed.grants { li { code { (grant) } } } }
        }
        (warnings(&installed.warnings))
        p { a href={ (ROOT) "/c/" (encoded(name)) } { "Back to " (name) } }
    };
    page(look, 200, title, &content)
}

#[cfg(test)]
mod tests {
    use platform_sdk::web::Body;

    use super::*;

    fn grant(grant: &str, held: bool) -> Grant {
        Grant { grant: grant.to_owned(), words: format!("do <{grant}>"), held }
    }

    fn plan() -> Plan {
        Plan {
            plugin: "a".to_owned(),
            version: "2.0.0".to_owned(),
            slot: "kv.store".to_owned(),
            digest: "sha256:00".to_owned(),
            grants: vec![grant("kv", true), grant("network:h:1", false)],
            limits: vec![("Memory".to_owned(), "1 MiB".to_owned())],
            upgrade_from: Some("1.0.0".to_owned()),
            dropped: vec![grant("storage", true)],
            installed: false,
            bound: vec!["kv.store".to_owned()],
            warnings: Vec::new(),
        }
    }

    fn html(response: Response) -> (u16, String) {
        let Body::Whole(html) = response.body else { unreachable!() };
        (response.status, String::from_utf8(html).unwrap())
    }

    #[test]
    fn what_it_has_is_ticked_and_what_is_new_is_not() {
        let (status, html) = html(review(&Look { who: None, here: "/" }, "team/a", &plan()));
        assert_eq!(status, 200);
        assert!(html.contains("value=\"kv\" checked") && html.contains("value=\"network:h:1\"><label"), "{html}");
        assert!(html.contains("no longer asks to do &lt;storage&gt;") && html.contains("one thing more"), "{html}");
    }

    #[test]
    fn a_refusal_keeps_what_was_ticked() {
        let accepted = ["network:h:1".to_owned()];
        let (status, html) =
            html(refused(&Look { who: None, here: "/" }, "team/a", &plan(), &accepted, "missing: `kv`"));
        assert_eq!(status, 409);
        assert!(html.contains("value=\"kv\"><label") && html.contains("value=\"network:h:1\" checked"), "{html}");
        assert!(html.contains("role=\"alert\" id=\"why\">missing: `kv`"), "{html}");
    }
}
