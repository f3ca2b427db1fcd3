//! The order of values, and a form of them whose byte order is theirs. Invariant: what is decoded is what was encoded, and
//! of two values of a kind the lesser has the lesser form.

use std::cmp::Ordering;

use super::{Kind, Value};

/// The bits that a number's sign takes.
const SIGN: u64 = 1 << 63;

/// The order of two values, none where they are of different kinds.
#[must_use]
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
        (Value::Boolean(a), Value::Boolean(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// The form of a value, in lowercase hexadecimal digits: the digits of a text's beginning begin those of the text.
#[must_use]
pub fn encode(value: &Value) -> String {
    match value {
        Value::Text(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        Value::Number(number) => {
            // Adding makes one zero of the two.
            let bits = (number + 0.0).to_bits();
            format!("{:016x}", if bits & SIGN == 0 { bits | SIGN } else { !bits })
        }
        Value::Boolean(boolean) => if *boolean { "1" } else { "0" }.to_owned(),
    }
}

/// The value of a form; none when it is no form of the kind.
#[must_use]
pub fn decode(kind: Kind, form: &str) -> Option<Value> {
    match kind {
        Kind::Text => {
            let digits = form.as_bytes().chunks(2).map(|pair| {
                std::str::from_utf8(pair)
                    .ok()
                    .filter(|pair| pair.len() == 2)
                    .map(|pair| u8::from_str_radix(pair, 16).ok())
            });
            let bytes: Option<Vec<u8>> = digits.map(Option::flatten).collect();
            String::from_utf8(bytes?).ok().map(Value::Text)
        }
        Kind::Number => {
            let bits = u64::from_str_radix(form, 16).ok().filter(|_| form.len() == 16)?;
            Some(Value::Number(f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN })))
        }
        Kind::Boolean => match form {
            "0" => Some(Value::Boolean(false)),
            "1" => Some(Value::Boolean(true)),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>().prop_filter("finite", |number| number.is_finite()), Just(-0.0), Just(0.0), -3.0..3.0]
    }

    proptest! {
        #[test]
        fn forms_are_in_the_order_of_numbers(a in number(), b in number()) {
            let (a, b) = (Value::Number(a), Value::Number(b));
            prop_assert_eq!(Some(encode(&a).cmp(&encode(&b))), compare(&a, &b));
            prop_assert_eq!(decode(Kind::Number, &encode(&a)), Some(a));
        }

        #[test]
        fn forms_are_in_the_order_of_texts(a in "\\PC{0,9}", b in "\\PC{0,9}") {
            let (a, b) = (Value::Text(a), Value::Text(b));
            prop_assert_eq!(Some(encode(&a).cmp(&encode(&b))), compare(&a, &b));
            prop_assert_eq!(decode(Kind::Text, &encode(&a)), Some(a));
        }

        #[test]
        fn other_texts_are_no_forms(text in "[g-z.]{1,20}") {
            for kind in [Kind::Text, Kind::Number, Kind::Boolean] {
                prop_assert_eq!(decode(kind, &text), None);
            }
        }
    }

    #[test]
    fn kinds_are_not_compared() {
        assert_eq!(compare(&Value::Text("1".into()), &Value::Number(1.0)), None);
    }
}
