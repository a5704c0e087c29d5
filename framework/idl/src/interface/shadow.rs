//! The shadow: the same interface over [`Shadow`], which makes the object behind it anew when it died and
//! issues the call again where its arguments are still there.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Ident;

use super::contract::{Again, Argument, Contract, Method};

/// `impl Net for Shadow<dyn Net, F>`.
pub fn write(contract: &Contract) -> TokenStream {
    let name = contract.name;
    let methods = contract.methods.iter().map(|m| method(name, m));
    quote! {
        #[automatically_derived]
        #[allow(unused_imports, clippy::let_unit_value, clippy::clone_on_copy)]
        impl<__Remake: ::sumac_interface::Remake<dyn #name>> #name for ::sumac_interface::Shadow<dyn #name, __Remake> {
            #(#methods)*
        }
    }
}

fn method(interface: &Ident, method: &Method) -> TokenStream {
    let signature = method.signature;
    let name = &signature.ident;
    let this = method.this();
    let own = |name| Ident::new(name, Span::mixed_site());
    let object = own("object");
    let call = if method.exclusive {
        quote!(call_mut)
    } else {
        quote!(call)
    };
    let moved: Vec<_> = method
        .arguments
        .iter()
        .filter(|argument| !argument.passing.is_borrow())
        .collect();
    let kept: Vec<_> = (0..moved.len())
        .map(|i| Ident::new(&format!("kept_{i}"), Span::mixed_site()))
        .collect();
    // What makes an argument anew, if anything can: `Option<T>` of each.
    let keeps = moved.iter().zip(&kept).map(|(argument, kept)| {
        let value = keep_argument(argument, method.again);
        quote!(let #kept = #value;)
    });
    let names: Vec<_> = moved.iter().map(|argument| argument.name).collect();
    let arguments = method.arguments.iter().map(|argument| argument.name);
    let once = method.again == Again::Never;
    quote! {
        #[inline]
        #signature {
            use ::sumac_interface::generated::KeepNothing as _;
            #(#keeps)*
            #(let mut #names = ::core::option::Option::Some(#names);)*
            ::sumac_interface::Shadow::#call(#this, #once, move |#object| {
                #(let #names = #names
                    .take()
                    .or_else(|| ::sumac_interface::generated::Kept::again(&#kept))?;)*
                ::core::option::Option::Some(
                    <dyn #interface as #interface>::#name(#object, #(#arguments),*)
                )
            })
        }
    }
}

fn keep_argument(argument: &Argument, again: Again) -> TokenStream {
    let (name, ty) = (argument.name, argument.ty);
    match again {
        Again::Always => quote! {
            ::sumac_interface::generated::Kept::<#ty>::by_clone(&#name)
        },
        Again::Never => quote!(::sumac_interface::generated::Kept::<#ty>::nothing()),
        Again::IfCopy => quote!(::sumac_interface::generated::Keep(&#name).kept()),
    }
}
