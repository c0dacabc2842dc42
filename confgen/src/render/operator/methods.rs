//! Methods of Python's texts and maps, which jinja2's templates call.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

pub(crate) fn add(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(|_, value, method, arguments| {
        let text = |index: usize| arguments.get(index).and_then(Value::as_str);
        match (value.kind(), method, arguments.len()) {
            (ValueKind::Map, "items" | "iteritems", 0) => items(value),
            (ValueKind::Map, "keys", 0) => Ok(value.try_iter()?.collect()),
            (ValueKind::Map, "values", 0) => {
                let keys = value.try_iter()?;
                keys.map(|key| value.get_item(&key)).collect()
            }
            (ValueKind::Map, "get", 1 | 2) => {
                let found = arguments
                    .first()
                    .map(|key| value.get_item(key))
                    .transpose()?;
                let found = found.filter(|found| !found.is_undefined());
                let otherwise = || arguments.get(1).cloned().unwrap_or(Value::from(()));
                Ok(found.unwrap_or_else(otherwise))
            }
            (ValueKind::String, ..) => {
                let of = value.as_str().unwrap_or_default();
                match (method, text(0), text(1)) {
                    ("replace", Some(from), Some(to)) => Ok(Value::from(of.replace(from, to))),
                    ("startswith", Some(start), None) => Ok(Value::from(of.starts_with(start))),
                    ("endswith", Some(end), None) => Ok(Value::from(of.ends_with(end))),
                    ("split", Some(at), None) => Ok(of.split(at).map(Value::from).collect()),
                    ("lower", None, None) => Ok(Value::from(of.to_lowercase())),
                    ("upper", None, None) => Ok(Value::from(of.to_uppercase())),
                    ("strip", None, None) => Ok(Value::from(of.trim())),
                    _ => Err(Error::from(ErrorKind::UnknownMethod)),
                }
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    });
}

fn items(value: &Value) -> Result<Value, Error> {
    value
        .try_iter()?
        .map(|key| {
            let found = value.get_item(&key)?;
            Ok(Value::from(vec![key, found]))
        })
        .collect()
}
