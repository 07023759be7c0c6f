//! One field and its `#[param(…)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Field, Ident, LitStr, Result, Type};

use crate::{doc, pair, texts};

/// What is said about one field.
pub(super) struct Parameter {
    pub(super) field: Ident,
    pub(super) r#type: Type,
    pub(super) nested: bool,
    name: String,
    doc: String,
    aliases: Vec<String>,
    deprecated: Vec<(String, String)>,
    sources: Vec<Ident>,
    default: Option<String>,
    required: bool,
    above: Option<String>,
    at_least: Option<String>,
    at_most: Option<String>,
    separator: String,
    ranges: bool,
    at_most_one: Vec<String>,
    unescaped: bool,
}

impl Parameter {
    pub(super) fn parse(field: &Field) -> Result<Self> {
        let ident = field.ident.clone().ok_or_else(|| Error::new_spanned(field, "a parameter's field has a name"))?;
        let mut it = Self {
            name: camel(&ident.to_string()),
            field: ident,
            r#type: field.ty.clone(),
            nested: false,
            doc: doc(&field.attrs),
            aliases: Vec::new(),
            deprecated: Vec::new(),
            sources: Vec::new(),
            default: None,
            required: false,
            above: None,
            at_least: None,
            at_most: None,
            separator: ",".into(),
            ranges: false,
            at_most_one: Vec::new(),
            unescaped: false,
        };
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("param")) {
            attribute.parse_nested_meta(|meta| it.item(&meta))?;
        }
        if it.sources.is_empty() {
            it.sources.push(Ident::new("Metadata", it.field.span()));
        }
        if it.doc.is_empty() && !it.nested {
            return Err(Error::new_spanned(field, "say what the parameter means: the text is its documentation"));
        }
        if it.required && it.default.is_some() {
            return Err(Error::new_spanned(field, "what has a default is not required"));
        }
        Ok(it)
    }

    fn item(&mut self, meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
        let word = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
        let text = || -> Result<String> { Ok(meta.value()?.parse::<LitStr>()?.value()) };
        match word.as_str() {
            "name" => self.name = text()?,
            "alias" => self.aliases.extend(texts(meta)?),
            "deprecated" => self.deprecated.push(pair(meta)?),
            "from" => meta.parse_nested_meta(|source| {
                let word = source.path.get_ident().map(Ident::to_string).unwrap_or_default();
                let variant = match word.as_str() {
                    "metadata" => "Metadata",
                    "env" => "Environment",
                    "auth" => "Authentication",
                    _ => return Err(source.error("use metadata, env or auth")),
                };
                self.sources.push(Ident::new(variant, self.field.span()));
                Ok(())
            })?,
            "default" => self.default = Some(text()?),
            "required" => self.required = true,
            "above" => self.above = Some(text()?),
            "at_least" => self.at_least = Some(text()?),
            "at_most" => self.at_most = Some(text()?),
            "separator" => self.separator = text()?,
            "ranges" => self.ranges = true,
            "at_most_one" => self.at_most_one = texts(meta)?,
            "unescaped" => self.unescaped = true,
            "nested" => self.nested = true,
            _ => return Err(meta.error("is not an item of #[param]; see the crate's page")),
        }
        Ok(())
    }

    /// The value of type `metadata::Parameter`.
    pub(super) fn tokens(&self) -> TokenStream {
        let Self { r#type, name, doc, aliases, sources, required, separator, ranges, at_most_one, unescaped, .. } =
            self;
        let (old, notice): (Vec<_>, Vec<_>) = self.deprecated.iter().cloned().unzip();
        let option = |text: &Option<String>| text.as_ref().map_or_else(|| quote!(None), |text| quote!(Some(#text)));
        let (default, above) = (option(&self.default), option(&self.above));
        let (at_least, at_most) = (option(&self.at_least), option(&self.at_most));
        let has_default = self.default.is_some();
        quote! {
            crate::metadata::Parameter {
                name: #name,
                aliases: &[#(#aliases),*],
                deprecated: &[#((#old, #notice)),*],
                sources: &[#(crate::metadata::Origin::#sources),*],
                default: #default,
                required: #required
                    || !(#has_default || <#r#type as crate::metadata::FromParameter>::MAY_BE_ABSENT),
                kind: <#r#type as crate::metadata::FromParameter>::KIND,
                secret: <#r#type as crate::metadata::FromParameter>::SECRET,
                above: #above,
                at_least: #at_least,
                at_most: #at_most,
                separator: #separator,
                ranges: #ranges,
                at_most_one: &[#(#at_most_one),*],
                unescaped: #unescaped,
                doc: #doc,
            }
        }
    }
}

/// `queue_length` → `queueLength`.
fn camel(snake: &str) -> String {
    let mut words = snake.trim_start_matches("r#").split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

#[cfg(test)]
mod tests {
    use super::camel;

    #[test]
    fn a_field_is_written_in_camel_case() {
        assert_eq!(camel("queue_length"), "queueLength");
        assert_eq!(camel("r#type"), "type");
    }
}
