//! Jinja's filters of lists and values.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, filters};

use super::budget::{Budget, ENTRY};
use super::methods::{OF_DICTIONARIES, attribute};
use super::python::{as_f64, as_i128, bind, from_i128, is_numeric, refused, truth};

/// What Jinja's `attribute=` names: a path with dots, of which numbers are indices.
pub(super) fn attribute_of(value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(text) = path.as_str() else { return value.get_item(path) };
    let mut found = value.clone();
    for name in text.split('.') {
        found = match name.parse::<usize>() {
            Ok(at) => found.get_item_by_index(at)?,
            Err(_) => found.get_attr(name)?,
        };
    }
    Ok(found)
}

/// Jinja's filters of lists. What they collect is paid for first, and what they make by the tree around them: it is no more.
pub(super) fn register(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    for name in ["length", "count"] {
        environment.add_filter(name, |value: Value| match value.is_undefined() {
            true => Ok(0),
            false => filters::length(&value),
        });
    }
    for name in ["default", "d"] {
        environment.add_filter(name, |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let [default, boolean] = bind("default", &args.into_values(), ["default_value", "boolean"])?;
            let missing = value.is_undefined() || (truth(&boolean, false) && !value.is_true());
            Ok(if missing { default.unwrap_or_else(|| Value::from("")) } else { value })
        });
    }
    for name in ["first", "last"] {
        environment.add_filter(name, move |value: Value| -> Result<Value, Error> {
            if value.is_none() || is_numeric(&value) {
                return Err(refused(format!("{name}: a {} has no items", value.kind())));
            }
            let mut items = value.try_iter()?;
            Ok(if name == "first" { items.next() } else { items.last() }.unwrap_or(Value::UNDEFINED))
        });
    }
    environment.add_filter(
        "items",
        |value: Value| if value.is_undefined() { Ok(Value::from(Vec::<Value>::new())) } else { filters::items(&value) },
    );
    environment.add_filter("sum", |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let [attribute, start] = bind("sum", &args.into_values(), ["attribute", "start"])?;
        let mut total = start.unwrap_or_else(|| Value::from(0));
        for item in value.try_iter()? {
            let item = match &attribute {
                Some(path) if !path.is_none() => attribute_of(&item, path)?,
                _ => item,
            };
            if !is_numeric(&item) || !is_numeric(&total) {
                return Err(refused(format!("sum: a {} can't be added to a {}", item.kind(), total.kind())));
            }
            total = match (as_i128(&total), as_i128(&item)) {
                (Some(a), Some(b)) => from_i128(a.checked_add(b).ok_or_else(|| refused("sum: the sum is too large"))?),
                _ => Value::from(as_f64(&total).unwrap_or(f64::NAN) + as_f64(&item).unwrap_or(f64::NAN)),
            };
        }
        Ok(total)
    });
    environment.add_filter("random", |value: Value| -> Result<Value, Error> {
        // A rendering is repeatable: the first is as random as any.
        Ok(value.try_iter()?.next().unwrap_or(Value::UNDEFINED))
    });
    environment.add_filter("dictsort", |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let [case, by, reverse] = bind("dictsort", &args.into_values(), ["case_sensitive", "by", "reverse"])?;
        let by = by.unwrap_or_else(|| Value::from("key"));
        if !matches!(by.as_str(), Some("key" | "value")) {
            return Err(refused("dictsort: `by` is \"key\" or \"value\""));
        }
        let options = [("case_sensitive", truth(&case, false).into()), ("by", by), ("reverse", Value::from(truth(&reverse, false)))];
        filters::dictsort(&value, options.into_iter().collect::<Kwargs>())
    });
    let paying = budget.clone();
    environment.add_filter("unique", move |state: &mut State, value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        paying.spend_on_items(&value)?;
        let [case, attribute] = bind("unique", &args.into_values(), ["case_sensitive", "attribute"])?;
        let mut options = vec![("case_sensitive", Value::from(truth(&case, false)))];
        options.extend(attribute.map(|a| ("attribute", a)));
        filters::unique(state, value, options.into_iter().collect::<Kwargs>())
    });
    let paying = budget.clone();
    environment.add_filter("sort", move |state: &mut State, value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        paying.spend_on_items(&value)?;
        let [reverse, case, attribute] = bind("sort", &args.into_values(), ["reverse", "case_sensitive", "attribute"])?;
        let items: Vec<Value> = value.try_iter()?.collect();
        if attribute.as_ref().is_none_or(Value::is_none) && items.windows(2).any(|pair| !comparable(&pair[0], &pair[1])) {
            return Err(refused("sort: the items are of kinds that have no order"));
        }
        let mut options = vec![("case_sensitive", Value::from(truth(&case, false))), ("reverse", Value::from(truth(&reverse, false)))];
        options.extend(attribute.map(|a| ("attribute", a)));
        filters::sort(state, value, options.into_iter().collect::<Kwargs>())
    });
    for (name, largest) in [("min", false), ("max", true)] {
        environment.add_filter(name, move |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let [case, attribute] = bind(name, &args.into_values(), ["case_sensitive", "attribute"])?;
            let mut best: Option<(Value, Value)> = None;
            for item in value.try_iter()? {
                let key = match &attribute {
                    Some(path) if !path.is_none() => attribute_of(&item, path)?,
                    _ => item.clone(),
                };
                let key = match key.as_str() {
                    Some(text) if !truth(&case, false) => Value::from(text.to_lowercase()),
                    _ => key,
                };
                best = match best {
                    Some((known, _)) if !comparable(&known, &key) => return Err(refused(format!("{name}: the items have no order"))),
                    Some(known) if if largest { key <= known.0 } else { key >= known.0 } => Some(known),
                    _ => Some((key, item)),
                };
            }
            Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
        });
    }
    environment.add_filter("reverse", |value: Value| match value.is_none() || is_numeric(&value) {
        true => Err(refused(format!("reverse: a {} has no items", value.kind()))),
        false => filters::reverse(&value),
    });
    let paying = budget.clone();
    environment.add_filter("attr", move |value: Value, name: Value| -> Result<Value, Error> {
        // As Jinja: attributes, and a dictionary's entries are none.
        Ok(match value.kind() {
            ValueKind::Map if value.as_object().is_some_and(|o| !o.type_name().ends_with("Namespace")) => match name.as_str() {
                Some(name) if OF_DICTIONARIES.contains(&name) => attribute(&paying, &value, name)?,
                _ => Value::UNDEFINED,
            },
            _ => name.as_str().and_then(|name| value.get_attr(name).ok()).unwrap_or(Value::UNDEFINED),
        })
    });
    let paying = budget.clone();
    environment.add_filter("list", move |state: &mut State, value: Value| {
        paying.spend_on_items(&value)?;
        filters::list(state, value)
    });
    environment.add_filter("bool", filters::bool);
    for (name, kept) in [("select", true), ("reject", false)] {
        let paying = budget.clone();
        environment.add_filter(name, move |state: &mut State, value: Value, test: Option<String>, args: Rest<ValueOrKwargs>| {
            paying.spend_on_items(&value)?;
            let test = test.map(Cow::Owned);
            if kept { filters::select(state, value, test, args) } else { filters::reject(state, value, test, args) }
        });
    }
    for (name, kept) in [("selectattr", true), ("rejectattr", false)] {
        let paying = budget.clone();
        environment.add_filter(
            name,
            move |state: &mut State, value: Value, attribute: String, test: Option<String>, args: Rest<ValueOrKwargs>| {
                paying.spend_on_items(&value)?;
                let (attribute, test) = (Cow::Owned(attribute), test.map(Cow::Owned));
                match kept {
                    true => filters::selectattr(state, value, attribute, test, args),
                    false => filters::rejectattr(state, value, attribute, test, args),
                }
            },
        );
    }
    let paying = budget.clone();
    environment.add_filter("map", move |state: &mut State, value: Value, args: Rest<ValueOrKwargs>| {
        paying.spend_on_items(&value)?;
        filters::map(state, value, args)
    });
    let paying = budget.clone();
    environment.add_filter("groupby", move |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        paying.spend_on_items(&value)?;
        let [path, default, case] = bind("groupby", &args.into_values(), ["attribute", "default", "case_sensitive"])?;
        let path = path.ok_or_else(|| refused("groupby needs an attribute"))?;
        let mut items = Vec::new();
        for item in value.try_iter()? {
            let grouper = attribute_of(&item, &path)?;
            let grouper = match &default {
                Some(default) if grouper.is_undefined() => default.clone(),
                _ => grouper,
            };
            let key = match grouper.as_str() {
                Some(text) if !truth(&case, false) => Value::from(text.to_lowercase()),
                _ => grouper.clone(),
            };
            items.push((key, grouper, item));
        }
        items.sort_by(|a, b| a.0.cmp(&b.0));
        let groups = items.chunk_by(|a, b| a.0 == b.0);
        let group = |some: &[(Value, Value, Value)]| {
            // The first one's spelling is the group's.
            let list = some.iter().map(|(.., item)| item.clone()).collect::<Vec<_>>();
            Value::from_object(GroupTuple { grouper: some[0].1.clone(), list: Value::from(list) })
        };
        Ok(Value::from(groups.map(group).collect::<Vec<_>>()))
    });
    type Cut = fn(&State, Value, usize, Option<Value>) -> Result<Value, Error>;
    for (name, filter) in [("batch", filters::batch as Cut), ("slice", filters::slice as Cut)] {
        let paying = budget.clone();
        environment.add_filter(name, move |state: &mut State, value: Value, count: usize, fill: Option<Value>, options: Kwargs| {
            let fill = fill.or(options.get("fill_with")?);
            options.assert_all_used()?;
            paying.spend(count.saturating_mul(ENTRY))?;
            paying.spend_on_items(&value)?;
            filter(state, value, count, fill)
        });
    }
}

/// A group: a pair whose parts have names.
#[derive(Debug)]
struct GroupTuple {
    grouper: Value,
    list: Value,
}

impl Object for GroupTuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_usize(), key.as_str()) {
            (Some(0), _) | (_, Some("grouper")) => Some(self.grouper.clone()),
            (Some(1), _) | (_, Some("list")) => Some(self.list.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// Whether Python's `<` has an answer.
fn comparable(a: &Value, b: &Value) -> bool {
    let list = |v: &Value| matches!(v.kind(), ValueKind::Seq | ValueKind::Iterable);
    (is_numeric(a) && is_numeric(b))
        || (a.as_str().is_some() && b.as_str().is_some())
        || (list(a) && list(b) && a.is_tuple() == b.is_tuple())
}
