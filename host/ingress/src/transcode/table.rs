//! The HTTP mappings of every method, compiled from the descriptor set.
//!
//! Owns which template leads to which method; must not know how a message is built or answered. Invariant: every field
//! that a mapping names exists, checked when the table is made, so that a request never meets a broken mapping.

use std::{collections::BTreeSet, sync::Arc};

use http::Method;
use platform_proto::json;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value,
};

use super::template::{Malformed, Template};

/// Why the definitions can't be served over HTTP: a fault of the build, not of a caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("the descriptor set lacks `google.api.http`")]
    NoHttpOption,
    #[error("`{method}`: {source}")]
    Template { method: String, source: Malformed },
    #[error("`{method}` maps to HTTP method `{name}`, which is none")]
    HttpMethod { method: String, name: String },
    #[error("`{method}` names the field `{field}`, which `{message}` does not have")]
    Field { method: String, field: String, message: String },
}

/// Every mapping.
#[derive(Debug)]
pub(crate) struct Table {
    operations: Vec<Operation>,
}

/// One HTTP method and path. It leads to one gRPC method, by one binding for each kind of body.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) http_method: Method,
    pub(crate) template: Template,
    pub(crate) rpc: Arc<Rpc>,
    /// Fields that the template's variables set, in order.
    pub(crate) variables: Vec<Vec<FieldDescriptor>>,
    pub(crate) bindings: Vec<Binding>,
}

/// A gRPC method.
#[derive(Debug)]
pub(crate) struct Rpc {
    pub(crate) descriptor: MethodDescriptor,
    /// `/package.Service/Method`.
    pub(crate) path: String,
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
    /// Whether the answer has fields whose text is JSON.
    pub(crate) answers_json: bool,
}

/// What the bodies of an operation hold.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) request: RequestBody,
    /// The field that the answer's body holds; none for the whole message.
    pub(crate) response: Option<FieldDescriptor>,
}

/// What the body of a request holds.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// There is no body: fields come from path and query.
    None,
    /// Every field that the path does not set.
    All,
    /// One field; the others come from path and query.
    Field(FieldDescriptor),
}

impl RequestBody {
    /// Whether the body is the value of a `bytes` field as it stands.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self, Self::Field(field) if is_bytes(field))
    }
}

impl Binding {
    /// Whether the answer is the value of a `bytes` field as it stands.
    pub(crate) fn answers_raw(&self) -> bool {
        self.response.as_ref().is_some_and(is_bytes)
    }
}

/// What a path and a method led to.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// An operation, and what the variables captured.
    Operation(&'a Operation, Result<Vec<String>, std::str::Utf8Error>),
    /// The path exists under these methods.
    OtherMethods(String),
    Nothing,
}

impl Table {
    /// Compiles the mappings of every method in `pool` that has one.
    pub(crate) fn new(pool: &DescriptorPool) -> Result<Self, TableError> {
        let http = pool.get_extension_by_name("google.api.http").ok_or(TableError::NoHttpOption)?;
        let mut table = Self { operations: Vec::new() };
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            table.add_method(&method, &http)?;
        }
        table.operations.sort_by_key(|operation| operation.template.generality());
        Ok(table)
    }

    /// The operation for an HTTP method and a raw path. HEAD is answered as GET.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let mut others = BTreeSet::new();
        for operation in &self.operations {
            let Some(captures) = operation.template.captures(path) else { continue };
            if operation.http_method == method {
                return Found::Operation(operation, captures);
            }
            others.insert(operation.http_method.as_str());
        }
        if others.is_empty() {
            return Found::Nothing;
        }
        Found::OtherMethods(others.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// Every operation.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    fn add_method(&mut self, method: &MethodDescriptor, http: &ExtensionDescriptor) -> Result<(), TableError> {
        let options = method.options();
        if !options.has_extension(http) {
            return Ok(());
        }
        let rpc = Arc::new(Rpc {
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            input: method.input(),
            output: method.output(),
            answers_json: json::holds_json(&method.output()),
            descriptor: method.clone(),
        });
        let rule = options.get_extension(http);
        let Some(rule) = rule.as_message() else { return Ok(()) };
        self.add_rule(&rpc, rule)?;
        let more = rule.get_field_by_name("additional_bindings");
        for rule in more.iter().flat_map(|more| more.as_list().unwrap_or_default()).filter_map(Value::as_message) {
            self.add_rule(&rpc, rule)?;
        }
        Ok(())
    }

    fn add_rule(&mut self, rpc: &Arc<Rpc>, rule: &DynamicMessage) -> Result<(), TableError> {
        let method = || rpc.descriptor.full_name().to_owned();
        let (name, path) = pattern(rule);
        let http_method = name
            .parse::<Method>()
            .map_err(|_invalid| TableError::HttpMethod { method: method(), name: name.clone() })?;
        let template = Template::parse(&path).map_err(|source| TableError::Template { method: method(), source })?;
        let variables = template.field_paths().map(|path| rpc.field_path(path)).collect::<Result<Vec<_>, _>>()?;
        let request = match text(rule, "body").as_str() {
            "" => RequestBody::None,
            "*" => RequestBody::All,
            name => RequestBody::Field(field(&rpc.input, name).ok_or_else(|| rpc.no_field(name, &rpc.input))?),
        };
        let response = match text(rule, "response_body").as_str() {
            "" => None,
            name => Some(field(&rpc.output, name).ok_or_else(|| rpc.no_field(name, &rpc.output))?),
        };
        let binding = Binding { request, response };
        let same = |known: &&mut Operation| known.http_method == http_method && known.template == template;
        match self.operations.iter_mut().find(same) {
            Some(operation) => operation.bindings.push(binding),
            None => {
                let bindings = vec![binding];
                self.operations.push(Operation { http_method, template, rpc: Arc::clone(rpc), variables, bindings });
            }
        }
        Ok(())
    }
}

impl Rpc {
    fn field_path(&self, path: &str) -> Result<Vec<FieldDescriptor>, TableError> {
        field_path(&self.input, path).map_err(|name| self.no_field(&name, &self.input))
    }

    fn no_field(&self, name: &str, message: &MessageDescriptor) -> TableError {
        TableError::Field {
            method: self.descriptor.full_name().to_owned(),
            field: name.to_owned(),
            message: message.full_name().to_owned(),
        }
    }
}

/// The fields that a dotted path of names leads through; the path itself when there is no such field.
pub(crate) fn field_path(message: &MessageDescriptor, path: &str) -> Result<Vec<FieldDescriptor>, String> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    for name in path.split('.') {
        let inside = match fields.last().map(|field| (field.kind(), field.is_list())) {
            None => message.clone(),
            Some((Kind::Message(inside), false)) => inside,
            Some(_) => return Err(path.to_owned()),
        };
        fields.push(field(&inside, name).ok_or_else(|| path.to_owned())?);
    }
    Ok(fields)
}

/// A field by its name in the definition or in JSON.
fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name))
}

fn is_bytes(field: &FieldDescriptor) -> bool {
    field.kind() == Kind::Bytes && !field.is_list()
}

fn pattern(rule: &DynamicMessage) -> (String, String) {
    for name in ["get", "put", "post", "delete", "patch"] {
        if rule.has_field_by_name(name) {
            return (name.to_uppercase(), text(rule, name));
        }
    }
    let custom = rule.get_field_by_name("custom");
    let part = |name| custom.as_ref().and_then(|custom| Some(text(custom.as_message()?, name))).unwrap_or_default();
    (part("kind"), part("path"))
}

fn text(message: &DynamicMessage, name: &str) -> String {
    message.get_field_by_name(name).and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(&DescriptorPool::decode(platform_proto::FILE_DESCRIPTOR_SET).unwrap()).unwrap()
    }

    fn rpc(table: &Table, method: &Method, path: &str) -> String {
        match table.find(method, path) {
            Found::Operation(operation, captures) => format!("{} {:?}", operation.rpc.path, captures.unwrap()),
            Found::OtherMethods(methods) => methods,
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn paths_lead_to_methods() {
        let table = table();
        for (method, path, expected) in [
            (Method::GET, "/v1/kv/a/b", "/platform.kv.v1.Kv/Get [\"a/b\"]"),
            (Method::HEAD, "/v1/kv/a", "/platform.kv.v1.Kv/Get [\"a\"]"),
            (Method::GET, "/v1/kv", "/platform.kv.v1.Kv/List []"),
            (Method::GET, "/v1/config/app:history", "/platform.config.v1.Config/History [\"app\"]"),
            (Method::PUT, "/v1/config/app/schema", "/platform.config.v1.Config/SetSchema [\"app\"]"),
            (Method::GET, "/v1/config:audit", "/platform.config.v1.Config/Audit []"),
            (Method::GET, "/v1/kv:watch", "/platform.kv.v1.Kv/Watch []"),
            (Method::POST, "/v1/kv/n:increment", "/platform.kv.v1.Kv/Increment [\"n\"]"),
            (Method::POST, "/v1/router:report", "/platform.router.v1.Router/Report []"),
            (Method::GET, "/v1/router/shop:select", "/platform.router.v1.Router/Select [\"shop\"]"),
            (
                Method::GET,
                "/v1/slots/auth.policy/pay:history",
                "/platform.plugin.v1.Plugins/History [\"auth.policy/pay\"]",
            ),
            (Method::GET, "/v1/plugins/a@1.0.0", "/platform.plugin.v1.Plugins/Inspect [\"a@1.0.0\"]"),
            (Method::PATCH, "/v1/kv/a", "DELETE, GET, PUT"),
            (Method::GET, "/v2/kv/a", "nothing"),
        ] {
            assert_eq!(rpc(&table, &method, path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_can_have_a_raw_and_a_json_body() {
        let table = table();
        let Found::Operation(operation, _) = table.find(&Method::PUT, "/v1/kv/a") else { panic!("no operation") };
        let raw: Vec<bool> = operation.bindings.iter().map(|binding| binding.request.is_raw()).collect();
        assert_eq!(raw, [false, true]);
    }

    #[test]
    fn field_paths_stop_at_lists_and_scalars() {
        let pool = DescriptorPool::decode(platform_proto::FILE_DESCRIPTOR_SET).unwrap();
        let message = pool.get_message_by_name("platform.discovery.v1.RegisterRequest").unwrap();
        assert_eq!(field_path(&message, "registration.node.id").unwrap().len(), 3);
        assert_eq!(field_path(&message, "ttlMs").unwrap().len(), 1);
        for path in ["registration.endpoints.name", "ttl_ms.x", "nothing", "", "registration..node"] {
            assert_eq!(field_path(&message, path).unwrap_err(), path);
        }
    }
}
