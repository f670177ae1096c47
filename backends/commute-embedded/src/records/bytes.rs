//! The parts that records are made of. Numbers are little endian; a text is its length (u32) and its UTF-8.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use commute_core::Timestamp;

pub(crate) fn put_text(to: &mut Vec<u8>, text: &str) {
    to.put_u32_le(text.len() as u32);
    to.put_slice(text.as_bytes());
}

pub(crate) fn str<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let length = from.try_get_u32_le().ok()? as usize;
    std::str::from_utf8(slice(from, length)?).ok()
}

pub(crate) fn text(from: &mut &[u8]) -> Option<Arc<str>> {
    str(from).map(Into::into)
}

pub(crate) fn slice<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (slice, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(slice)
}

pub(crate) fn put_optional<T>(to: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    to.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(to, value);
    }
}

pub(crate) fn optional<'a, T>(from: &mut &'a [u8], read: impl FnOnce(&mut &'a [u8]) -> Option<T>) -> Option<Option<T>> {
    match from.try_get_u8().ok()? {
        0 => Some(None),
        1 => read(from).map(Some),
        _ => None,
    }
}

pub(crate) fn put_time(to: &mut Vec<u8>, time: Timestamp) {
    to.put_i64_le(time.0);
}

pub(crate) fn time(from: &mut &[u8]) -> Option<Timestamp> {
    from.try_get_i64_le().ok().map(Timestamp)
}

pub(crate) fn id(from: &mut &[u8]) -> Option<[u8; 16]> {
    slice(from, 16)?.try_into().ok()
}
