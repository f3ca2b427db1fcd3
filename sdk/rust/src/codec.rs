//! A compact form for what plugins store and hand over: numbers in little endian, bytes and text after their length. It
//! knows nothing of what the fields mean; put a version number first.
//!
//! ```
//! use platform_sdk::codec::{Reader, Writer};
//!
//! let mut writer = Writer::new();
//! writer.u8(1).text("checkout").u64(42);
//! let bytes = writer.finish();
//!
//! let mut reader = Reader::new(&bytes);
//! assert_eq!((reader.u8()?, reader.text()?, reader.u64()?), (1, "checkout", 42));
//! reader.end()?;
//! # Ok::<(), platform_sdk::codec::Malformed>(())
//! ```

/// Bytes that are not what the reader expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored form is damaged or from a newer version of the plugin")]
pub struct Malformed;

/// Result of reading.
pub type Result<T> = std::result::Result<T, Malformed>;

/// Builds the form, field by field.
#[derive(Debug, Clone, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Nothing written yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Nothing written yet, and room for `bytes`: what is large should not be copied while it grows.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// A number in one byte for each 7 bits: most lengths and counts are small.
    pub fn u64(&mut self, mut value: u64) -> &mut Self {
        while value > 0x7f {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
        self
    }

    /// A number that may be absent.
    pub fn optional(&mut self, value: Option<u64>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).u64(value),
        }
    }

    /// How many fields follow, or how long something is.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.u64(count as u64)
    }

    /// Bytes after their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Text after its length.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads the form, field by field, in the order written.
#[derive(Debug, Clone)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end.
    pub fn u8(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number.
    ///
    /// # Errors
    /// At the end, or when it does not fit in 64 bits.
    pub fn u64(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return Err(Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A number that may be absent.
    ///
    /// # Errors
    /// As [`Self::u64`].
    pub fn optional(&mut self) -> Result<Option<u64>> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.u64().map(Some),
            _ => Err(Malformed),
        }
    }

    /// How many fields follow: never more than bytes are left, so that it can size a buffer.
    ///
    /// # Errors
    /// At the end, or when it can't be true.
    pub fn count(&mut self) -> Result<usize> {
        let count = self.u64()?;
        usize::try_from(count).ok().filter(|count| *count <= self.0.len()).ok_or(Malformed)
    }

    /// Bytes.
    ///
    /// # Errors
    /// When there are fewer than announced.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Text.
    ///
    /// # Errors
    /// When there are fewer bytes than announced, or they are no UTF-8.
    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).ok().ok_or(Malformed)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub const fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_was_written(number: u64, maybe: Option<u64>, bytes: Vec<u8>, text: String) {
            let mut writer = Writer::new();
            writer.u8(7).u64(number).optional(maybe).bytes(&bytes).text(&text);
            let form = writer.finish();
            let mut reader = Reader::new(&form);
            prop_assert_eq!(reader.u8(), Ok(7));
            prop_assert_eq!(reader.u64(), Ok(number));
            prop_assert_eq!(reader.optional(), Ok(maybe));
            prop_assert_eq!(reader.bytes(), Ok(bytes.as_slice()));
            prop_assert_eq!(reader.text(), Ok(text.as_str()));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn a_cut_form_is_refused(number: u64, text in ".{1,20}", keep in 0.0..1.0_f64) {
            let mut writer = Writer::new();
            writer.u64(number).text(&text);
            let form = writer.finish();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a short length")]
            let cut = (form.len() as f64 * keep) as usize;
            let mut reader = Reader::new(&form[..cut]);
            prop_assert!(reader.u64().and_then(|_| reader.text()).is_err());
        }

        #[test]
        fn garbage_never_panics_and_never_sizes_a_buffer(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(count) = reader.count() {
                prop_assert!(count <= bytes.len());
            }
            let _ = Reader::new(&bytes).text();
        }
    }

    #[test]
    fn a_number_over_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).u64(), Err(Malformed));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).u64(), Err(Malformed));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).u64(), Ok(u64::MAX));
    }
}
