//! Messages as JSON Schema, after the JSON mapping of proto3.
//!
//! Owns the schemas of the document; must not know its paths. Invariant: every schema that is referred to is among those
//! returned at the end.

use std::collections::BTreeMap;

use platform_proto::json;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::Comments;

/// Collects schemas as they are referred to.
#[derive(Debug)]
pub(crate) struct Schemas<'a> {
    comments: &'a Comments,
    found: BTreeMap<String, Value>,
}

impl<'a> Schemas<'a> {
    pub(crate) fn new(comments: &'a Comments) -> Self {
        Self { comments, found: BTreeMap::from([("Problem".to_owned(), problem())]) }
    }

    /// Every schema that was referred to.
    pub(crate) fn finish(self) -> BTreeMap<String, Value> {
        self.found
    }

    /// The comment of a field.
    pub(crate) fn comment(&self, field: &FieldDescriptor) -> String {
        self.comments.of(&field.parent_file(), field.path())
    }

    /// The comment of a message.
    pub(crate) fn message_comment(&self, message: &MessageDescriptor) -> String {
        self.comments.of(&message.parent_file(), message.path())
    }

    /// The schema of a field's value.
    pub(crate) fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map()
            && let Kind::Message(entry) = field.kind()
        {
            let values = self.kind(&entry.map_entry_value_field().kind());
            return json!({"type": "object", "additionalProperties": values});
        }
        if json::is_json(field) {
            return json!({});
        }
        let one = self.kind(&field.kind());
        if field.is_list() { json!({"type": "array", "items": one}) } else { one }
    }

    /// The schema of a message: a reference, or itself where JSON has a form of its own for it.
    pub(crate) fn message(&mut self, message: &MessageDescriptor) -> Value {
        match message.full_name() {
            "google.protobuf.Timestamp" => return json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Struct" => return json!({"type": "object"}),
            "google.protobuf.Value" => return json!({}),
            _ => {}
        }
        let name = message.full_name().to_owned();
        if !self.found.contains_key(&name) {
            // Before its fields, so that a message that holds itself ends.
            self.found.insert(name.clone(), Value::Null);
            let schema = self.object(message);
            self.found.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn object(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        for field in message.fields() {
            let mut schema = self.field(&field);
            let mut comment = self.comment(&field);
            if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                let others: Vec<_> = oneof.fields().filter(|other| *other != field).collect();
                let names: Vec<_> = others.iter().map(|other| format!("`{}`", other.json_name())).collect();
                comment = format!("{comment} Excludes {}.", names.join(", "));
            }
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("description".to_owned(), json!(comment));
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        json!({"type": "object", "description": self.message_comment(message), "properties": properties})
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            // Text, because numbers of JavaScript lose what 64 bits hold.
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "pattern": "^-?[0-9]+$"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "pattern": "^[0-9]+$"}),
            Kind::Enum(kind) => self.enumeration(kind),
            Kind::Message(message) => self.message(message),
        }
    }

    fn enumeration(&mut self, kind: &EnumDescriptor) -> Value {
        let name = kind.full_name().to_owned();
        let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
        let lines = kind.values().map(|value| {
            let comment = self.comments.of(&kind.parent_file(), value.path());
            format!("`{}`: {comment}", value.name())
        });
        let comment = self.comments.of(&kind.parent_file(), kind.path());
        let description = std::iter::once(comment).chain(lines).collect::<Vec<_>>().join("\n\n");
        let schema = json!({"type": "string", "enum": names, "description": description});
        self.found.insert(name.clone(), schema);
        json!({"$ref": format!("#/components/schemas/{name}")})
    }
}

/// The schema of `application/problem+json`.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "Why the request was not answered as asked.",
        "required": ["type", "title", "status", "detail", "reason", "code"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What is wrong and the way out, for people."},
            "reason": {"type": "string", "description": "What is wrong, for programs: UPPER_SNAKE, stable."},
            "code": {"type": "string", "description": "The gRPC code."},
            "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    })
}
