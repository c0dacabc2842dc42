//! Reading fields of an object, with a problem for each that makes no sense.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde_json::Value;

use crate::{Kind, ObjectKey, Problem, Protocol};

/// One object and what is found wrong with it.
pub(super) struct Reader<'a> {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
    object: &'a Value,
    problems: RefCell<Vec<Problem>>,
}

/// A value and the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Field<'a> {
    /// A member, where it is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        let dot = if self.path.is_empty() { "" } else { "." };
        Some(Field {
            path: format!("{}{dot}{name}", self.path),
            value,
        })
    }

    /// The elements of a member that is a list; nothing where it is absent.
    pub(super) fn list(&self, name: &str) -> Vec<Field<'a>> {
        let Some(field) = self.get(name) else {
            return Vec::new();
        };
        let elements = field.value.as_array().into_iter().flatten().enumerate();
        elements
            .map(|(index, value)| Field {
                path: format!("{}[{index}]", field.path),
                value,
            })
            .collect()
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(kind: Kind, key: ObjectKey, object: &'a Value) -> Self {
        Self {
            kind,
            key,
            object,
            problems: RefCell::default(),
        }
    }

    /// The object itself.
    pub(super) fn root(&self) -> Field<'a> {
        Field {
            path: String::new(),
            value: self.object,
        }
    }

    /// `spec`, or nothing in particular where it is absent.
    pub(super) fn section(&self, name: &str) -> Field<'a> {
        const ABSENT: &Value = &Value::Null;
        let absent = Field {
            path: name.to_owned(),
            value: ABSENT,
        };
        match self.root().get(name) {
            Some(field) if field.value.is_object() => field,
            Some(_) => {
                self.problem(name, "is not a mapping of fields", "it is taken as absent");
                absent
            }
            None => absent,
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    pub(super) fn problem(
        &self,
        field: &str,
        message: impl Into<String>,
        effect: impl Into<String>,
    ) {
        self.problems.borrow_mut().push(Problem::new(
            self.kind,
            self.key.clone(),
            field,
            message,
            effect,
        ));
    }

    /// Reads a field with `parse`; what does not parse is reported as not being `expected`.
    pub(super) fn parse<T>(
        &self,
        field: &Field<'a>,
        expected: &str,
        effect: &str,
        parse: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(field.value);
        if parsed.is_none() {
            self.problem(
                &field.path,
                format!("is {}, not {expected}", field.value),
                effect,
            );
        }
        parsed
    }

    pub(super) fn text(&self, field: &Field<'a>, effect: &str) -> Option<&'a str> {
        self.parse(field, "a string", effect, Value::as_str)
    }

    pub(super) fn port(&self, field: &Field<'a>, effect: &str) -> Option<NonZeroU16> {
        self.parse(field, "a port from 1 to 65535", effect, as_port)
    }

    pub(super) fn address(&self, field: &Field<'a>, effect: &str) -> Option<IpAddr> {
        self.parse(field, "an IP address", effect, |value| {
            value.as_str()?.parse().ok()
        })
    }

    /// `protocol` of an entry, TCP where absent; `None` where it makes no sense.
    pub(super) fn protocol(&self, entry: &Field<'a>, effect: &str) -> Option<Protocol> {
        let Some(field) = entry.get("protocol") else {
            return Some(Protocol::Tcp);
        };
        self.parse(&field, "TCP, UDP or SCTP", effect, |value| {
            match value.as_str()? {
                "TCP" => Some(Protocol::Tcp),
                "UDP" => Some(Protocol::Udp),
                "SCTP" => Some(Protocol::Sctp),
                _ => None,
            }
        })
    }

    /// A map of strings below `metadata` (labels, annotations) or elsewhere.
    pub(super) fn strings(&self, parent: &Field<'a>, name: &str) -> BTreeMap<Arc<str>, Arc<str>> {
        let Some(field) = parent.get(name) else {
            return BTreeMap::new();
        };
        let Some(members) = self.parse(&field, "a map", "it counts as empty", Value::as_object)
        else {
            return BTreeMap::new();
        };
        let mut strings = BTreeMap::new();
        for (name, value) in members {
            match value.as_str() {
                Some(value) => drop(strings.insert(name.as_str().into(), value.into())),
                None => self.problem(
                    &format!("{}.{name}", field.path),
                    format!("is {value}, not a string"),
                    "it is ignored",
                ),
            }
        }
        strings
    }

    /// A label of the object.
    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        self.object
            .get("metadata")?
            .get("labels")?
            .get(name)?
            .as_str()
    }
}

fn as_port(value: &Value) -> Option<NonZeroU16> {
    NonZeroU16::new(u16::try_from(value.as_u64()?).ok()?)
}
