//! Replaces bytes in lines (`-r` and `-R`). Pure: no I/O.

/// What each byte is replaced by.
pub(crate) struct Replacements(Box<[u8; 256]>);

impl Replacements {
    /// The replacements for `-r` `by` and `-R` `also`; `None` if neither option is given, so that nothing is replaced.
    ///
    /// Non-printable bytes and those in `also` are replaced by `by`, or by `_` without `-r`.
    pub(crate) fn new(by: Option<u8>, also: Option<&[u8]>) -> Option<Self> {
        if by.is_none() && also.is_none() {
            return None;
        }
        let mut table = Box::new([by.unwrap_or(b'_'); 256]);
        for (byte, place) in (0..=u8::MAX).zip(table.iter_mut()) {
            if matches!(byte, b' '..=b'~') && !also.unwrap_or_default().contains(&byte) {
                *place = byte;
            }
        }
        Some(Replacements(table))
    }

    /// `text` with its bytes replaced.
    pub(crate) fn apply(&self, text: &[u8]) -> Vec<u8> {
        let table = &*self.0;
        text.iter().map(|&byte| table.get(usize::from(byte)).copied().unwrap_or(byte)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_replaced() {
        let replaced = |by, also, text: &[u8]| Replacements::new(by, also).unwrap().apply(text);
        assert_eq!(replaced(Some(b':'), Some(b"fb"), b"fa\t\xff~"), b":a::~");
        assert_eq!(replaced(None, Some(b"x"), b"x"), b"_");
        assert_eq!(replaced(Some(b'?'), None, b"\0 x\x7f"), b"? x?");
        assert!(Replacements::new(None, None).is_none());
    }
}
