//! The interface language: what may cross between domains, checked while it compiles.
//!
//! [`macro@interface`] makes an interface of a trait; [`macro@Exchangeable`] lets a struct or an enum cross.
//! Both refuse whatever breaks a rule, name the rule, and point at the place. What syntax cannot tell (a
//! type behind an alias) the trait bounds in the generated code catch.
//!
//! | rule | |
//! |---|---|
//! | R1 results | every method returns `RpcResult<..>`: its callee may die |
//! | R2 exchangeable | what crosses is `Exchangeable` by value, `&RRef<T>` borrowed, or `Object<dyn Interface>` |
//! | R3 no private memory | no other reference, no `&mut`, no pointer, no function or closure, nothing on a private heap, nothing that changes behind a shared borrow |
//! | R4 receivers | `&self` or `&mut self` |
//! | R5 plain methods | no generics, lifetimes, `async`, `const`, `unsafe`, `extern`, default body or `Self`; every argument has a name |
//! | R6 plain traits | no generics, no associated types or constants, `Send` and nothing else as supertrait |
//! | R7 plain types | an exchangeable type is a struct or an enum without lifetimes, destructor or `repr(packed)`, and its type parameters are bound by `Exchangeable` |
//!
//! The generated code is safe but for the `unsafe impl` of `Exchangeable`, whose promises are what the
//! rules and bounds check.
#![forbid(unsafe_code)]

mod exchangeable;
mod interface;
mod rules;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Lets a struct or an enum whose fields are all exchangeable cross between domains (rules R2, R3 and R7).
///
/// The type's tag is a hash over its name, its fields' names and tags in order, and its layout (size,
/// alignment, the fields' offsets): equal in all builds that agree on all of that, and only there. Shared
/// objects in fields are re-owned with the value.
///
/// The tag names the destructor that the host runs for a domain that died; so the type may have no
/// `Drop` of its own.
#[proc_macro_derive(Exchangeable)]
pub fn derive_exchangeable(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as syn::DeriveInput);
    exchangeable::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes an interface of a trait: something that domains call each other by (rules R1 to R6).
///
/// Beside the trait itself it generates, for `pub trait Net: Send`,
/// - `NetProxy<G>`, which stands before an object for callers in other domains: `Proxy<dyn Net, G>`;
/// - `NetShadow<F>`, which restarts what it stands for and calls again: `Shadow<dyn Net, F>`;
/// - `Interface` for `dyn Net`: its name, its fingerprint, its description, and the making of proxies.
///
/// A shadow issues a call again when all its arguments are `Copy`, borrowed, or none. A method with other
/// arguments may ask for it with `#[reissue]`: its arguments are cloned before the call then. One that must
/// not be done twice says `#[once]`.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::ItemTrait);
    interface::expand(&arguments.into(), item).into()
}
