//! AMF0, the values that RTMP commands and metadata are made of (Adobe AMF 0 specification).

/// Values inside one another; real ones have two.
const MAX_DEPTH: usize = 8;

/// Values in one message: real commands have a dozen, metadata some dozens.
const MAX_VALUES: usize = 1024;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text. What is no UTF-8 has replacement characters.
    String(String),
    /// Names and values in their order; also an "ECMA array".
    Object(Vec<(String, Value)>),
    /// Values in their order.
    Array(Vec<Value>),
    /// Nothing.
    Null,
    /// Nothing either.
    Undefined,
}

/// The bytes are no AMF0, or more of it than anybody sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a command or metadata is not AMF0, or larger than any")]
pub struct NotAmf0;

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// An object of these.
    pub fn object<const N: usize>(fields: [(&str, Self); N]) -> Self {
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        Self::Object(fields.into())
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A field of an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => {
                let mut fields = fields.iter();
                fields
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// Reads all values of a message.
///
/// # Errors
/// [`NotAmf0`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Value>, NotAmf0> {
    let mut reader = Reader {
        rest: bytes,
        values: 0,
    };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], NotAmf0> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(NotAmf0)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<u64, NotAmf0> {
        let bytes = self.take(N)?;
        Ok(bytes
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn text(&mut self, len: u64) -> Result<String, NotAmf0> {
        let len = usize::try_from(len).map_err(|_| NotAmf0)?;
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Value, NotAmf0> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(NotAmf0);
        }
        Ok(match self.number::<1>()? {
            0 => Value::Number(f64::from_bits(self.number::<8>()?)),
            1 => Value::Boolean(self.number::<1>()? != 0),
            2 => {
                let len = self.number::<2>()?;
                Value::String(self.text(len)?)
            }
            3 => Value::Object(self.fields(depth)?),
            5 => Value::Null,
            6 => Value::Undefined,
            8 => {
                // The count is a hint that is often wrong.
                self.take(4)?;
                Value::Object(self.fields(depth)?)
            }
            10 => {
                let count = self.number::<4>()?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::Array(values)
            }
            11 => {
                let ms = f64::from_bits(self.number::<8>()?);
                self.take(2)?;
                Value::Number(ms)
            }
            12 | 15 => {
                let len = self.number::<4>()?;
                Value::String(self.text(len)?)
            }
            _ => return Err(NotAmf0),
        })
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<(String, Value)>, NotAmf0> {
        let mut fields = Vec::new();
        loop {
            // Some writers leave the end out.
            if self.rest.is_empty() {
                return Ok(fields);
            }
            let len = self.number::<2>()?;
            let name = self.text(len)?;
            if name.is_empty() && self.rest.first() == Some(&9) {
                self.take(1)?;
                return Ok(fields);
            }
            fields.push((name, self.value(depth + 1)?));
        }
    }
}

/// The bytes of values.
#[must_use]
pub fn encode(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        write(value, &mut bytes);
    }
    bytes
}

fn write(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            to.push(0);
            to.extend(number.to_bits().to_be_bytes());
        }
        Value::Boolean(boolean) => to.extend([1, u8::from(*boolean)]),
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(len) => {
                to.push(2);
                to.extend(len.to_be_bytes());
                to.extend(text.as_bytes());
            }
            Err(_) => {
                to.push(12);
                to.extend((text.len() as u32).to_be_bytes());
                to.extend(text.as_bytes());
            }
        },
        Value::Object(fields) => {
            to.push(3);
            for (name, value) in fields {
                let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
                to.extend((name.len() as u16).to_be_bytes());
                to.extend(name);
                write(value, to);
            }
            to.extend([0, 0, 9]);
        }
        Value::Array(values) => {
            to.push(10);
            to.extend((values.len() as u32).to_be_bytes());
            for value in values {
                write(value, to);
            }
        }
        Value::Null => to.push(5),
        Value::Undefined => to.push(6),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (-1e12..1e12).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            "[a-zA-Z0-9 ]{0,20}".prop_map(Value::String),
            Just(Value::Null),
            Just(Value::Undefined),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(("[a-z]{1,9}", inner.clone()), 0..6)
                    .prop_map(Value::Object),
                proptest::collection::vec(inner, 0..6).prop_map(Value::Array),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec(value(), 0..6)) {
            prop_assert_eq!(decode(&encode(&values)).unwrap(), values);
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn depth_and_number_of_values_have_a_bound() {
        let mut deep = Vec::new();
        for _ in 0..100_000 {
            deep.extend([10, 0, 0, 0, 1]);
        }
        assert_eq!(decode(&deep), Err(NotAmf0));
        // An array that says it has 4 billion values, and has many.
        let mut wide = vec![10, 0xff, 0xff, 0xff, 0xff];
        wide.resize(1 << 20, 5);
        assert_eq!(decode(&wide), Err(NotAmf0));
    }
}
