//! The functions and types of one interface, compared with those of another.
//!
//! Invariant: a walk goes no deeper than the host's own type, and what is written of a guest's type has a bounded size.

use std::collections::{BTreeSet, HashMap};

use wasmparser::{
    component_types::{
        ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType, ComponentFuncType,
        ComponentInstanceTypeId, ComponentValType, ResourceId,
    },
    names::KebabString,
    types::TypesRef,
};

use super::{Side, shown};

/// Deepest nesting that is followed; the host's own types stay far below.
const DEPTH_MAX: usize = 64;
/// Longest written type, in bytes; what is over is left out.
const WRITTEN_MAX: usize = 160;

/// An interface of either side.
pub(super) struct Interface<'a> {
    types: TypesRef<'a>,
    functions: HashMap<&'a str, &'a ComponentFuncType>,
    defined: HashMap<&'a str, ComponentDefinedTypeId>,
    resources: BTreeSet<&'a str>,
    defined_names: HashMap<ComponentDefinedTypeId, &'a str>,
    resource_names: HashMap<ResourceId, &'a str>,
}

impl<'a> Interface<'a> {
    pub(super) fn new(types: TypesRef<'a>, id: ComponentInstanceTypeId) -> Self {
        let mut interface = Self {
            types,
            functions: HashMap::new(),
            defined: HashMap::new(),
            resources: BTreeSet::new(),
            defined_names: HashMap::new(),
            resource_names: HashMap::new(),
        };
        let Some(instance) = types.get(id) else { return interface };
        for (name, item) in &instance.exports {
            match item.ty {
                ComponentEntityType::Func(id) => {
                    if let Some(function) = types.get(id) {
                        interface.functions.insert(name, function);
                    }
                }
                ComponentEntityType::Type { referenced, created } => interface.name(name, referenced, created),
                _ => {}
            }
        }
        interface
    }

    fn name(&mut self, name: &'a str, referenced: ComponentAnyTypeId, created: ComponentAnyTypeId) {
        for id in [created, referenced] {
            match id {
                ComponentAnyTypeId::Defined(id) => {
                    self.defined.entry(name).or_insert(id);
                    self.defined_names.entry(id).or_insert(name);
                }
                ComponentAnyTypeId::Resource(id) => {
                    self.resources.insert(name);
                    self.resource_names.entry(id.resource()).or_insert(name);
                }
                _ => {}
            }
        }
    }

    /// What this interface of a guest differs in from `ours`. Sentences call the interface `name`.
    pub(super) fn differences(&self, side: Side, name: &str, ours: &Self) -> Vec<String> {
        let mut found = Vec::new();
        self.compare_presence(side, name, ours, &mut found);
        let mut types: Vec<_> = self.defined.iter().collect();
        types.sort_unstable_by_key(|(name, _)| **name);
        for (type_name, id) in types {
            if let Some(our_id) = ours.defined.get(type_name) {
                self.compare_type(name, type_name, *id, ours, *our_id, &mut found);
            }
        }
        let types_differ = !found.is_empty();
        let mut functions: Vec<_> = self.functions.iter().collect();
        functions.sort_unstable_by_key(|(name, _)| **name);
        for (function_name, function) in functions {
            if let Some(our_function) = ours.functions.get(function_name) {
                let subject = format!("function `{}` of `{name}`", spoken(function_name));
                self.compare_function(&subject, function, ours, our_function, types_differ, &mut found);
            }
        }
        found
    }

    /// A guest may import less than there is, and export more than is asked for.
    fn compare_presence(&self, side: Side, name: &str, ours: &Self, found: &mut Vec<String>) {
        match side {
            Side::Import => {
                let mut unknown: Vec<_> =
                    self.functions.keys().filter(|key| !ours.functions.contains_key(*key)).collect();
                unknown.sort_unstable();
                found.extend(unknown.into_iter().map(|key| {
                    format!("it imports the function `{}` of `{name}`, which this platform does not offer", spoken(key))
                }));
                let unknown = self.resources.iter().filter(|key| !ours.resources.contains(*key));
                found.extend(unknown.map(|key| {
                    format!("it imports the resource `{}` of `{name}`, which this platform does not offer", shown(key))
                }));
            }
            Side::Export => {
                let mut missing: Vec<_> =
                    ours.functions.keys().filter(|key| !self.functions.contains_key(*key)).collect();
                missing.sort_unstable();
                found.extend(missing.into_iter().map(|key| format!("`{name}` misses function `{}`", spoken(key))));
            }
        }
    }

    fn compare_function(
        &self, subject: &str, function: &ComponentFuncType, ours: &Self, expected: &ComponentFuncType,
        types_differ: bool, found: &mut Vec<String>,
    ) {
        if function.async_ != expected.async_ {
            found.push(format!("{subject} is {}asynchronous", if function.async_ { "" } else { "not " }));
        }
        let (count, expected_count) = (function.params.len(), expected.params.len());
        if count != expected_count {
            found.push(format!(
                "{subject} takes {count} parameters, expected {expected_count}: {}",
                ours.parameters(expected)
            ));
            return;
        }
        for ((name, param), (expected_name, expected_param)) in function.params.iter().zip(&expected.params) {
            if name.as_str() != expected_name.as_str() {
                found.push(format!(
                    "{subject}: a parameter is called `{}`, expected `{expected_name}`",
                    shown(name.as_str())
                ));
            }
            self.compare_value(
                &format!("{subject}: parameter `{expected_name}`"),
                *param,
                ours,
                *expected_param,
                types_differ,
                found,
            );
        }
        match (function.result, expected.result) {
            (Some(result), Some(expected)) => {
                self.compare_value(&format!("{subject}: the result"), result, ours, expected, types_differ, found);
            }
            (None, None) => {}
            (Some(_), None) => found.push(format!("{subject} returns a result, expected none")),
            (None, Some(expected)) => {
                found.push(format!("{subject} returns nothing, expected `{}`", ours.written(expected)));
            }
        }
    }

    /// Says how two values' types differ. When they read the same, the difference lies in a type that both name, and is
    /// said once, where that type is compared.
    fn compare_value(
        &self, subject: &str, value: ComponentValType, ours: &Self, expected: ComponentValType, types_differ: bool,
        found: &mut Vec<String>,
    ) {
        if self.same(value, ours, expected, 0) {
            return;
        }
        let (written, expected_written) = (self.written(value), ours.written(expected));
        if written != expected_written {
            found.push(format!("{subject} is `{written}`, expected `{expected_written}`"));
        } else if !types_differ {
            found.push(format!("{subject} is not the `{expected_written}` of this platform"));
        }
    }

    fn compare_type(
        &self, name: &str, type_name: &str, id: ComponentDefinedTypeId, ours: &Self, our_id: ComponentDefinedTypeId,
        found: &mut Vec<String>,
    ) {
        let (Some(guest), Some(expected)) = (self.types.get(id), ours.types.get(our_id)) else { return };
        let subject = format!("{} `{type_name}` of `{name}`", kind(expected));
        match (guest, expected) {
            (ComponentDefinedType::Record(guest), ComponentDefinedType::Record(expected)) => {
                let (fields, our_fields) = (names(guest.fields.keys()), names(expected.fields.keys()));
                if compare_names(&subject, "field", &fields, &our_fields, found) {
                    for ((field, value), (_, our_value)) in guest.fields.iter().zip(&expected.fields) {
                        self.compare_value(
                            &format!("{subject}: field `{field}`"),
                            *value,
                            ours,
                            *our_value,
                            false,
                            found,
                        );
                    }
                }
            }
            (ComponentDefinedType::Variant(guest), ComponentDefinedType::Variant(expected)) => {
                let (cases, our_cases) = (names(guest.cases.keys()), names(expected.cases.keys()));
                if compare_names(&subject, "case", &cases, &our_cases, found) {
                    for ((case, value), (_, our_value)) in guest.cases.iter().zip(&expected.cases) {
                        let subject = format!("{subject}: case `{case}`");
                        match (value.ty, our_value.ty) {
                            (Some(value), Some(our_value)) => {
                                self.compare_value(&subject, value, ours, our_value, false, found);
                            }
                            (None, None) => {}
                            (Some(_), None) => found.push(format!("{subject} has a value, expected none")),
                            (None, Some(value)) => {
                                found.push(format!("{subject} has no value, expected `{}`", ours.written(value)));
                            }
                        }
                    }
                }
            }
            (ComponentDefinedType::Enum(guest), ComponentDefinedType::Enum(expected)) => {
                compare_names(&subject, "case", &names(guest), &names(expected), found);
            }
            (ComponentDefinedType::Flags(guest), ComponentDefinedType::Flags(expected)) => {
                compare_names(&subject, "flag", &names(guest), &names(expected), found);
            }
            (guest, expected) if kind(guest) != kind(expected) => {
                found.push(format!(
                    "type `{type_name}` of `{name}` is a {}, expected a {}",
                    kind(guest),
                    kind(expected)
                ));
            }
            _ => {
                let (value, expected) = (ComponentValType::Type(id), ComponentValType::Type(our_id));
                if !self.same(value, ours, expected, 0) {
                    let (mut written, mut our_written) = (String::new(), String::new());
                    self.write_structure(&mut written, id, 0);
                    ours.write_structure(&mut our_written, our_id, 0);
                    found.push(format!("type `{type_name}` of `{name}` is `{written}`, expected `{our_written}`"));
                }
            }
        }
    }

    /// Whether two types are the same, by structure. As deep as `expected` is.
    fn same(&self, value: ComponentValType, ours: &Self, expected: ComponentValType, depth: usize) -> bool {
        let (value, expected) = match (self.resolved(value), ours.resolved(expected)) {
            (Shape::Primitive(value), Shape::Primitive(expected)) => return value == expected,
            (Shape::Defined(value), Shape::Defined(expected)) if depth < DEPTH_MAX => (value, expected),
            _ => return false,
        };
        let deeper = |value, expected| self.same(value, ours, expected, depth + 1);
        let optional = |value: Option<_>, expected: Option<_>| match (value, expected) {
            (Some(value), Some(expected)) => deeper(value, expected),
            (None, None) => true,
            _ => false,
        };
        use ComponentDefinedType as Type;
        match (value, expected) {
            (Type::Record(value), Type::Record(expected)) => {
                value.fields.len() == expected.fields.len()
                    && value.fields.iter().zip(&expected.fields).all(|((name, value), (expected_name, expected))| {
                        name.as_str() == expected_name.as_str() && deeper(*value, *expected)
                    })
            }
            (Type::Variant(value), Type::Variant(expected)) => {
                value.cases.len() == expected.cases.len()
                    && value.cases.iter().zip(&expected.cases).all(|((name, value), (expected_name, expected))| {
                        name.as_str() == expected_name.as_str() && optional(value.ty, expected.ty)
                    })
            }
            (Type::Enum(value), Type::Enum(expected)) | (Type::Flags(value), Type::Flags(expected)) => {
                value.iter().map(KebabString::as_str).eq(expected.iter().map(KebabString::as_str))
            }
            (Type::Tuple(value), Type::Tuple(expected)) => {
                value.types.len() == expected.types.len()
                    && value.types.iter().zip(&expected.types).all(|(value, expected)| deeper(*value, *expected))
            }
            (Type::List { element: value, .. }, Type::List { element: expected, .. })
            | (Type::Option { ty: value, .. }, Type::Option { ty: expected, .. }) => deeper(*value, *expected),
            (Type::Result { ok, err, .. }, Type::Result { ok: expected_ok, err: expected_err, .. }) => {
                optional(*ok, *expected_ok) && optional(*err, *expected_err)
            }
            (Type::Own(value), Type::Own(expected)) | (Type::Borrow(value), Type::Borrow(expected)) => {
                self.resource_names.get(&value.resource()) == ours.resource_names.get(&expected.resource())
            }
            _ => false,
        }
    }

    fn resolved(&self, value: ComponentValType) -> Shape<'a> {
        match value {
            ComponentValType::Primitive(primitive) => Shape::Primitive(primitive),
            ComponentValType::Type(id) => match self.types.get(id) {
                Some(ComponentDefinedType::Primitive(primitive)) => Shape::Primitive(*primitive),
                Some(defined) => Shape::Defined(defined),
                None => Shape::Unknown,
            },
        }
    }

    fn parameters(&self, function: &ComponentFuncType) -> String {
        let params = function.params.iter().map(|(name, value)| format!("`{name}: {}`", self.written(*value)));
        params.collect::<Vec<_>>().join(", ")
    }

    /// The type as WIT writes it, cut when it is long.
    fn written(&self, value: ComponentValType) -> String {
        let mut text = String::new();
        self.write(&mut text, value, 0);
        text
    }

    fn write(&self, text: &mut String, value: ComponentValType, depth: usize) {
        match value {
            ComponentValType::Primitive(primitive) => text.push_str(&primitive.to_string()),
            ComponentValType::Type(id) => match self.defined_names.get(&id) {
                Some(name) => text.push_str(&shown(name)),
                None => self.write_structure(text, id, depth),
            },
        }
    }

    fn write_structure(&self, text: &mut String, id: ComponentDefinedTypeId, depth: usize) {
        if text.len() > WRITTEN_MAX || depth > 8 {
            text.push('…');
            return;
        }
        let Some(defined) = self.types.get(id) else { return };
        use ComponentDefinedType as Type;
        match defined {
            Type::Primitive(primitive) => text.push_str(&primitive.to_string()),
            Type::List { element, .. } => self.write_in(text, "list", &[Some(*element)], depth),
            Type::Option { ty, .. } => self.write_in(text, "option", &[Some(*ty)], depth),
            Type::Result { ok: None, err: None, .. } => text.push_str("result"),
            Type::Result { ok, err: None, .. } => self.write_in(text, "result", &[*ok], depth),
            Type::Result { ok, err, .. } => self.write_in(text, "result", &[*ok, *err], depth),
            Type::Tuple(tuple) => {
                let parts: Vec<_> = tuple.types.iter().take(16).copied().map(Some).collect();
                self.write_in(text, "tuple", &parts, depth);
            }
            Type::Own(id) => text.push_str(&shown(self.resource_names.get(&id.resource()).unwrap_or(&"a resource"))),
            Type::Borrow(id) => {
                let name = shown(self.resource_names.get(&id.resource()).unwrap_or(&"a resource"));
                text.push_str(&format!("borrow<{name}>"));
            }
            other => text.push_str(kind(other)),
        }
    }

    fn write_in(&self, text: &mut String, outer: &str, parts: &[Option<ComponentValType>], depth: usize) {
        text.push_str(outer);
        text.push('<');
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                text.push_str(", ");
            }
            if text.len() > WRITTEN_MAX {
                text.push('…');
                break;
            }
            match part {
                Some(value) => self.write(text, *value, depth + 1),
                None => text.push('_'),
            }
        }
        text.push('>');
    }
}

enum Shape<'a> {
    Primitive(wasmparser::PrimitiveValType),
    Defined(&'a ComponentDefinedType),
    Unknown,
}

fn names<'a>(names: impl IntoIterator<Item = &'a KebabString>) -> Vec<&'a str> {
    names.into_iter().map(KebabString::as_str).collect()
}

/// Reports names that are missing, too many, or in another order; whether they agree.
fn compare_names(subject: &str, what: &str, guest: &[&str], expected: &[&str], found: &mut Vec<String>) -> bool {
    if guest == expected {
        return true;
    }
    let before = found.len();
    found.extend(
        expected.iter().filter(|name| !guest.contains(name)).map(|name| format!("{subject} lacks {what} `{name}`")),
    );
    let added = guest.iter().filter(|name| !expected.contains(name)).take(super::DIFFERENCES_MAX);
    found
        .extend(added.map(|name| format!("{subject} has {what} `{}`, which this platform does not know", shown(name))));
    if found.len() == before {
        found.push(format!("{subject} has its {what}s in another order, expected {}", expected.join(", ")));
    }
    false
}

fn kind(defined: &ComponentDefinedType) -> &'static str {
    use ComponentDefinedType as Type;
    match defined {
        Type::Record(_) => "record",
        Type::Variant(_) => "variant",
        Type::Enum(_) => "enum",
        Type::Flags(_) => "flags",
        Type::List { .. } | Type::FixedLengthList { .. } => "list",
        Type::Map { .. } => "map",
        Type::Tuple(_) => "tuple",
        Type::Option { .. } => "option",
        Type::Result { .. } => "result",
        Type::Own(_) | Type::Borrow(_) => "handle",
        Type::Future { .. } => "future",
        Type::Stream { .. } => "stream",
        Type::Primitive(_) => "primitive",
    }
}

/// A function's name as a person says it: `request.header` for a method.
fn spoken(name: &str) -> String {
    shown(name.rsplit_once(']').map_or(name, |(_, name)| name))
}
