//! Writes the manifest, a JSON text, while the plugin compiles: it ends up in the custom section `platform:manifest`,
//! and nothing of it in the code.

/// A member of the manifest.
#[derive(Debug, Clone, Copy)]
pub enum Member {
    /// A string; left out when it is empty.
    Text(&'static str, &'static str),
    /// A list of strings; left out when it is empty.
    List(&'static str, &'static [&'static str]),
    /// JSON as it stands; left out when it is empty.
    Json(&'static str, &'static str),
}

/// Bytes of the manifest with these members.
#[must_use]
pub const fn length(members: &[Member]) -> usize {
    write::<0>(members).1
}

/// The manifest with these members; `N` must be their [`length`].
#[must_use]
pub const fn encode<const N: usize>(members: &[Member]) -> [u8; N] {
    write::<N>(members).0
}

/// Writes what fits and counts all of it.
#[expect(clippy::indexing_slicing, reason = "slices have no other access in constants; out of bounds fails to compile")]
const fn write<const N: usize>(members: &[Member]) -> ([u8; N], usize) {
    let mut out = Out { bytes: [0; N], length: 0 };
    out.push(b'{');
    let mut first = true;
    let mut index = 0;
    while index < members.len() {
        let (name, empty) = match members[index] {
            Member::Text(name, text) | Member::Json(name, text) => (name, text.is_empty()),
            Member::List(name, list) => (name, list.is_empty()),
        };
        if !empty {
            if !first {
                out.push(b',');
            }
            first = false;
            out.text(name);
            out.push(b':');
            match members[index] {
                Member::Text(_, text) => out.text(text),
                Member::List(_, list) => out.list(list),
                Member::Json(_, json) => out.raw(json),
            }
        }
        index += 1;
    }
    out.push(b'}');
    (out.bytes, out.length)
}

struct Out<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

#[expect(clippy::indexing_slicing, reason = "slices have no other access in constants; out of bounds fails to compile")]
impl<const N: usize> Out<N> {
    const fn push(&mut self, byte: u8) {
        if self.length < N {
            self.bytes[self.length] = byte;
        }
        self.length += 1;
    }

    const fn raw(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            self.push(bytes[index]);
            index += 1;
        }
    }

    const fn text(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let bytes = text.as_bytes();
        self.push(b'"');
        let mut index = 0;
        while index < bytes.len() {
            let byte = bytes[index];
            match byte {
                b'"' | b'\\' => {
                    self.push(b'\\');
                    self.push(byte);
                }
                0..=0x1f => {
                    self.raw("\\u00");
                    self.push(HEX[(byte >> 4) as usize]);
                    self.push(HEX[(byte & 15) as usize]);
                }
                _ => self.push(byte),
            }
            index += 1;
        }
        self.push(b'"');
    }

    const fn list(&mut self, list: &[&str]) {
        self.push(b'[');
        let mut index = 0;
        while index < list.len() {
            if index > 0 {
                self.push(b',');
            }
            self.text(list[index]);
            index += 1;
        }
        self.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: &[Member] = &[
        Member::Text("license", ""),
        Member::Text("name", "a \"quoted\"\\ name\n\u{1}é"),
        Member::List("grants", &["storage", "network:h:1"]),
        Member::List("none", &[]),
        Member::Json("settings_schema", r#"{"type": "object"}"#),
    ];
    const ENCODED: [u8; length(MEMBERS)] = encode(MEMBERS);

    #[test]
    fn is_json() {
        let value: serde_json::Value = serde_json::from_slice(&ENCODED).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "name": "a \"quoted\"\\ name\n\u{1}é",
                "grants": ["storage", "network:h:1"],
                "settings_schema": {"type": "object"},
            })
        );
    }

    #[test]
    fn without_members_it_is_an_empty_object() {
        assert_eq!(encode::<{ length(&[]) }>(&[]), *b"{}");
    }
}
