//! `derive(Events)`: one of several events, as what a handler takes and as what it answers.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Result, Type, Variant};

use crate::attribute::Attributes;
use crate::event::not_generic;

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let said = Attributes::parse(&input.attrs)?;
    if let Some(span) = said.about_event {
        return Err(Error::new(span, "a set of events has no name, version or key of its own; its events have"));
    }
    not_generic(input, "a set of events")?;
    let variants = variants(input)?;
    let (krate, ident) = (said.krate(), &input.ident);
    let incoming = incoming(&krate, ident, &variants);
    let answer = answer(&krate, ident, &variants);
    Ok(quote!(#incoming #answer))
}

fn variants(input: &DeriveInput) -> Result<Vec<(&Ident, &Type)>> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "a set of events is an enum with one event per variant"));
    };
    if data.variants.is_empty() {
        return Err(Error::new(input.ident.span(), "a set of events needs at least one variant"));
    }
    let variants = data.variants.iter().map(event_of).collect::<Result<Vec<_>>>()?;
    for (n, (_, ty)) in variants.iter().enumerate() {
        let text = ty.to_token_stream().to_string();
        if variants[..n].iter().any(|(_, other)| other.to_token_stream().to_string() == text) {
            return Err(Error::new_spanned(ty, "two variants hold the same event; which one should it become?"));
        }
    }
    Ok(variants)
}

fn event_of(variant: &Variant) -> Result<(&Ident, &Type)> {
    match &variant.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok((&variant.ident, &fields.unnamed[0].ty)),
        _ => {
            let wrong = format!("a variant holds exactly one event, like `{}(OrderPlaced)`", variant.ident);
            Err(Error::new_spanned(variant, wrong))
        }
    }
}

fn incoming(krate: &syn::Path, ident: &Ident, variants: &[(&Ident, &Type)]) -> TokenStream {
    let names = variants.iter().map(|(_, ty)| name_of(krate, ty));
    let decode = variants.iter().map(|(variant, ty)| {
        let name = name_of(krate, ty);
        quote! {
            if &*envelope.event_type == #name {
                return <#ty as #krate::Incoming>::decode(envelope).map(Self::#variant);
            }
        }
    });
    let keys = variants.iter().map(|(variant, ty)| quote!(Self::#variant(event) => <#ty as #krate::Event>::key(event)));
    quote! {
        #[automatically_derived]
        impl #krate::Incoming for #ident {
            fn types() -> #krate::Types {
                #krate::Types::Only(::std::vec![#(#names),*])
            }

            fn decode(envelope: &#krate::Envelope) -> #krate::Result<Self> {
                #(#decode)*
                ::core::result::Result::Err(#krate::Error::new(
                    #krate::Code::UnknownType,
                    ::std::format!(
                        "event {} is a {}, which is none of the set {}",
                        envelope.id,
                        envelope.event_type,
                        ::core::stringify!(#ident),
                    ),
                ))
            }

            fn key(&self) -> ::core::option::Option<::std::string::String> {
                match self { #(#keys,)* }
            }
        }
    }
}

fn answer(krate: &syn::Path, ident: &Ident, variants: &[(&Ident, &Type)]) -> TokenStream {
    let names = variants.iter().map(|(_, ty)| name_of(krate, ty));
    let emit = variants
        .iter()
        .map(|(variant, _)| quote!(Self::#variant(event) => events.push(#krate::Emitted::encode(&event)?)));
    quote! {
        #[automatically_derived]
        impl #krate::Answer for #ident {
            fn emits(types: &mut ::std::vec::Vec<&'static str>) {
                types.extend([#(#names),*]);
            }

            fn emit(self, events: &mut ::std::vec::Vec<#krate::Emitted>) -> #krate::Result<()> {
                match self { #(#emit,)* }
                ::core::result::Result::Ok(())
            }
        }
    }
}

/// Spanned at the event, so that one without `derive(Event)` is pointed at.
fn name_of(krate: &syn::Path, ty: &Type) -> TokenStream {
    quote_spanned!(ty.span()=> <#ty as #krate::Event>::TYPE)
}
