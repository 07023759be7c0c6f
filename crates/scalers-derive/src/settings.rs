//! `#[derive(TriggerMetadata)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident, Path, Result};

use crate::parameter::Parameter;
use crate::{doc, pair, texts};

/// What `#[trigger(…)]` says.
#[derive(Default)]
struct Rules {
    exclusive: Vec<Vec<String>>,
    some_of: Vec<Vec<String>>,
    together: Vec<(String, String)>,
    removed: Vec<(String, String)>,
    ignored: Vec<(String, String)>,
    open: bool,
    check: Option<Path>,
}

impl Rules {
    fn item(&mut self, meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
        let word = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
        match word.as_str() {
            "exclusive" => self.exclusive.push(texts(meta)?),
            "some_of" => self.some_of.push(texts(meta)?),
            "together" => self.together.push(pair(meta)?),
            "removed" => self.removed.push(pair(meta)?),
            "ignored" => self.ignored.push(pair(meta)?),
            "open" => self.open = true,
            "check" => self.check = Some(meta.value()?.parse()?),
            _ => return Err(meta.error("is not an item of #[trigger]; see the crate's page")),
        }
        Ok(())
    }
}

pub(super) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(syn::DataStruct { fields: Fields::Named(fields), .. }) = &input.data else {
        return Err(Error::new_spanned(input, "settings are a struct with named fields"));
    };
    let mut rules = Rules::default();
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("trigger")) {
        attribute.parse_nested_meta(|meta| rules.item(&meta))?;
    }
    let parameters = fields.named.iter().map(Parameter::parse).collect::<Result<Vec<_>>>()?;

    let (mut constants, mut entries, mut reads, mut moves) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, parameter) in parameters.iter().enumerate() {
        let (field, r#type) = (&parameter.field, &parameter.r#type);
        let constant = format_ident!("PARAMETER_{index}");
        if parameter.nested {
            entries.push(quote!(crate::metadata::Entry::Group(<#r#type as crate::metadata::TriggerMetadata>::SHAPE)));
            reads.push(quote!(let #field = <#r#type as crate::metadata::TriggerMetadata>::read(reader);));
        } else {
            let tokens = parameter.tokens();
            constants.push(quote!(const #constant: &crate::metadata::Parameter = &#tokens;));
            entries.push(quote!(crate::metadata::Entry::One(#constant)));
            reads.push(quote!(let #field = reader.value::<#r#type>(#constant);));
        }
        moves.push(quote!(#field: #field?));
    }

    let (name, intro, open) = (&input.ident, doc(&input.attrs), rules.open);
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    let (exclusive, some_of) = (&rules.exclusive, &rules.some_of);
    let (one, other): (Vec<_>, Vec<_>) = rules.together.iter().cloned().unzip();
    let (removed, advice): (Vec<_>, Vec<_>) = rules.removed.iter().cloned().unzip();
    let (ignored, reason): (Vec<_>, Vec<_>) = rules.ignored.iter().cloned().unzip();
    let check = rules.check.map(|check| quote!(reader.add(#check(&settings));));
    Ok(quote! {
        const _: () = {
            #(#constants)*

            impl #generics crate::metadata::TriggerMetadata for #name #arguments #bounds {
                const SHAPE: &'static crate::metadata::Shape = &crate::metadata::Shape {
                    intro: #intro,
                    entries: &[#(#entries),*],
                    exclusive: &[#(&[#(#exclusive),*]),*],
                    some_of: &[#(&[#(#some_of),*]),*],
                    together: &[#((#one, #other)),*],
                    removed: &[#((#removed, #advice)),*],
                    ignored: &[#((#ignored, #reason)),*],
                    open: #open,
                };

                fn read(reader: &mut crate::metadata::Reader<'_>) -> Option<Self> {
                    #(#reads)*
                    reader.groups(Self::SHAPE);
                    let settings = Self { #(#moves),* };
                    #check
                    Some(settings)
                }
            }
        };
    })
}
