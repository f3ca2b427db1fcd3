//! Text within a page.

/// What stands for `text` in HTML, between tags and in quoted attributes. Control characters come as U+FFFD.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn what_others_wrote_is_no_markup() {
        let text = escape("<img src=x onerror=\"alert('x')\">\u{1b}&amp;");
        assert_eq!(text, "&lt;img src=x onerror=&quot;alert(&#39;x&#39;)&quot;&gt;\u{fffd}&amp;amp;");
    }
}
