//! `#[derive(Choice)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Result};

pub(super) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new_spanned(input, "a choice is an enum"));
    };
    let name = &input.ident;
    let (mut idents, mut words) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(variant, "a choice has no data"));
        }
        let renamed = variant.attrs.iter().find(|a| a.path().is_ident("value"));
        words.push(match renamed {
            Some(attribute) => attribute.parse_args::<LitStr>()?.value(),
            None => variant.ident.to_string(),
        });
        idents.push(&variant.ident);
    }
    Ok(quote! {
        impl crate::metadata::Choice for #name {
            const WORDS: &'static [&'static str] = &[#(#words),*];

            fn pick(word: &str) -> Option<Self> {
                match word {
                    #(#words => Some(Self::#idents),)*
                    _ => None,
                }
            }
        }

        impl crate::metadata::FromParameter for #name {
            const KIND: crate::metadata::Kind = crate::metadata::Kind::OneOf(<Self as crate::metadata::Choice>::WORDS);

            fn from_text(text: &str, _: &crate::metadata::Parameter) -> Result<Self, String> {
                crate::metadata::choose(text)
            }
        }
    })
}
