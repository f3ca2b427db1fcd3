//! [`component`]: what a compiler left, as a component.
//!
//! A core module is encoded with the WIT that its bindings carry; a component is taken as it is. Invariant: what comes out was
//! validated.

use wasmparser::{Parser, Validator, WasmFeatures};
use wit_component::ComponentEncoder;

use crate::Error;

/// The component that a module or a component is.
///
/// # Errors
/// It is neither, or can't be encoded.
pub fn component(compiled: &[u8]) -> Result<Vec<u8>, Error> {
    if !Parser::is_core_wasm(compiled) {
        validate(compiled)?;
        return Ok(compiled.to_vec());
    }
    let refused = |what: &str, error: &dyn std::fmt::Display| Error::Component(format!("{what}: {error}"));
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(compiled).map_err(|error| {
        refused("its module carries no usable description of its interfaces", &format!("{error:#}"))
    })?;
    encoder.encode().map_err(|error| refused("its module can't be made a component", &format!("{error:#}")))
}

/// Checks that the bytes are one well-formed component.
///
/// # Errors
/// They are none.
pub fn validate(component: &[u8]) -> Result<(), Error> {
    if !Parser::is_component(component) {
        return Err(Error::Component("what was built is no component".to_owned()));
    }
    let checked = Validator::new_with_features(WasmFeatures::all()).validate_all(component);
    checked.map(drop).map_err(|error| Error::Component(format!("it is no valid component: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_told() {
        for (bytes, words) in
            [(&b""[..], "no component"), (b"text", "no component"), (b"\0asm\x01\0\0\0\xff", "interfaces")]
        {
            let error = component(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
