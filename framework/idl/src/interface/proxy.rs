//! The proxy: arguments given, borrows lent, results accepted, all of it inside the crossing, so that what
//! changes hands does so while the callee is known to be alive.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Ident;

use super::contract::{Contract, Method};
use super::passing::{Passing, Way};

/// `impl Net for Proxy<dyn Net, G>`.
pub fn write(contract: &Contract) -> TokenStream {
    let name = contract.name;
    let methods = contract.methods.iter().map(|m| method(name, m));
    quote! {
        #[automatically_derived]
        #[allow(clippy::needless_question_mark, clippy::unit_arg, clippy::let_unit_value)]
        impl<__Gate: ::sumac_interface::Gate> #name for ::sumac_interface::Proxy<dyn #name, __Gate> {
            #(#methods)*
        }
    }
}

/// Names of the generated code's own, that no argument's name can be.
struct Names {
    gate: Ident,
    object: Ident,
    caller: Ident,
    result: Ident,
}

impl Names {
    fn new() -> Self {
        let own = |name| Ident::new(name, Span::mixed_site());
        Self {
            gate: own("gate"),
            object: own("object"),
            caller: own("caller"),
            result: own("result"),
        }
    }
}

fn method(interface: &Ident, method: &Method) -> TokenStream {
    let names = Names::new();
    let Names { gate, object, .. } = &names;
    let signature = method.signature;
    let this = method.this();
    let parts = if method.exclusive {
        quote!(::sumac_interface::Proxy::parts_mut(#this)?)
    } else {
        quote!(::sumac_interface::Proxy::parts(#this)?)
    };
    let crossing = method
        .arguments
        .iter()
        .filter(|argument| argument.passing.is_borrow())
        .fold(crossing(interface, method, &names), |inner, argument| {
            let name = argument.name;
            quote!(::sumac_interface::Gate::lend(#gate, #name, move |#name| #inner))
        });
    let objects = method.arguments.iter().any(|a| a.passing.has_object());
    let caller = objects.then(|| {
        let caller = &names.caller;
        quote!(let #caller = ::sumac_interface::Gate::to_caller(#gate);)
    });
    quote! {
        #[inline]
        #signature {
            let (#object, #gate) = #parts;
            #caller
            #crossing
        }
    }
}

/// The call itself, inside the callee.
fn crossing(interface: &Ident, method: &Method, names: &Names) -> TokenStream {
    let Names {
        gate,
        object,
        caller,
        result,
    } = names;
    let name = &method.signature.ident;
    let moved = method.arguments.iter().filter(|a| !a.passing.is_borrow());
    let given = moved.map(|argument| {
        let name = argument.name;
        let value = argument
            .passing
            .cross(Way::Give, quote!(#name), gate, caller);
        quote!(let #name = #value;)
    });
    let arguments = method.arguments.iter().map(|argument| argument.name);
    let accepted = Passing::cross(&method.result, Way::Accept, quote!(#result), gate, caller);
    quote! {
        match ::sumac_interface::Gate::cross(#gate, move || {
            #(#given)*
            let #result = <dyn #interface as #interface>::#name(#object, #(#arguments),*)?;
            ::core::result::Result::Ok(#accepted)
        }) {
            ::core::result::Result::Ok(#result) => #result,
            ::core::result::Result::Err(#result) => ::core::result::Result::Err(#result),
        }
    }
}
