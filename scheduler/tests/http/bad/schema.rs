//! Bad values for every field of a schema, derived from the schema itself.

use serde_json::{Map, Value, json};

/// A text that is longer than any field takes.
const TOO_LONG: usize = 5000;

/// One value that a field must refuse.
#[derive(Debug)]
pub struct Case {
    /// Where in the body.
    pub pointer: String,
    /// What is put there; absent = it is taken out.
    pub value: Option<Value>,
    /// The field that must be named.
    pub field: String,
}

/// Where a field is: as a JSON pointer, and as a refusal names it.
#[derive(Clone, Default)]
struct At {
    pointer: String,
    field: String,
}

impl At {
    fn within(&self, key: &str) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        Self {
            pointer: format!("{}/{key}", self.pointer),
            field: format!("{}{dot}{key}", self.field),
        }
    }

    fn bad(&self, value: Value) -> Case {
        Case { pointer: self.pointer.clone(), value: Some(value), field: self.field.clone() }
    }

    /// The same with something more after the field's name.
    fn bad_inside(&self, value: Value, suffix: &str) -> Case {
        Case { field: format!("{}{suffix}", self.field), ..self.bad(value) }
    }
}

/// Every bad value of every field of an object's schema.
pub fn cases(schema: &Value) -> Vec<Case> {
    let mut found = Vec::new();
    object(schema, &At::default(), &mut found);
    found
}

/// The names of the fields of an object's schema.
pub fn names(schema: &Value) -> Vec<String> {
    schema["properties"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
}

fn object(schema: &Value, at: &At, found: &mut Vec<Case>) {
    let none = Map::new();
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (key, property) in schema["properties"].as_object().unwrap_or(&none) {
        let here = at.within(key);
        if required.iter().any(|name| name == key) {
            found.push(Case { value: None, ..here.bad(Value::Null) });
        }
        field(property, &here, found);
    }
    found.push(at.within("noSuchField").bad(json!("x")));
}

fn field(schema: &Value, at: &At, found: &mut Vec<Case>) {
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].clone(),
        other => other.clone(),
    };
    match kind.as_str().expect("every field has a type") {
        "string" => text(schema, at, found),
        "integer" => integer(schema, at, found),
        "boolean" => found.extend([at.bad(json!("yes")), at.bad(json!(1))]),
        "array" => {
            found.extend([at.bad(json!("x")), at.bad(json!({"a": 1}))]);
            found.push(at.bad_inside(json!([7.5]), "[0]"));
            found.push(at.bad_inside(json!(["NO_SUCH_THING_X"]), "[0]"));
            found.push(at.bad(json!(vec!["x"; 1001])));
        }
        "object" => {
            found.extend([at.bad(json!("x")), at.bad(json!([1]))]);
            match schema.get("additionalProperties") {
                Some(_texts) => found.push(at.bad_inside(json!({"k": 7}), ".k")),
                None => object(schema, at, found),
            }
        }
        other => panic!("{}: no bad values are known for {other}", at.field),
    }
}

fn text(schema: &Value, at: &At, found: &mut Vec<Case>) {
    // A number stands for a word of protobuf's enums: one that no word has.
    found.extend([at.bad(json!(7777)), at.bad(json!(["x"])), at.bad(json!({"a": 1}))]);
    found.push(at.bad(json!("x".repeat(TOO_LONG))));
    if schema["enum"].is_array() {
        found.extend([at.bad(json!("NO_SUCH_WORD")), at.bad(json!(""))]);
    }
    if schema["format"] == "date-time" {
        found.extend([at.bad(json!("yesterday")), at.bad(json!("2026-13-01T00:00:00Z"))]);
    }
}

fn integer(schema: &Value, at: &At, found: &mut Vec<Case>) {
    found.extend([json!("x"), json!("1"), json!(1.5), json!(-1), json!([1])].map(|v| at.bad(v)));
    if let Some(least) = schema["minimum"].as_i64() {
        found.push(at.bad(json!(least - 1)));
    }
    let most = schema["maximum"].as_i64();
    found.extend(most.map(|most| at.bad(json!(most + 1))));
    if let Some(words) = schema["enum"].as_array() {
        let others = (0..20).filter(|number| !words.contains(&json!(number)));
        found.extend(others.map(|number| at.bad(json!(number))));
    }
    assert!(
        most.is_some() || schema["enum"].is_array(),
        "{}: a whole number without a range",
        at.field
    );
}

/// The body with the case's value in it; the objects around it are made where they are not there.
pub fn body(good: &Value, case: &Case) -> Value {
    let mut body = good.clone();
    let (parents, key) = case.pointer.rsplit_once('/').expect("a pointer");
    let mut parent = &mut body;
    for step in parents.split('/').filter(|step| !step.is_empty()) {
        if !parent[step].is_object() {
            parent[step] = json!({});
        }
        parent = &mut parent[step];
    }
    match &case.value {
        Some(value) => parent[key] = value.clone(),
        None => {
            parent.as_object_mut().and_then(|parent| parent.remove(key));
        }
    }
    body
}
