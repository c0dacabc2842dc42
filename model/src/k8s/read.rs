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
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            // Not `format!`: this is done for every field of every object.
            [&self.path, ".", name].concat()
        };
        Some(Field { path, value })
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

    /// `spec` and the like; where it is absent, a field without members.
    pub(super) fn section(&self, name: &str) -> Field<'a> {
        const ABSENT: &Value = &Value::Null;
        let section = self.section_of(&self.root(), name, "it is taken as absent");
        section.unwrap_or_else(|| Field {
            path: name.to_owned(),
            value: ABSENT,
        })
    }

    /// A member that has members itself; `None` where it is absent or has none.
    pub(super) fn section_of(
        &self,
        parent: &Field<'a>,
        name: &str,
        effect: &str,
    ) -> Option<Field<'a>> {
        let field = parent.get(name)?;
        self.mapping(&field, effect)?;
        Some(field)
    }

    /// A member that has to be there.
    pub(super) fn required(
        &self,
        parent: &Field<'a>,
        name: &str,
        effect: &str,
    ) -> Option<Field<'a>> {
        let field = parent.get(name);
        if field.is_none() {
            self.problem(&format!("{}.{name}", parent.path), "is missing", effect);
        }
        field
    }

    /// Whether a field has members at all; reported where it has not.
    pub(super) fn mapping(&self, field: &Field<'a>, effect: &str) -> Option<()> {
        self.parse(field, "a mapping of fields", effect, Value::as_object)
            .map(drop)
    }

    /// Whether every member of a field is one of `known`; the others are reported. What nobody here
    /// knows may narrow what the rest says.
    pub(super) fn only_known(&self, field: &Field<'a>, known: &[&str], effect: &str) -> Option<()> {
        let members = field.value.as_object().into_iter().flatten();
        let unknown = members
            .filter(|(name, value)| !value.is_null() && !known.contains(&name.as_str()))
            .map(|(name, _)| format!("{}.{name}", field.path));
        let mut is_known = Some(());
        for path in unknown {
            self.problem(&path, "is no field that is known here", effect);
            is_known = None;
        }
        is_known
    }

    /// The elements of a member: none where it is absent, `None` where it is not a list.
    pub(super) fn try_list(
        &self,
        parent: &Field<'a>,
        name: &str,
        effect: &str,
    ) -> Option<Vec<Field<'a>>> {
        let Some(field) = parent.get(name) else {
            return Some(Vec::new());
        };
        let elements = self.parse(&field, "a list", effect, Value::as_array)?;
        let element = |(index, value)| Field {
            path: format!("{}[{index}]", field.path),
            value,
        };
        Some(elements.iter().enumerate().map(element).collect())
    }

    /// The elements of a member; none where it is absent or not a list.
    pub(super) fn list(&self, parent: &Field<'a>, name: &str, effect: &str) -> Vec<Field<'a>> {
        self.try_list(parent, name, effect).unwrap_or_default()
    }

    /// The elements of a member that have members themselves.
    pub(super) fn mappings(&self, parent: &Field<'a>, name: &str, effect: &str) -> Vec<Field<'a>> {
        let mut elements = self.list(parent, name, effect);
        elements.retain(|field| self.mapping(field, effect).is_some());
        elements
    }

    /// A switch; `None` where it is absent or makes no sense.
    pub(super) fn flag(&self, parent: &Field<'a>, name: &str, effect: &str) -> Option<bool> {
        let field = parent.get(name)?;
        self.parse(&field, "true or false", effect, Value::as_bool)
    }

    /// What was found; a field that is read twice is reported once.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        for problem in self.problems.into_inner() {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }

    pub(super) fn uid(&self) -> Option<&str> {
        self.object.pointer("/metadata/uid")?.as_str()
    }

    pub(super) fn problem(
        &self,
        field: &str,
        message: impl Into<String>,
        effect: impl Into<String>,
    ) {
        self.problems
            .borrow_mut()
            .push(Problem::new(self.kind, self.key.clone(), field, message, effect).of(self.uid()));
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
                format!("is {}, not {expected}", self.shown(field.value)),
                effect,
            );
        }
        parsed
    }

    /// A value as far as it helps to recognise it; nothing of a Secret.
    fn shown(&self, value: &Value) -> String {
        const LONGEST: usize = 80;
        match value {
            _ if self.kind == Kind::Secret => "something else".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let text = value.to_string();
                match text.char_indices().nth(LONGEST) {
                    Some((end, _)) => format!("{}…", &text[..end]),
                    None => text,
                }
            }
        }
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

    /// A map of strings, without the members that are none.
    pub(super) fn strings(
        &self,
        parent: &Field<'a>,
        name: &str,
        effect: &str,
    ) -> BTreeMap<Arc<str>, Arc<str>> {
        self.members(parent, name, effect)
            .unwrap_or_default()
            .iter()
            .filter_map(|(name, field)| Some(((*name).into(), self.text(field, effect)?.into())))
            .collect()
    }

    /// A map of strings, empty where it is absent; `None` where it or a member cannot be read.
    pub(super) fn try_strings(
        &self,
        parent: &Field<'a>,
        name: &str,
        effect: &str,
    ) -> Option<BTreeMap<Arc<str>, Arc<str>>> {
        self.members(parent, name, effect)?
            .iter()
            .map(|(name, field)| Some(((*name).into(), self.text(field, effect)?.into())))
            .collect()
    }

    /// The members of a member: none where it is absent, `None` where it cannot have any.
    pub(super) fn members(
        &self,
        parent: &Field<'a>,
        name: &str,
        effect: &str,
    ) -> Option<Vec<(&'a str, Field<'a>)>> {
        let Some(field) = parent.get(name) else {
            return Some(Vec::new());
        };
        let members = self.parse(&field, "a map", effect, Value::as_object)?;
        let member = |(name, value): (&'a String, &'a Value)| {
            let path = format!("{}.{name}", field.path);
            (name.as_str(), Field { path, value })
        };
        Some(members.iter().map(member).collect())
    }

    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub(super) fn created(&self) -> i64 {
        let Some(field) = self.section("metadata").get("creationTimestamp") else {
            return 0;
        };
        let parsed = self.time(&field, "the object counts as the oldest");
        parsed.map_or(0, jiff::Timestamp::as_second)
    }

    /// A point in time (RFC 3339).
    pub(super) fn time(&self, field: &Field<'a>, effect: &str) -> Option<jiff::Timestamp> {
        let parse = |value: &Value| value.as_str()?.parse().ok();
        self.parse(field, "a time as in 2006-01-02T15:04:05Z", effect, parse)
    }

    /// Elements of a member that are addresses.
    pub(super) fn addresses(&self, parent: &Field<'a>, name: &str, effect: &str) -> Vec<IpAddr> {
        let fields = self.list(parent, name, effect);
        let usable = fields.iter().filter_map(|field| {
            let address = self.address(field, effect)?;
            if is_service_address(address) {
                return Some(address);
            }
            let message = format!("is {address}, which cannot be a Service's");
            self.problem(&field.path, message, effect);
            None
        });
        let mut addresses = Vec::new();
        for address in usable {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// An annotation of the object.
    pub(super) fn annotation(&self, name: &str, effect: &str) -> Option<Field<'a>> {
        let metadata = self.section("metadata");
        let annotations = self.section_of(&metadata, "annotations", "none is known")?;
        let field = annotations.get(name)?;
        self.text(&field, effect).map(|_| field)
    }

    /// A label of the object.
    pub(super) fn label(&self, name: &str, effect: &str) -> Option<&'a str> {
        let labels = self.section_of(&self.section("metadata"), "labels", "none is known")?;
        self.text(&labels.get(name)?, effect)
    }
}

/// Whether clients could reach a Service at the address.
pub(super) fn is_service_address(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

fn as_port(value: &Value) -> Option<NonZeroU16> {
    NonZeroU16::new(u16::try_from(value.as_u64()?).ok()?)
}

/// A list without room for more: there are ten thousands of them, and they stay as they are.
pub(super) fn tight<T>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.shrink_to_fit();
    values
}
