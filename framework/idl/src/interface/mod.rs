//! `#[interface]`: the trait is parsed and checked into a [`Contract`], from which the proxy, the shadow
//! and the description are written.

mod contract;
mod describe;
mod passing;
mod proxy;
mod shadow;

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ItemTrait;
use syn::spanned::Spanned;

use contract::Contract;
use passing::Passing;

/// The trait, and what is generated beside it; of a trait that breaks rules, the errors.
pub fn expand(arguments: &TokenStream, item: ItemTrait) -> TokenStream {
    let mut cleaned = item.clone();
    // The attributes of ours are not the compiler's.
    for item in &mut cleaned.items {
        if let syn::TraitItem::Fn(method) = item {
            method
                .attrs
                .retain(|attribute| !contract::is_ours(attribute));
        }
    }
    match Contract::of(arguments, &item) {
        Ok(contract) => {
            let (bounds, aliases) = (bounds(&contract), aliases(&contract));
            let (proxy, shadow) = (proxy::write(&contract), shadow::write(&contract));
            let description = describe::write(&contract);
            quote!(#cleaned #aliases const _: () = { #bounds #proxy #shadow #description };)
        }
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#cleaned #error)
        }
    }
}

fn aliases(contract: &Contract) -> TokenStream {
    let (name, visibility) = (contract.name, contract.visibility);
    let (proxy, shadow) = (format_ident!("{name}Proxy"), format_ident!("{name}Shadow"));
    let proxy_doc = format!("What stands before a [`{name}`] for callers in other domains.");
    let shadow_doc = format!("A [`{name}`] that restarts the one behind it and calls again.");
    quote! {
        #[doc = #proxy_doc]
        #[allow(dead_code)]
        #visibility type #proxy<__Gate> = ::sumac_interface::Proxy<dyn #name, __Gate>;
        #[doc = #shadow_doc]
        #[allow(dead_code)]
        #visibility type #shadow<__Remake> = ::sumac_interface::Shadow<dyn #name, __Remake>;
    }
}

/// Lets the compiler check what crosses, pointing at the type where it does not.
fn bounds(contract: &Contract) -> TokenStream {
    let checks = contract.passings().flat_map(Passing::leaves).map(|leaf| {
        let ty = leaf.ty();
        match leaf {
            Passing::Object(_) => quote_spanned!(ty.span()=> interface::<#ty>();),
            _ => quote_spanned!(ty.span()=> exchangeable::<#ty>();),
        }
    });
    let results = contract.methods.iter().filter_map(|method| {
        let syn::ReturnType::Type(_, ty) = &method.signature.output else {
            return None;
        };
        Some(quote_spanned!(ty.span()=> rpc_result::<#ty>();))
    });
    quote! {
        #[allow(dead_code, clippy::extra_unused_type_parameters)]
        fn crossing() {
            fn exchangeable<T: ::sumac_interface::generated::Exchangeable>() {}
            fn interface<T: ?Sized + ::sumac_interface::Interface>() {}
            fn rpc_result<T: ::sumac_interface::generated::IsRpcResult>() {}
            #(#checks)*
            #(#results)*
        }
    }
}
