//! Values that are made when a template asks for them: ten thousand hosts cost what is printed.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};

/// A record with these fields.
pub(super) fn record(
    fields: &'static [&'static str],
    get: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
) -> Value {
    Value::from_object(Record {
        fields,
        get: Box::new(get),
    })
}

/// A list of so many.
pub(super) fn list(
    length: usize,
    get: impl Fn(usize) -> Option<Value> + Send + Sync + 'static,
) -> Value {
    Value::from_object(List {
        length,
        get: Box::new(get),
    })
}

/// A map, in the order of its keys.
pub(super) fn map(
    keys: impl Fn() -> Vec<Value> + Send + Sync + 'static,
    get: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
) -> Value {
    Value::from_object(Map {
        keys: Box::new(keys),
        get: Box::new(get),
    })
}

type ByName = Box<dyn Fn(&str) -> Option<Value> + Send + Sync>;
type ByIndex = Box<dyn Fn(usize) -> Option<Value> + Send + Sync>;

struct Record {
    fields: &'static [&'static str],
    get: ByName,
}

struct List {
    length: usize,
    get: ByIndex,
}

struct Map {
    keys: Box<dyn Fn() -> Vec<Value> + Send + Sync>,
    get: ByName,
}

impl Object for Record {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (self.get)(key.as_str()?)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(self.fields)
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (self.get)(key.as_usize().filter(|index| *index < self.length)?)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length)
    }
}

impl Object for Map {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (self.get)(key.as_str()?)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values((self.keys)())
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").finish_non_exhaustive()
    }
}
