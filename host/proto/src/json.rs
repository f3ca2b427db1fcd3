//! Fields whose text is JSON: in the JSON form of a message they are that JSON itself.
//!
//! `google.protobuf.Value` would do for small values only: protobuf's nesting limit ends it at 33 levels, and its numbers
//! are doubles, which change whole numbers beyond 53 bits.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

/// The option that marks such a field.
const OPTION: &str = "platform.json";

/// Whether the field's text is JSON.
#[must_use]
pub fn is_json(field: &FieldDescriptor) -> bool {
    let option = field.parent_file().parent_pool().get_extension_by_name(OPTION);
    option.is_some_and(|option| field.options().get_extension(&option).as_bool() == Some(true))
}

/// Whether a message, or one within it, has such a field.
#[must_use]
pub fn holds_json(message: &MessageDescriptor) -> bool {
    fn look(message: &MessageDescriptor, seen: &mut Vec<String>) -> bool {
        if seen.iter().any(|name| name == message.full_name()) {
            return false;
        }
        seen.push(message.full_name().to_owned());
        message.fields().any(|field| match field.kind() {
            Kind::String => is_json(&field),
            Kind::Message(inner) => look(&inner, seen),
            _ => false,
        })
    }
    look(message, &mut Vec::new())
}

/// Turns the text of such fields into the JSON that it is, in the JSON form of a message. Empty text becomes null.
pub fn embed(form: &mut Value, message: &MessageDescriptor) {
    let Value::Object(members) = form else { return };
    for field in message.fields() {
        let Some(member) = members.get_mut(field.json_name()) else { continue };
        match (field.kind(), member) {
            (Kind::String, Value::String(text)) if is_json(&field) => {
                let json = if text.is_empty() { None } else { serde_json::from_str(text).ok() };
                let json = json.unwrap_or(Value::Null);
                members.insert(field.json_name().to_owned(), json);
            }
            (Kind::Message(inner), member) if !inner.full_name().starts_with("google.") => match member {
                Value::Array(items) => items.iter_mut().for_each(|item| embed(item, &inner)),
                one => embed(one, &inner),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use serde_json::json;

    use super::*;

    fn message(name: &str) -> MessageDescriptor {
        DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET).unwrap().get_message_by_name(name).unwrap()
    }

    #[test]
    fn marked_fields_become_json_wherever_they_are() {
        let page = message("platform.config.v1.HistoryResponse");
        assert!(holds_json(&page) && !holds_json(&message("platform.kv.v1.Entry")));
        let mut form = json!({"versions": [{"id": "a", "comment": "{}", "difference": "[18446744073709551615]"}, {"difference": ""}]});
        embed(&mut form, &page);
        let expected =
            json!({"versions": [{"id": "a", "comment": "{}", "difference": [u64::MAX]}, {"difference": null}]});
        assert_eq!(form, expected);
        let mut event = json!({"changed": {"value": "{\"a\":1}"}});
        embed(&mut event, &message("platform.config.v1.WatchEvent"));
        assert_eq!(event, json!({"changed": {"value": {"a": 1}}}));
    }
}
