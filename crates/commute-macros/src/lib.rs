//! The derives: `Event` for a fact, `Events` for one of several.
//!
//! They write what a person would write by hand and nothing else: no hidden registry, no code that runs at start. What
//! they expand to is shown with each. Applications use them through the `commute` crate.

mod attribute;
mod event;
mod events;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a type an `Event`.
///
/// ```
/// use commute_core::Event as _;
/// use commute_macros::Event;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.placed", version = 2, key = "order")]
/// # #[event(crate = "commute_core")]
/// struct OrderPlaced {
///     order: String,
///     customer: String,
/// }
///
/// let event = OrderPlaced { order: "536365".into(), customer: "17850".into() };
/// assert_eq!((OrderPlaced::TYPE, OrderPlaced::VERSION), ("shop.order.placed", 2));
/// assert_eq!(event.key().as_deref(), Some("536365"));
/// ```
///
/// | `#[event(…)]` | Meaning | When left out |
/// |---|---|---|
/// | `type = "…"` | the name on the wire | must be given |
/// | `version = 2` | the version of the payload, from 1 | 1 |
/// | `key = "order"` | the field that is the key, written with `Display`; `"customer.id"` reaches into a field, `"0"` into a tuple | no key |
/// | `key("shop", "order")` | several fields, joined by `/` | |
/// | `crate = "commute_core"` | where the traits are, for crates that do not depend on `commute` | `::commute` |
///
/// A field of type `Option` gives a key when it has a value. It expands to:
///
/// ```text
/// impl Event for OrderPlaced {
///     const TYPE: &'static str = "shop.order.placed";
///     const VERSION: u16 = 2;
///     fn key(&self) -> Option<String> { Some(self.order.to_string()) }
/// }
/// ```
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes an enum of events something that a handler takes, and something that it answers with.
///
/// ```
/// use commute_core::{Answer as _, Incoming as _, Types};
/// use commute_macros::{Event, Events};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "shop.stock.reserved", key = "order")]
/// # #[event(crate = "commute_core")]
/// struct StockReserved { order: String }
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "shop.stock.short", key = "order")]
/// # #[event(crate = "commute_core")]
/// struct StockShort { order: String }
///
/// #[derive(Debug, Events)]
/// # #[event(crate = "commute_core")]
/// enum StockAnswer {
///     Reserved(StockReserved),
///     Short(StockShort),
/// }
///
/// assert_eq!(StockAnswer::types(), Types::Only(vec!["shop.stock.reserved", "shop.stock.short"]));
/// let mut emitted = Vec::new();
/// StockAnswer::Short(StockShort { order: "536365".into() }).emit(&mut emitted).unwrap();
/// assert_eq!(emitted[0].event_type, "shop.stock.short");
/// ```
///
/// As the first argument of a handler it takes all its types; which one came decides the variant. As an answer the one
/// event in it is published. Every variant holds exactly one event.
#[proc_macro_derive(Events, attributes(event))]
pub fn derive_events(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    events::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
