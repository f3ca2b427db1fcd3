//! `/openapi.json`: the HTTP form of every method as an OpenAPI 3.1 document.
//!
//! Owns the document; must not know any method by name. Invariant: paths come from the very table that requests are
//! matched against and texts from the comments of the definitions, so the document can't differ from the server.

mod comments;
mod schema;

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind};
use serde_json::{Map, Value, json};

use crate::{
    admission::Demand,
    transcode::{Binding, Operation, RequestBody, TIMESTAMP, Table},
};
use comments::Comments;
use schema::Schemas;

/// The document as JSON text.
pub(crate) fn document(pool: &DescriptorPool, table: &Table, version: &str) -> Vec<u8> {
    let comments = Comments::new(pool);
    let mut schemas = Schemas::new(&comments);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut tags: BTreeMap<String, Value> = BTreeMap::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for operation in table.operations() {
        let service = operation.rpc.descriptor.parent_service();
        let description = comments.of(&service.parent_file(), service.path());
        let tag = json!({"name": service.name(), "description": description});
        tags.insert(service.name().to_owned(), tag);
        let name = operation_id(operation, &mut names);
        let item = describe(operation, &name, &comments, &mut schemas);
        let path = paths.entry(operation.template.openapi()).or_default();
        path.insert(operation.http_method.as_str().to_lowercase(), item);
    }
    let document = json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "platform",
            "version": version,
            "description": "Every method is a gRPC method as well; both forms come from one definition.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": tags.into_values().collect::<Vec<_>>(),
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "parameters": {"namespace": {
                "name": platform_proto::NAMESPACE_HEADER,
                "in": "header",
                "required": false,
                "description": "Namespace of the call; `default` when it is absent.",
                "schema": {"type": "string"},
            }, "fencing": {
                "name": platform_proto::FENCING_HEADER,
                "in": "header",
                "required": false,
                "description": "`NAME:TOKEN` of a lock that the caller holds: what it writes is refused once a later holder has written.",
                "schema": {"type": "string"},
            }},
            "responses": {"problem": {
                "description": "Why the request was not answered as asked (RFC 9457).",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
        },
    });
    serde_json::to_vec(&document).unwrap_or_default()
}

/// A name for the operation that no other has: a method with several paths numbers them.
fn operation_id(operation: &Operation, names: &mut BTreeMap<String, usize>) -> String {
    let method = &operation.rpc.descriptor;
    let name = format!("{}_{}", method.parent_service().name(), method.name());
    let count = names.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
    if *count == 1 { name } else { format!("{name}_{count}") }
}

fn describe(operation: &Operation, name: &str, comments: &Comments, schemas: &mut Schemas<'_>) -> Value {
    let method = &operation.rpc.descriptor;
    let description = comments.of(&method.parent_file(), method.path());
    let summary = description.split(". ").next().unwrap_or_default().trim_end_matches('.');
    let mut item = json!({
        "operationId": name,
        "tags": [method.parent_service().name()],
        "summary": summary.lines().collect::<Vec<_>>().join(" "),
        "description": description,
        "parameters": parameters(operation, schemas),
        "responses": {"200": answer(operation, schemas), "default": {"$ref": "#/components/responses/problem"}},
    });
    if let (Some(body), Some(item)) = (request_body(operation, schemas), item.as_object_mut()) {
        item.insert("requestBody".to_owned(), body);
    }
    item
}

fn parameters(operation: &Operation, schemas: &mut Schemas<'_>) -> Vec<Value> {
    let mut parameters = Vec::new();
    if Demand::of(&operation.rpc.path) == Some(Demand::Data) {
        parameters.push(json!({"$ref": "#/components/parameters/namespace"}));
        parameters.push(json!({"$ref": "#/components/parameters/fencing"}));
    }
    for (name, path) in operation.template.field_paths().zip(&operation.variables) {
        let Some(field) = path.last() else { continue };
        parameters.push(json!({
            "name": name, "in": "path", "required": true,
            "description": schemas.comment(field), "schema": schemas.field(field),
        }));
    }
    // With several kinds of body, the query serves those that are not the whole message.
    let Some(binding) = operation.bindings.iter().find(|binding| !matches!(binding.request, RequestBody::All)) else {
        return parameters;
    };
    for field in operation.rpc.input.fields() {
        let in_path = operation.variables.iter().any(|path| path.first() == Some(&field));
        let in_body = matches!(&binding.request, RequestBody::Field(body) if *body == field);
        if !in_path && !in_body && (field.is_map() || has_query_form(&field.kind())) {
            parameters.push(query_parameter(&field, schemas));
        }
    }
    parameters
}

fn has_query_form(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => message.full_name() == TIMESTAMP,
        kind => *kind != Kind::Bytes,
    }
}

fn query_parameter(field: &FieldDescriptor, schemas: &mut Schemas<'_>) -> Value {
    let mut parameter = json!({
        "name": field.json_name(), "in": "query", "required": false,
        "description": schemas.comment(field), "schema": schemas.field(field),
    });
    if field.is_map()
        && let Some(parameter) = parameter.as_object_mut()
    {
        parameter.insert("style".to_owned(), json!("deepObject"));
        parameter.insert("explode".to_owned(), json!(true));
    }
    parameter
}

fn request_body(operation: &Operation, schemas: &mut Schemas<'_>) -> Option<Value> {
    let mut content = Map::new();
    for binding in &operation.bindings {
        match &binding.request {
            RequestBody::None => {}
            RequestBody::All => {
                content.insert("application/json".to_owned(), json!({"schema": schemas.message(&operation.rpc.input)}));
            }
            RequestBody::Field(_) if binding.request.is_raw() => {
                content.insert("application/octet-stream".to_owned(), json!({}));
            }
            RequestBody::Field(field) => {
                content.insert("application/json".to_owned(), json!({"schema": schemas.field(field)}));
            }
        }
    }
    (!content.is_empty()).then(|| json!({"required": true, "content": content}))
}

fn answer(operation: &Operation, schemas: &mut Schemas<'_>) -> Value {
    let output = &operation.rpc.output;
    let description = schemas.message_comment(output);
    let description = if description.is_empty() { "The answer.".to_owned() } else { description };
    let mut content = Map::new();
    if operation.rpc.descriptor.is_server_streaming() {
        let schema = json!({"schema": schemas.message(output)});
        content.insert("application/x-ndjson".to_owned(), schema);
        content.insert("text/event-stream".to_owned(), json!({"schema": {"type": "string"}}));
        return json!({"description": format!("{description} One on each line, or one in each event."), "content": content});
    }
    for Binding { response, .. } in &operation.bindings {
        match response {
            None => content.insert("application/json".to_owned(), json!({"schema": schemas.message(output)})),
            Some(field) if field.kind() == Kind::Bytes => {
                content.insert("application/octet-stream".to_owned(), json!({}))
            }
            Some(field) => content.insert("application/json".to_owned(), json!({"schema": schemas.field(field)})),
        };
    }
    json!({"description": description, "content": content})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parsed() -> Value {
        let pool = DescriptorPool::decode(platform_proto::FILE_DESCRIPTOR_SET).unwrap();
        let table = Table::new(&pool).unwrap();
        serde_json::from_slice(&document(&pool, &table, "0.1.0")).unwrap()
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match (name.as_str(), member.as_str()) {
                        ("$ref", Some(target)) => drop(found.insert(target.to_owned())),
                        _ => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = parsed();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.contains("#/components/schemas/platform.kv.v1.Entry"), "{found:?}");
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_path_variable_is_a_parameter_and_every_name_is_unique() {
        let document = parsed();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
                let parameters = operation["parameters"].as_array().unwrap();
                let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
                let declared: BTreeSet<_> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
                let variables = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
                assert_eq!(declared, variables, "{method} {path}");
                assert!(!operation["description"].as_str().unwrap().is_empty(), "{method} {path}");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            }
        }
        assert!(names.contains("Kv_Put") && names.contains("Router_Select_2"), "{names:?}");
    }

    #[test]
    fn bodies_and_answers_name_their_media_types() {
        let document = parsed();
        let put = &document["paths"]["/v1/kv/{key}"]["put"];
        let types: Vec<_> = put["requestBody"]["content"].as_object().unwrap().keys().collect();
        assert_eq!(types, ["application/json", "application/octet-stream"]);
        let watch = &document["paths"]["/v1/kv:watch"]["get"];
        let types: Vec<_> = watch["responses"]["200"]["content"].as_object().unwrap().keys().collect();
        assert_eq!(types, ["application/x-ndjson", "text/event-stream"]);
        let labels = document["paths"]["/v1/router/{service}:select"]["get"]["parameters"].as_array().unwrap();
        let labels = labels.iter().find(|parameter| parameter["name"] == "labels").unwrap();
        assert_eq!(labels["style"], "deepObject");
    }
}
