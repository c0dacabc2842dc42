//! Filters, tests and functions that templates have.
//!
//! An allowlist on an empty environment: nothing here makes a text safe but `quote` and `literal`,
//! which the environment adds for its grammar.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, filters, functions, tests};

/// Ranges and repeated texts that a template makes itself end here.
const MAX_ITEMS: i64 = 100_000;

pub(crate) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("length", filters::length);
    environment.add_filter("count", filters::length);
    environment.add_filter("dictsort", filters::dictsort);
    environment.add_filter("items", filters::items);
    environment.add_filter("default", filters::default);
    environment.add_filter("d", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("unique", filters::unique);
    environment.add_filter("list", filters::list);
    environment.add_filter("int", filters::int);
    environment.add_filter("min", filters::min);
    environment.add_filter("max", filters::max);
    environment.add_filter("select", filters::select);
    environment.add_filter("reject", filters::reject);
    environment.add_filter("selectattr", filters::selectattr);
    environment.add_filter("rejectattr", filters::rejectattr);
    environment.add_filter("map", filters::map);
    environment.add_filter("groupby", filters::groupby);
    environment.add_filter("lower", |text: String| text.to_lowercase());
    environment.add_filter("upper", |text: String| text.to_uppercase());
    environment.add_filter("trim", |text: String| text.trim().to_owned());
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);

    environment.add_function("range", functions::range);
    environment.add_function("dict", functions::dict);
    environment.add_function("namespace", functions::namespace);

    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("string", tests::is_string);
    environment.add_test("number", tests::is_number);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("even", tests::is_even);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("in", tests::is_in);
    environment.add_test("eq", tests::is_eq);
    environment.add_test("ne", tests::is_ne);
    environment.add_test("equalto", tests::is_eq);
    add_of_kube2lb(environment);
}

/// kube2lb's functions, as filters and as functions.
fn add_of_kube2lb(environment: &mut Environment<'_>) {
    fn escape_node(text: String) -> String {
        text.replace(['.', ':'], "_")
    }
    fn plus(left: i64, right: i64) -> i64 {
        left.saturating_add(right)
    }
    environment.add_filter("escape_node", escape_node);
    environment.add_function("escape_node", escape_node);
    environment.add_filter("to_lower", |text: String| text.to_lowercase());
    environment.add_function("to_lower", |text: String| text.to_lowercase());
    environment.add_filter("to_upper", |text: String| text.to_uppercase());
    environment.add_function("to_upper", |text: String| text.to_uppercase());
    environment.add_filter("add", plus);
    environment.add_function("add", plus);
    // Names are made where Services are read; a second argument was the domain.
    fn server_names(service: &Value, _domain: Option<Value>) -> Result<Value, Error> {
        service.get_attr("ServerNames")
    }
    environment.add_filter("server_names", server_names);
    environment.add_function("server_names", server_names);
    environment.add_filter("int_range", int_range);
    environment.add_function("int_range", int_range);
}

/// `n` numbers from `start`, each `step` more.
fn int_range(count: i64, start: i64, step: i64) -> Result<Vec<i64>, Error> {
    if !(0..=MAX_ITEMS).contains(&count) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "int_range makes 0 to 100000 numbers",
        ));
    }
    Ok((0..count)
        .map(|index| start.saturating_add(index.saturating_mul(step)))
        .collect())
}

// The crate's own `replace` and `join` keep the mark of safety of some inputs; these never do.
fn replace(text: String, from: String, to: String) -> String {
    text.replace(&from, &to)
}

fn join(values: &Value, separator: Option<String>) -> Result<Value, Error> {
    let items: Vec<Value> = values.try_iter()?.collect();
    let separator = separator.unwrap_or_default();
    let text = items
        .iter()
        .map(|item| {
            if matches!(item.kind(), ValueKind::String | ValueKind::Number) {
                return Ok(item.to_string());
            }
            Err(Error::new(
                ErrorKind::InvalidOperation,
                "join takes texts and numbers",
            ))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Value::from(text.join(&separator)))
}
