//! Layers around handlers: tower's own, and `from_fn` for everything that fits in one function.

mod from_fn;

pub use from_fn::{FromFn, FromFnLayer, Next, from_fn};
