//! Kafka's primitive types, as the older versions of its requests write them.

use crate::error::ScalerError;

/// A request under construction.
#[derive(Debug, Default)]
pub(super) struct Write(pub(super) Vec<u8>);

impl Write {
    pub(super) fn i8(&mut self, value: i8) -> &mut Self {
        self.bytes_of(&value.to_be_bytes())
    }

    pub(super) fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes_of(&value.to_be_bytes())
    }

    pub(super) fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes_of(&value.to_be_bytes())
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes_of(&value.to_be_bytes())
    }

    /// A text of at most 32,767 bytes; names in Kafka have at most 249.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
        self.i16(length).bytes_of(&text.as_bytes()[..usize::from(length.unsigned_abs())])
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len()).bytes_of(bytes)
    }

    pub(super) fn each<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.length(items.len());
        for item in items {
            write(self, item);
        }
        self
    }

    pub(super) fn length(&mut self, length: usize) -> &mut Self {
        self.i32(i32::try_from(length).unwrap_or(i32::MAX))
    }

    fn bytes_of(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }
}

/// What is left of an answer.
#[derive(Debug)]
pub(super) struct Read<'a>(pub(super) &'a [u8]);

type Answer<T> = Result<T, ScalerError>;

impl<'a> Read<'a> {
    pub(super) fn bool(&mut self) -> Answer<bool> {
        Ok(self.take(1)? != [0])
    }

    pub(super) fn i16(&mut self) -> Answer<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Answer<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Answer<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// `None` for null.
    pub(super) fn text(&mut self) -> Answer<Option<String>> {
        let length = self.i16()?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(self.take(length)?).into_owned()))
    }

    pub(super) fn name(&mut self) -> Answer<String> {
        self.text()?.ok_or_else(odd)
    }

    pub(super) fn bytes(&mut self) -> Answer<&'a [u8]> {
        let length = self.i32()?;
        let Ok(length) = usize::try_from(length) else { return Ok(&[]) };
        self.take(length)
    }

    /// A list; null is empty. Its length is not believed: it ends when the answer does.
    pub(super) fn each<T>(&mut self, mut read: impl FnMut(&mut Self) -> Answer<T>) -> Answer<Vec<T>> {
        let length = self.i32()?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn fixed<const N: usize>(&mut self) -> Answer<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| odd())
    }

    fn take(&mut self, length: usize) -> Answer<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(odd)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The answer is not what Kafka answers.
pub(super) fn odd() -> ScalerError {
    ScalerError::Unavailable("the server does not speak Kafka's protocol".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut write = Write::default();
        write.i8(1).i16(-2).i32(3).i64(-4).text("topic").bytes(b"xyz");
        write.each(&["a", "b"], |write, text| {
            write.text(text);
        });
        let mut read = Read(&write.0);
        assert!(read.bool().unwrap());
        assert_eq!((read.i16().unwrap(), read.i32().unwrap(), read.i64().unwrap()), (-2, 3, -4));
        assert_eq!((read.name().unwrap().as_str(), read.bytes().unwrap()), ("topic", &b"xyz"[..]));
        assert_eq!(read.each(Read::name).unwrap(), ["a", "b"]);
        assert!(read.0.is_empty() && read.i16().is_err());
    }

    #[test]
    fn a_length_that_is_not_there_is_an_error_and_costs_nothing() {
        for bytes in [&[0x7F, 0xFF, 0xFF, 0xFF][..], &[0x7F, 0xFF, 0xFF, 0xFF, 0, 1, b'a'], &[0]] {
            assert!(Read(bytes).each(Read::name).is_err());
            assert!(Read(bytes).bytes().is_err());
            assert!(Read(bytes).text().is_err());
        }
        assert_eq!(Read(&[0xFF, 0xFF]).text().unwrap(), None);
        assert_eq!(Read(&[0xFF, 0xFF, 0xFF, 0xFF]).each(Read::name).unwrap(), Vec::<String>::new());
    }
}
