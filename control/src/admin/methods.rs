//! The table of admin methods: names, typed parameters, handlers.
//!
//! Filled at start by the parts of the server that offer methods, then shared by all connections
//! and never changed. It knows nothing of sockets. Adding a method:
//!
//! ```
//! # use fanmill_control::admin::{Caller, Methods, RpcError};
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Sum { a: i64, b: i64 }
//!
//! let mut methods = Methods::new();
//! methods.add("math.sum", "Adds two numbers.", async |_: Caller, Sum { a, b }: Sum| {
//!     a.checked_add(b).ok_or_else(|| RpcError::invalid_params("b", "the sum overflows"))
//! });
//! ```

use std::collections::BTreeMap;
use std::pin::Pin;

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::connection::Caller;
use super::rpc::RpcError;
use crate::config::nearest;

/// What a handler gives back, in the end.
pub(super) type Outcome = Result<Value, RpcError>;

type Handler =
    Box<dyn Fn(Caller, Value) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// One line of `server.methods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MethodInfo {
    /// The name to call it by.
    pub name: &'static str,
    /// What it does, in a sentence or two.
    pub description: &'static str,
    /// The parameters' names, in the order of by-position calls.
    pub params: &'static [&'static str],
}

struct Method {
    info: MethodInfo,
    handler: Handler,
}

/// All methods a server offers. `server.methods`, which lists them, is always there.
#[derive(Default)]
pub struct Methods {
    table: BTreeMap<&'static str, Method>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

impl Methods {
    /// A table with only `server.methods`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method. `P` is a struct that derives `Deserialize` with `deny_unknown_fields`; its
    /// fields are the parameters, by name or in order. The handler may be dropped at any await
    /// when it takes longer than [`super::Limits::request_timeout`].
    ///
    /// # Panics
    /// If the name is taken: two parts of the server would answer to it.
    pub fn add<P, R, F, Fut>(
        &mut self,
        name: &'static str,
        description: &'static str,
        handler: F,
    ) -> &mut Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        F: Fn(Caller, P) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, RpcError>> + Send + 'static,
    {
        let params = field_names::<P>();
        let handler: Handler = Box::new(move |caller, given| match typed_params(given, params) {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(typed) => {
                let running = handler(caller, typed);
                Box::pin(async move { to_json(running.await?) })
            }
        });
        let info = MethodInfo {
            name,
            description,
            params,
        };
        assert!(
            name != METHODS.name && !self.table.contains_key(name),
            "admin method {name} is added once"
        );
        self.table.insert(name, Method { info, handler });
        self
    }

    /// Every method, sorted by name.
    #[must_use]
    pub fn list(&self) -> Vec<&MethodInfo> {
        let mut all: Vec<_> = self.table.values().map(|method| &method.info).collect();
        all.push(&METHODS);
        all.sort_by_key(|info| info.name);
        all
    }

    /// Runs a method.
    pub(super) async fn call(&self, caller: Caller, name: &str, params: Value) -> Outcome {
        if name == METHODS.name {
            typed_params::<NoParams>(params, METHODS.params)?;
            return to_json(self.list());
        }
        match self.table.get(name) {
            Some(method) => (method.handler)(caller, params).await,
            None => {
                let names = self.list().into_iter().map(|info| info.name);
                Err(RpcError::method_not_found(name, nearest(name, names)))
            }
        }
    }
}

const METHODS: MethodInfo = MethodInfo {
    name: "server.methods",
    description: "Lists the methods of this server with their parameters.",
    params: &[],
};

fn to_json(result: impl Serialize) -> Outcome {
    serde_json::to_value(result).map_err(|e| {
        tracing::error!(error = %e, "the result of an admin method has no JSON form");
        RpcError::internal("the result has no JSON form")
    })
}

/// Deserializes parameters so that an error names the one to blame.
fn typed_params<P: DeserializeOwned>(given: Value, known: &[&str]) -> Result<P, RpcError> {
    match &given {
        Value::Object(fields) => {
            if let Some(unknown) = fields.keys().find(|key| !known.contains(&key.as_str())) {
                let name: String = unknown.chars().take(64).collect();
                return Err(RpcError::invalid_params(
                    &name,
                    unknown_parameter(unknown, known),
                ));
            }
        }
        Value::Array(items) if items.len() > known.len() => {
            let problem = format!("{} given, {} known", items.len(), known.len());
            return Err(RpcError::invalid_params("", problem));
        }
        _ => {}
    }
    let by_position = given.is_array();
    serde_path_to_error::deserialize(given).map_err(|e| {
        let path = e.path().to_string();
        let problem = e.into_inner().to_string();
        let parameter = if path == "." {
            missing_field(&problem).to_owned()
        } else {
            path
        };
        // A position's path is `[0]`; the name is more use.
        let position = parameter
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        match position
            .filter(|_| by_position)
            .and_then(|index| index.parse::<usize>().ok())
        {
            Some(index) => RpcError::invalid_params(known.get(index).unwrap_or(&""), problem),
            None => RpcError::invalid_params(&parameter, problem),
        }
    })
}

fn unknown_parameter(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(nearest) => format!("unknown; did you mean `{nearest}`?"),
        None if known.is_empty() => "unknown; this method has no parameters".to_owned(),
        None => format!("unknown; the parameters are {}", known.join(", ")),
    }
}

/// The name in serde's "missing field `name`".
fn missing_field(problem: &str) -> &str {
    problem
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
        .unwrap_or("")
}

/// The names of the fields that `P`'s derived `Deserialize` asks for.
fn field_names<P: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // Always an error: the probe notes the names and holds no data.
    let _ = P::deserialize(FieldProbe(&mut names));
    names
}

struct FieldProbe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldProbe<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(serde::de::Error::custom("only the names were asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("parameters are a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        left: u8,
        #[serde(default)]
        right: Option<String>,
    }

    fn pair(given: Value) -> Result<Pair, RpcError> {
        typed_params(given, field_names::<Pair>())
    }

    #[test]
    fn parameters_are_read_by_name_and_by_position() {
        let full = Pair {
            left: 1,
            right: Some("x".to_owned()),
        };
        assert_eq!(pair(json!({"left": 1, "right": "x"})).unwrap(), full);
        assert_eq!(pair(json!([1, "x"])).unwrap(), full);
        assert_eq!(pair(json!({"left": 1})).unwrap().right, None);
        assert_eq!(pair(json!([1])).unwrap().right, None);
    }

    #[test]
    fn an_error_names_the_parameter() {
        for (given, parameter) in [
            (json!({}), "left"),
            (json!({"left": "one"}), "left"),
            (json!({"left": 256}), "left"),
            (json!({"left": 1, "right": 2}), "right"),
            (json!({"left": 1, "rihgt": "x"}), "rihgt"),
            (json!(["one"]), "left"),
            (json!([1, 2]), "right"),
        ] {
            let error = pair(given.clone()).unwrap_err();
            assert_eq!(error.code, -32_602);
            assert_eq!(
                error.data,
                Some(json!({ "parameter": parameter })),
                "{given} {error}"
            );
        }
        assert_eq!(pair(json!([1, "x", 3])).unwrap_err().code, -32_602);
        assert_eq!(pair(json!([])).unwrap_err().code, -32_602);
    }

    #[test]
    #[should_panic(expected = "added once")]
    fn a_name_cannot_be_added_twice() {
        let mut methods = Methods::new();
        for _ in 0..2 {
            methods.add("a.b", "", async |_: Caller, _: NoParams| Ok(()));
        }
    }
}
