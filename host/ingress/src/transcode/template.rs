//! Path templates of `google.api.http`: `/v1/kv/{key=**}:increment`.
//!
//! Owns parsing and matching; must not know what the variables mean. Invariant: matching looks at the path as it came, and
//! only what a variable captured is percent-decoded, so an encoded `/` or `:` never changes which template matches.

use percent_encoding::percent_decode_str;

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
    variables: Vec<Variable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `*`: one segment, not empty.
    One,
    /// `**`: all that is left, slashes included.
    Rest,
}

/// A field path, and the segments it captures.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    field_path: String,
    from: usize,
    to: usize,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{template}` is no path template: {problem}")]
pub(crate) struct Malformed {
    template: String,
    problem: &'static str,
}

impl Template {
    /// Parses a template. Variables may hold several segments, `**` may stand at the end only.
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let fail = |problem| Malformed { template: text.to_owned(), problem };
        let path = text.strip_prefix('/').ok_or_else(|| fail("it must start with `/`"))?;
        let (path, verb) = split_verb(path);
        let mut template = Self { segments: Vec::new(), verb, variables: Vec::new() };
        let mut rest = path;
        while !rest.is_empty() {
            rest = match rest.strip_prefix('{') {
                Some(inside) => {
                    let (variable, after) = inside.split_once('}').ok_or_else(|| fail("a `{` is not closed"))?;
                    let (field_path, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
                    let from = template.segments.len();
                    template.segments.extend(pattern.split('/').map(Segment::parse));
                    let to = template.segments.len();
                    template.variables.push(Variable { field_path: field_path.to_owned(), from, to });
                    after
                }
                None => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    let (segment, after) = rest.split_at(end);
                    template.segments.push(Segment::parse(segment));
                    after
                }
            };
            rest = match rest.strip_prefix('/') {
                Some("") => return Err(fail("it ends with `/`")),
                Some(next) => next,
                None if rest.is_empty() => rest,
                None => return Err(fail("a variable must be a whole segment")),
            };
        }
        let before_last = template.segments.len().saturating_sub(1);
        if template.segments.iter().take(before_last).any(|segment| *segment == Segment::Rest) {
            return Err(fail("`**` may stand at the end only"));
        }
        if template.segments.iter().any(|segment| matches!(segment, Segment::Literal(text) if text.is_empty())) {
            return Err(fail("a segment is empty"));
        }
        Ok(template)
    }

    /// Field paths of the variables, in order.
    pub(crate) fn field_paths(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|variable| variable.field_path.as_str())
    }

    /// What the variables capture, decoded, in order; none when the path does not match.
    ///
    /// # Errors
    /// The path matches, and a captured part is no UTF-8 once decoded.
    pub(crate) fn captures(&self, path: &str) -> Option<Result<Vec<String>, std::str::Utf8Error>> {
        let path = path.strip_prefix('/')?;
        let path = match &self.verb {
            Some(verb) => path.strip_suffix(verb.as_str())?.strip_suffix(':')?,
            None => path,
        };
        let mut parts = Vec::with_capacity(self.segments.len());
        let mut rest = Some(path);
        for segment in &self.segments {
            let remaining = rest?;
            let (part, after) = match segment {
                Segment::Rest => (remaining, None),
                _ => remaining.split_once('/').map_or((remaining, None), |(part, after)| (part, Some(after))),
            };
            let fits = match segment {
                Segment::Literal(literal) => literal == part,
                Segment::One => !part.is_empty(),
                Segment::Rest => true,
            };
            if !fits {
                return None;
            }
            parts.push(part);
            rest = after;
        }
        rest.is_none().then(|| self.variables.iter().map(|variable| variable.capture(&parts)).collect())
    }

    /// Orders templates so that the most telling one is tried first: with a verb, then with more literals, then without
    /// `**`.
    pub(crate) fn generality(&self) -> (bool, usize, bool) {
        let literals = self.segments.iter().filter(|segment| matches!(segment, Segment::Literal(_))).count();
        (self.verb.is_none(), usize::MAX - literals, self.segments.contains(&Segment::Rest))
    }

    /// The path as OpenAPI writes it: variables without patterns.
    pub(crate) fn openapi(&self) -> String {
        let mut text = String::new();
        let mut index = 0;
        while let Some(segment) = self.segments.get(index) {
            text.push('/');
            if let Some(variable) = self.variables.iter().find(|variable| variable.from == index) {
                text.push_str(&format!("{{{}}}", variable.field_path));
                index = variable.to;
                continue;
            }
            text.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::One => "*",
                Segment::Rest => "**",
            });
            index += 1;
        }
        if let Some(verb) = &self.verb {
            text.push(':');
            text.push_str(verb);
        }
        text
    }
}

impl Segment {
    fn parse(text: &str) -> Self {
        match text {
            "*" => Self::One,
            "**" => Self::Rest,
            literal => Self::Literal(literal.to_owned()),
        }
    }
}

impl Variable {
    fn capture(&self, parts: &[&str]) -> Result<String, std::str::Utf8Error> {
        let captured = parts.get(self.from..self.to).unwrap_or_default().join("/");
        Ok(percent_decode_str(&captured).decode_utf8()?.into_owned())
    }
}

/// Splits `:verb` off the last segment; a colon inside braces is none.
fn split_verb(path: &str) -> (&str, Option<String>) {
    match path.rsplit_once(':') {
        Some((before, verb)) if !verb.contains(['/', '}']) && !verb.is_empty() => (before, Some(verb.to_owned())),
        _ => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn captured(template: &str, path: &str) -> Option<Vec<String>> {
        Template::parse(template).unwrap().captures(path).map(|captures| captures.unwrap())
    }

    #[test]
    fn literals_match_exactly() {
        assert_eq!(captured("/v1/kv", "/v1/kv"), Some(vec![]));
        for other in ["/v1/kv/", "/v1/kvs", "/v1", "/v1/kv:watch", "v1/kv", "", "/"] {
            assert_eq!(captured("/v1/kv", other), None, "{other}");
        }
    }

    #[test]
    fn variables_capture_and_decode() {
        let template = "/v1/services/{registration.service}/nodes/{id}:heartbeat";
        assert_eq!(captured(template, "/v1/services/a%20b/nodes/n1:heartbeat"), Some(vec!["a b".into(), "n1".into()]));
        assert_eq!(captured(template, "/v1/services/a/nodes/n1"), None);
        assert_eq!(captured(template, "/v1/services//nodes/n1:heartbeat"), None);
        assert_eq!(
            captured("/v1/{name=shelves/*/books/*}", "/v1/shelves/1/books/2"),
            Some(vec!["shelves/1/books/2".into()])
        );
    }

    #[test]
    fn rest_takes_slashes_and_colons() {
        assert_eq!(captured("/v1/kv/{key=**}", "/v1/kv/a/b:c"), Some(vec!["a/b:c".into()]));
        assert_eq!(captured("/v1/kv/{key=**}", "/v1/kv//a//"), Some(vec!["/a//".into()]));
        assert_eq!(captured("/v1/kv/{key=**}", "/v1/kv/a%2Fb%3Aincrement"), Some(vec!["a/b:increment".into()]));
        assert_eq!(captured("/v1/kv/{key=**}:increment", "/v1/kv/a/b:increment"), Some(vec!["a/b".into()]));
        assert_eq!(captured("/v1/kv/{key=**}:increment", "/v1/kv/a%3Aincrement"), None);
    }

    #[test]
    fn broken_utf8_is_told() {
        assert!(Template::parse("/{a}").unwrap().captures("/%ff").unwrap().is_err());
    }

    #[test]
    fn malformed_templates_are_refused() {
        for text in ["", "v1", "/v1/{a", "/v1/{a}b", "/v1/", "/{a=**}/b", "/a//b"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn openapi_has_no_patterns() {
        for (template, openapi) in [
            ("/v1/kv/{key=**}:increment", "/v1/kv/{key}:increment"),
            ("/v1/a/{b.c}/d", "/v1/a/{b.c}/d"),
            ("/v1/{name=shelves/*}", "/v1/{name}"),
        ] {
            assert_eq!(Template::parse(template).unwrap().openapi(), openapi);
        }
    }

    proptest! {
        #[test]
        fn any_key_comes_back(key in "\\PC{0,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&key, percent_encoding::NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(captured("/v1/kv/{key=**}", &format!("/v1/kv/{encoded}")), Some(vec![key]));
        }

        #[test]
        fn no_path_panics(path in "\\PC{0,60}") {
            for template in ["/v1/kv/{key=**}", "/v1/{a}/b:c", "/{a}"] {
                let _ = Template::parse(template).unwrap().captures(&path);
            }
            let _ = Template::parse(&path);
        }
    }
}
