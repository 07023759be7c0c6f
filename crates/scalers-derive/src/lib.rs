//! The derives behind a trigger's settings: a struct says what may be written, and reading, documentation and JSON schema
//! follow from it.
//!
//! `#[derive(TriggerMetadata)]` implements `crate::metadata::TriggerMetadata`, so it is for the crate `scalers` only.
//! A field is one parameter; its doc comment is the parameter's text on the type's page, and its type (see
//! `metadata::FromParameter`) says what a value looks like. `Option`, lists and pairs may be absent; anything else is
//! required unless it has a default.
//!
//! On a field, `#[param(…)]`:
//!
//! | item | meaning |
//! |---|---|
//! | `name = "x"` | the key; otherwise the field's name in camel case |
//! | `alias("y", …)` | other names that are as good |
//! | `deprecated("z", "say …")` | an old name: works, with this notice |
//! | `from(metadata, env, auth)` | where it may come from, first found wins; otherwise `metadata` only |
//! | `default = "5"` | read when nothing is written |
//! | `required` | must be written, although the type may be absent |
//! | `above = "0"`, `at_least = "1"`, `at_most = "9"` | limits of a number |
//! | `separator = ";"` | of a list or of pairs, instead of a comma |
//! | `ranges` | elements of a list of whole numbers may be `3-7` |
//! | `at_most_one("a", "b")` | a list of choices may hold only one of these |
//! | `unescaped` | `%41` and `+` are decoded as in a query string |
//! | `nested` | not a parameter but a struct of parameters |
//!
//! On the struct, `#[trigger(…)]`:
//!
//! | item | meaning |
//! |---|---|
//! | `exclusive("a", "b")` | at most one of these may be given |
//! | `some_of("a", "b")` | at least one of these must be given |
//! | `together("a", "b")` | both must be given or none |
//! | `removed("x", "write y")` | refused, with this advice |
//! | `ignored("x", "why")` | accepted without effect, with this notice |
//! | `open` | unknown keys are part of the trigger |
//! | `check = function` | `fn(&Self) -> Vec<BuildError>` for what concerns several fields |
//!
//! `#[derive(Choice)]` makes an enum without data a parameter's type; `#[value("text")]` renames a variant.

mod choice;
mod parameter;
mod settings;

use proc_macro::TokenStream;

/// Reads a struct from a trigger; see the crate's page.
#[proc_macro_derive(TriggerMetadata, attributes(param, trigger))]
pub fn trigger_metadata(input: TokenStream) -> TokenStream {
    expand(input, settings::expand)
}

/// Reads an enum from one of a few words; see the crate's page.
#[proc_macro_derive(Choice, attributes(value))]
pub fn choice(input: TokenStream) -> TokenStream {
    expand(input, choice::expand)
}

fn expand(input: TokenStream, with: fn(&syn::DeriveInput) -> syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    with(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// The text of the doc comments, its lines joined.
fn doc(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter(|a| a.path().is_ident("doc")).filter_map(|a| match &a.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }),
            ..
        }) => Some(text.value().trim().to_owned()),
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The string literals of `("a", "b")`.
fn texts(meta: &syn::meta::ParseNestedMeta<'_>) -> syn::Result<Vec<String>> {
    let content;
    syn::parenthesized!(content in meta.input);
    let list = content.parse_terminated(<syn::LitStr as syn::parse::Parse>::parse, syn::Token![,])?;
    Ok(list.iter().map(syn::LitStr::value).collect())
}

/// The two string literals of `("a", "b")`.
fn pair(meta: &syn::meta::ParseNestedMeta<'_>) -> syn::Result<(String, String)> {
    match <[String; 2]>::try_from(texts(meta)?) {
        Ok([first, second]) => Ok((first, second)),
        Err(_) => Err(meta.error("takes two texts: two names, or a name and what the user should know")),
    }
}
