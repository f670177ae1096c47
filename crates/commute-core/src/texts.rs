//! Texts that many events have in common: equal ones share their memory.

use std::sync::Arc;

/// How many texts are remembered; those of one topic are few.
const SLOTS: usize = 32;
/// A longer text is not remembered, so that nobody else's texts take much memory.
const LONGEST: usize = 256;

/// Remembers texts that come again and again, such as the sources and types of the events of a topic. What it remembers is
/// bounded; a text that it does not remember is copied.
///
/// ```
/// use std::sync::Arc;
///
/// let mut texts = commute_core::Texts::default();
/// let (first, second) = (texts.share("shop.order.placed"), texts.share("shop.order.placed"));
/// assert!(Arc::ptr_eq(&first, &second));
/// ```
#[derive(Debug, Default)]
pub struct Texts([Option<Arc<str>>; SLOTS]);

impl Texts {
    /// The text, in the memory of an equal one where one is remembered.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if text.len() > LONGEST {
            return text.into();
        }
        let slot = &mut self.0[xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as usize % SLOTS];
        match slot {
            Some(known) if **known == *text => known.clone(),
            _ => slot.insert(text.into()).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_the_same_text() {
        let mut texts = Texts::default();
        for n in 0..1000 {
            let text = "x".repeat(n % 300);
            assert_eq!(*texts.share(&text), *text);
        }
    }

    #[test]
    fn very_long_texts_are_not_remembered() {
        let (mut texts, text) = (Texts::default(), "x".repeat(LONGEST + 1));
        assert!(!Arc::ptr_eq(&texts.share(&text), &texts.share(&text)));
    }
}
