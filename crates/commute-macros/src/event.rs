//! `derive(Event)`: name, version and key of one event.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput, Error, Fields, LitStr, Member, Result, Type};

use crate::attribute::Attributes;

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let said = Attributes::parse(&input.attrs)?;
    not_generic(input, "an event")?;
    if let Data::Union(union) = &input.data {
        return Err(Error::new(union.union_token.span, "an event is a struct or an enum"));
    }
    let name = said.name.as_ref().ok_or_else(|| {
        let missing = format!("the event has no name on the wire; add `#[event(type = \"shop.{}\")]`", input.ident);
        Error::new(input.ident.span(), missing)
    })?;
    let (krate, ident) = (said.krate(), &input.ident);
    let version = said.version.unwrap_or(1);
    let key = key(&said.keys, &input.data)?;
    Ok(quote! {
        #[automatically_derived]
        impl #krate::Event for #ident {
            const TYPE: &'static str = #name;
            const VERSION: u16 = #version;
            #key
        }
    })
}

/// Payloads are decoded by name alone, so one name cannot stand for many types.
pub(crate) fn not_generic(input: &DeriveInput, what: &str) -> Result<()> {
    match input.generics.params.is_empty() {
        true => Ok(()),
        false => Err(Error::new_spanned(
            &input.generics,
            format!("{what} cannot be generic: its name on the wire stands for one type"),
        )),
    }
}

fn key(keys: &[LitStr], data: &Data) -> Result<TokenStream> {
    let fields = match (keys.first(), data) {
        (None, _) => return Ok(TokenStream::new()),
        (Some(_), Data::Struct(data)) => &data.fields,
        (Some(key), _) => {
            return Err(Error::new(key.span(), "only a struct has fields; write `impl Event` by hand to key an enum"));
        }
    };
    let parts = keys.iter().map(|key| KeyField::find(key, fields)).collect::<Result<Vec<_>>>()?;
    let body = match &parts[..] {
        [only] => only.text(),
        several => {
            let texts = several.iter().map(KeyField::text);
            quote! {
                ::core::option::Option::Some([#(#texts?),*].join("/"))
            }
        }
    };
    Ok(quote! {
        fn key(&self) -> ::core::option::Option<::std::string::String> {
            #body
        }
    })
}

/// A field that is the key, or a part of it.
struct KeyField {
    path: Vec<Member>,
    optional: bool,
    span: Span,
}

impl KeyField {
    fn find(key: &LitStr, fields: &Fields) -> Result<Self> {
        let wrong = || Error::new(key.span(), "a key is the name of a field, or a path to one, like \"customer.id\"");
        let path: Vec<Member> = key
            .value()
            .split('.')
            .map(|name| syn::parse_str::<Member>(name).map_err(|_| wrong()))
            .collect::<Result<_>>()?;
        let first = path.first().ok_or_else(wrong)?;
        let field = fields.members().zip(fields).find(|(member, _)| member == first);
        let (_, field) = field.ok_or_else(|| {
            let known: Vec<_> = fields.members().map(|member| format!("`{}`", name(&member))).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::new(key.span(), format!("the event has no field `{}`; its fields: {known}", name(first)))
        })?;
        Ok(KeyField { optional: path.len() == 1 && is_option(&field.ty), path, span: key.span() })
    }

    /// Errors about a field that cannot be written as text should point at the attribute, hence the span.
    fn text(&self) -> TokenStream {
        let path = self.path.iter();
        match self.optional {
            true => quote_spanned! {self.span=>
                ::core::option::Option::map(self.#(#path).*.as_ref(), ::std::string::ToString::to_string)
            },
            false => quote_spanned! {self.span=>
                ::core::option::Option::Some(::std::string::ToString::to_string(&self.#(#path).*))
            },
        }
    }
}

fn name(member: &Member) -> String {
    match member {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

/// By its name, as serde does: a macro sees no types.
fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option"))
}
