//! `#[derive(Exchangeable)]`: rule R7, the fields' bounds, the tag, and the re-owning of fields.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Fields, GenericParam, Generics, TypeParamBound};

use crate::rules::{Broken, Rule, check_value};

pub fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let mut broken = Broken::default();
    check_generics(&input.generics, &mut broken);
    for attribute in &input.attrs {
        if attribute.path().is_ident("repr") {
            check_repr(attribute, &mut broken);
        }
    }
    let variants = match &input.data {
        Data::Struct(data) => vec![Shape::of_struct(&data.fields)],
        Data::Enum(data) => data.variants.iter().map(Shape::of_variant).collect(),
        Data::Union(data) => {
            let why = "nobody knows what a union holds";
            return Err(Rule::PlainTypes.broken(data.union_token, why));
        }
    };
    if variants.is_empty() {
        let why = "an enum without variants has no values to pass";
        broken.note(Rule::PlainTypes.broken(&input.ident, why));
    }
    for field in variants.iter().flat_map(|shape| shape.fields) {
        check_value(&field.ty, &mut broken);
    }
    broken.finish()?;
    Ok(implementation(input, &variants))
}

/// A struct, or a variant of an enum.
struct Shape<'a> {
    /// None of a struct.
    variant: Option<&'a syn::Variant>,
    fields: &'a Fields,
}

impl<'a> Shape<'a> {
    fn of_struct(fields: &'a Fields) -> Self {
        Self {
            variant: None,
            fields,
        }
    }

    fn of_variant(variant: &'a syn::Variant) -> Self {
        Self {
            variant: Some(variant),
            fields: &variant.fields,
        }
    }

    /// A pattern that binds the fields to `field_0`, `field_1` and so on.
    fn pattern(&self) -> TokenStream {
        let path = match self.variant.map(|variant| &variant.ident) {
            Some(ident) => quote!(Self::#ident),
            None => quote!(Self),
        };
        let members = self.fields.members();
        let names = self.names();
        quote!(#path { #(#members: #names),* })
    }

    fn names(&self) -> Vec<syn::Ident> {
        (0..self.fields.len())
            .map(|i| format_ident!("field_{i}"))
            .collect()
    }

    /// Adds the fields, and the variant itself, to the hash.
    fn hash(&self) -> TokenStream {
        let variant = self.variant.map(|variant| {
            let name = variant.ident.to_string();
            let number = variant
                .discriminant
                .as_ref()
                .map(|(_, value)| quote!(let hash = hash.number((#value) as u64);));
            quote!(let hash = hash.text("variant").text(#name); #number)
        });
        let fields = self.fields.iter().zip(self.fields.members());
        let fields = fields.map(|(field, member)| {
            let ty = &field.ty;
            let name = match &member {
                syn::Member::Named(name) => name.to_string(),
                syn::Member::Unnamed(index) => index.index.to_string(),
            };
            // Where the fields of a variant lie cannot be asked for; size and niche stand for it.
            let offset = self.variant.is_none().then(
                || quote!(let hash = hash.number(::core::mem::offset_of!(Self, #member) as u64);),
            );
            quote! {
                let hash = hash.text(#name).tag(<#ty as ::sumac_rref::Exchangeable>::TAG);
                #offset
            }
        });
        quote!(#variant #(#fields)*)
    }
}

fn check_generics(generics: &Generics, broken: &mut Broken) {
    for parameter in &generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) => {
                let why = "a lifetime means a reference, and that ends at the boundary";
                broken.note(Rule::PlainTypes.broken(lifetime, why));
            }
            GenericParam::Type(ty) => {
                let bound = ty.bounds.iter().any(|bound| match bound {
                    TypeParamBound::Trait(bound) => {
                        let last = bound.path.segments.last();
                        last.is_some_and(|segment| segment.ident == "Exchangeable")
                    }
                    _ => false,
                });
                if !bound {
                    let why = format!("write `{}: Exchangeable`", ty.ident);
                    broken.note(Rule::PlainTypes.broken(ty, &why));
                }
            }
            GenericParam::Const(_) => {}
        }
    }
}

fn check_repr(attribute: &syn::Attribute, broken: &mut Broken) {
    let parsed = attribute.parse_nested_meta(|meta| {
        if meta.path.is_ident("packed") {
            let why = "a packed field cannot be borrowed, so not be re-owned";
            broken.note(Rule::PlainTypes.broken(&meta.path, why));
        }
        if meta.input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in meta.input);
            content.parse::<TokenStream>()?;
        }
        Ok(())
    });
    broken.check(parsed);
}

fn implementation(input: &DeriveInput, shapes: &[Shape]) -> TokenStream {
    let ident = &input.ident;
    let name = ident.to_string();
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let bounds = shapes.iter().flat_map(|shape| shape.fields).map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> exchangeable::<#ty>();)
    });
    let any = |name: &str| {
        let name = format_ident!("{name}");
        let fields = shapes.iter().flat_map(|shape| shape.fields);
        let fields = fields.map(|field| &field.ty);
        quote!(false #(|| <#fields as ::sumac_rref::Exchangeable>::#name)*)
    };
    let (roots, grant) = (any("ROOTS"), any("GRANT"));
    let hashes = shapes.iter().map(Shape::hash);
    let parameters = input.generics.const_params().map(|parameter| {
        let ident = &parameter.ident;
        quote!(let hash = hash.number(#ident as u64);)
    });
    let arms = shapes.iter().map(|shape| {
        let (pattern, names) = (shape.pattern(), shape.names());
        quote!(#pattern => { #(::sumac_rref::Exchangeable::move_to(#names, mover);)* })
    });
    quote! {
        const _: () = {
            // A type with a `Drop` of its own would implement this twice.
            #[allow(non_camel_case_types, dead_code)]
            trait RULE_R7_plain_types_no_Drop_of_their_own {}
            #[allow(drop_bounds)]
            impl<T: ::core::ops::Drop> RULE_R7_plain_types_no_Drop_of_their_own for T {}
            impl #impl_generics RULE_R7_plain_types_no_Drop_of_their_own
                for #ident #type_generics #where_clause {}

            #[allow(dead_code)]
            fn fields #impl_generics () #where_clause {
                fn exchangeable<T: ::sumac_rref::Exchangeable>() {}
                #(#bounds)*
            }

            // SAFETY: every field is exchangeable, as `fields` above has the compiler check; the tag is
            // made of all that makes the type what it is.
            #[automatically_derived]
            #[diagnostic::do_not_recommend]
            unsafe impl #impl_generics ::sumac_rref::Exchangeable
                for #ident #type_generics #where_clause
            {
                const TAG: ::sumac_rref::TypeTag = {
                    let hash = ::sumac_rref::TagHash::new(#name);
                    let hash = hash.number(::core::mem::size_of::<Self>() as u64);
                    let hash = hash.number(::core::mem::align_of::<Self>() as u64);
                    let hash = hash
                        .number(::core::mem::size_of::<::core::option::Option<Self>>() as u64);
                    #(#parameters)*
                    #(#hashes)*
                    hash.finish()
                };
                const ROOTS: bool = #roots;
                const GRANT: bool = #grant;

                #[inline(always)]
                fn move_to(&self, mover: &::sumac_rref::Mover) {
                    let _ = mover;
                    match self {
                        #(#arms)*
                    }
                }
            }
        };
    }
}
