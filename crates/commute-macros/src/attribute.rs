//! The attribute: what `#[event(…)]` says, checked as far as it can be without the type it stands on.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, LitInt, LitStr, Path, Result, Token, parenthesized, parse_quote};

/// Everything that can be said; the derives decide what must and what must not.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<u16>,
    pub(crate) keys: Vec<LitStr>,
    krate: Option<Path>,
    /// Where something was said that only an event can say.
    pub(crate) about_event: Option<Span>,
}

impl Attributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut said = Attributes::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("event")) {
            attribute.parse_nested_meta(|meta| said.add(&meta))?;
        }
        Ok(said)
    }

    /// The module that has the traits.
    pub(crate) fn krate(&self) -> Path {
        self.krate.clone().unwrap_or_else(|| parse_quote!(::commute::__private))
    }

    fn add(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let is = |name: &str| meta.path.is_ident(name);
        if is("crate") {
            let path: LitStr = meta.value()?.parse()?;
            return once(&mut self.krate, path.parse()?, meta);
        }
        let span = meta.path.segments.first().map_or_else(Span::call_site, |segment| segment.ident.span());
        self.about_event.get_or_insert(span);
        if is("type") {
            let name: LitStr = meta.value()?.parse()?;
            check_name(&name)?;
            once(&mut self.name, name, meta)
        } else if is("version") {
            let literal: LitInt = meta.value()?.parse()?;
            let wrong = || Error::new(literal.span(), "a version is a number from 1 to 65535");
            let version = literal.base10_parse().ok().filter(|version| *version > 0).ok_or_else(wrong)?;
            once(&mut self.version, version, meta)
        } else if is("key") {
            self.add_keys(meta)
        } else {
            Err(meta.error("unknown attribute; there are `type`, `version`, `key` and `crate`"))
        }
    }

    fn add_keys(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if !self.keys.is_empty() {
            return Err(meta.error("given twice; several fields are `key(\"a\", \"b\")`"));
        }
        if meta.input.peek(syn::token::Paren) {
            let fields;
            parenthesized!(fields in meta.input);
            self.keys = Punctuated::<LitStr, Token![,]>::parse_terminated(&fields)?.into_iter().collect();
        } else {
            self.keys = vec![meta.value()?.parse()?];
        }
        match self.keys.is_empty() {
            true => Err(meta.error("name at least one field")),
            false => Ok(()),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(meta.error("given twice")),
    }
}

fn check_name(name: &LitStr) -> Result<()> {
    let text = name.value();
    if text.is_empty() {
        return Err(Error::new(
            name.span(),
            "the type of an event is a name, like \"shop.order.placed\"; it cannot be empty",
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::new(
            name.span(),
            "the type of an event has no spaces; use dots, like \"shop.order.placed\"",
        ));
    }
    Ok(())
}
