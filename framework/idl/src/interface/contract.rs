//! An interface, checked: its name and its methods. Rules R1 and R4 to R6 are checked here, the others
//! where types are looked at.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{FnArg, Ident, ItemTrait, Pat, ReturnType, TraitItem, TraitItemFn, Type, TypeParamBound};

use super::passing::Passing;
use crate::rules::{Broken, Rule, last_segment, type_arguments};

pub struct Contract<'a> {
    pub name: &'a Ident,
    pub visibility: &'a syn::Visibility,
    pub methods: Vec<Method<'a>>,
}

pub struct Method<'a> {
    pub signature: &'a syn::Signature,
    /// `&mut self`.
    pub exclusive: bool,
    pub arguments: Vec<Argument<'a>>,
    pub result: Passing<'a>,
    pub again: Again,
}

pub struct Argument<'a> {
    pub name: &'a Ident,
    pub ty: &'a Type,
    pub passing: Passing<'a>,
}

/// Whether a shadow issues a call again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// If its arguments are still there.
    IfCopy,
    /// `#[reissue]`: with clones of its arguments.
    Always,
    /// `#[once]`.
    Never,
}

/// Whether an attribute of a method is for this macro alone.
pub fn is_ours(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("reissue") || attribute.path().is_ident("once")
}

impl<'a> Contract<'a> {
    pub fn of(arguments: &TokenStream, item: &'a ItemTrait) -> syn::Result<Self> {
        let mut broken = Broken::default();
        if !arguments.is_empty() {
            broken.note(Rule::PlainTraits.broken(arguments, "`#[interface]` takes no arguments"));
        }
        check_trait(item, &mut broken);
        let mut methods = Vec::new();
        for item in &item.items {
            match item {
                TraitItem::Fn(method) => methods.extend(Method::of(method, &mut broken)),
                TraitItem::Const(_) | TraitItem::Type(_) => {
                    let why = "an interface has methods only; associated items are unknown behind an object";
                    broken.note(Rule::PlainTraits.broken(item, why));
                }
                _ => {
                    let why = "an interface has methods only, written out";
                    broken.note(Rule::PlainTraits.broken(item, why));
                }
            }
        }
        broken.finish()?;
        Ok(Self {
            name: &item.ident,
            visibility: &item.vis,
            methods,
        })
    }

    /// Everything that crosses, in order.
    pub fn passings(&self) -> impl Iterator<Item = &Passing<'a>> {
        self.methods.iter().flat_map(|method| {
            let arguments = method.arguments.iter().map(|argument| &argument.passing);
            arguments.chain([&method.result])
        })
    }
}

impl<'a> Method<'a> {
    /// `self` as the trait wrote it: from within a macro it is another than the generated code's.
    pub fn this(&self) -> TokenStream {
        let receiver = self.signature.receiver();
        receiver.map_or_else(TokenStream::new, |this| this.self_token.to_token_stream())
    }

    fn of(item: &'a TraitItemFn, broken: &mut Broken) -> Option<Self> {
        check_method(item, broken);
        let again = check_attributes(item, broken);
        let signature = &item.sig;
        let exclusive = check_receiver(signature, broken);
        let mut arguments = Vec::new();
        for argument in signature.inputs.iter().skip(1) {
            let FnArg::Typed(typed) = argument else {
                continue;
            };
            let name = match &*typed.pat {
                Pat::Ident(pattern)
                    if pattern.by_ref.is_none()
                        && pattern.mutability.is_none()
                        && pattern.subpat.is_none() =>
                {
                    Some(&pattern.ident)
                }
                other => {
                    let why = "an argument is a plain name; descriptions and proxies use it";
                    broken.note(Rule::PlainMethods.broken(other, why));
                    None
                }
            };
            let passing = Passing::of_argument(&typed.ty, broken);
            if let (Some(name), Some(passing)) = (name, passing) {
                let ty = &*typed.ty;
                arguments.push(Argument { name, ty, passing });
            }
        }
        let result = check_result(signature, broken)?;
        Some(Self {
            signature,
            exclusive,
            arguments,
            result,
            again,
        })
    }
}

fn check_trait(item: &ItemTrait, broken: &mut Broken) {
    if let Some(token) = &item.unsafety {
        broken.note(Rule::PlainTraits.broken(token, "domains are safe code: no `unsafe` traits"));
    }
    if let Some(token) = &item.auto_token {
        broken.note(Rule::PlainTraits.broken(token, "an interface is no `auto` trait"));
    }
    if !item.generics.params.is_empty() {
        let why = "an interface is one for all; generics have no fingerprint";
        broken.note(Rule::PlainTraits.broken(&item.generics, why));
    }
    if let Some(clause) = &item.generics.where_clause {
        broken.note(Rule::PlainTraits.broken(clause, "no `where` clause"));
    }
    let mut send = false;
    for bound in &item.supertraits {
        match bound {
            TypeParamBound::Trait(bound) if is_send(&bound.path) => send = true,
            _ => {
                let why =
                    "the methods of a supertrait would go past the proxy; `Send` alone is allowed";
                broken.note(Rule::PlainTraits.broken(bound, why));
            }
        }
    }
    if !send {
        let why = "threads migrate with calls: write `: Send` behind the name";
        broken.note(Rule::PlainTraits.broken(&item.ident, why));
    }
}

fn is_send(path: &syn::Path) -> bool {
    path.segments.last().is_some_and(|s| s.ident == "Send")
}

fn check_method(item: &TraitItemFn, broken: &mut Broken) {
    let of = &item.sig;
    let generics = Some(&of.generics).filter(|generics| !generics.params.is_empty());
    let why_generics = "no generics or lifetimes: a call crosses with types known to both sides";
    let why_body = "no default body: it would run on the caller's side of the proxy";
    let checks: [(Option<&dyn ToTokens>, &str); 8] = [
        (token(&of.constness), "no `const` methods"),
        (
            token(&of.asyncness),
            "no `async` methods: a future lies in private memory",
        ),
        (
            token(&of.unsafety),
            "domains are safe code: no `unsafe` methods",
        ),
        (token(&of.abi), "no `extern` methods"),
        (token(&of.variadic), "no variadic methods"),
        (generics.map(|generics| generics as _), why_generics),
        (token(&of.generics.where_clause), "no `where` clause"),
        (token(&item.default), why_body),
    ];
    for (found, why) in checks {
        if let Some(found) = found {
            broken.note(Rule::PlainMethods.broken(found, why));
        }
    }
}

fn token<T: ToTokens>(token: &Option<T>) -> Option<&dyn ToTokens> {
    token.as_ref().map(|token| token as _)
}

fn check_attributes(item: &TraitItemFn, broken: &mut Broken) -> Again {
    let mut again = Again::IfCopy;
    for attribute in &item.attrs {
        let path = attribute.path();
        if path.is_ident("reissue") {
            again = Again::Always;
        } else if path.is_ident("once") {
            again = Again::Never;
        } else if path.is_ident("cfg") || path.is_ident("cfg_attr") {
            let why = "no conditional methods: both sides must see the same interface";
            broken.note(Rule::PlainMethods.broken(attribute, why));
        }
    }
    again
}

/// Whether the receiver is `&mut self`.
fn check_receiver(signature: &syn::Signature, broken: &mut Broken) -> bool {
    let why = "a method takes `&self` or `&mut self`";
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => {
            let lifetime = receiver.reference.as_ref().and_then(|(_, l)| l.as_ref());
            if receiver.reference.is_none() || receiver.colon_token.is_some() || lifetime.is_some()
            {
                broken.note(Rule::Receivers.broken(receiver, why));
            }
            receiver.mutability.is_some()
        }
        _ => {
            broken.note(Rule::Receivers.broken_at(signature.ident.span(), why));
            false
        }
    }
}

fn check_result<'a>(signature: &'a syn::Signature, broken: &mut Broken) -> Option<Passing<'a>> {
    let why = "the callee may die: return `RpcResult<..>`";
    let ReturnType::Type(_, ty) = &signature.output else {
        broken.note(Rule::Results.broken_at(signature.ident.span(), why));
        return None;
    };
    let segment = last_segment(ty).filter(|segment| segment.ident == "RpcResult");
    match segment.map(type_arguments).as_deref() {
        Some([value]) => Passing::of_result(value, broken),
        _ => {
            broken.note(Rule::Results.broken(ty, why));
            None
        }
    }
}
