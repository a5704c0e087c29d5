//! How one argument or result crosses: by value, borrowed, as an interface object, or as an `Option`, a
//! `Result` or a tuple with such objects in it.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Type, TypeParamBound};

use crate::rules::{Broken, Rule, check_value, last_segment, type_arguments};

pub enum Passing<'a> {
    /// Exchangeable, moved.
    Value(&'a Type),
    /// `&RRef<T>`: of `T`.
    Borrow(&'a Type),
    /// `Object<dyn I>`: of `dyn I`.
    Object(&'a Type),
    /// With an object in it.
    Option(Box<Passing<'a>>),
    /// With an object in one.
    Result(Box<Passing<'a>>, Box<Passing<'a>>),
    /// With an object in one of them.
    Tuple(Vec<Passing<'a>>),
}

/// Which way something crosses.
#[derive(Clone, Copy)]
pub enum Way {
    /// An argument.
    Give,
    /// A result.
    Accept,
}

impl<'a> Passing<'a> {
    /// How an argument of this type crosses.
    pub fn of_argument(ty: &'a Type, broken: &mut Broken) -> Option<Self> {
        let Type::Reference(reference) = ty else {
            return Self::of_result(ty, broken);
        };
        let rref = last_segment(&reference.elem).filter(|segment| segment.ident == "RRef");
        let inner = rref.map(type_arguments);
        match inner.as_deref() {
            Some([inner]) if reference.mutability.is_none() => {
                if let Some(lifetime) = &reference.lifetime {
                    let why = "a borrow lasts for the call and no longer";
                    broken.note(Rule::NoPrivateMemory.broken(lifetime, why));
                }
                check_value(inner, broken);
                Some(Self::Borrow(inner))
            }
            _ => {
                check_value(ty, broken);
                None
            }
        }
    }

    /// How a result of this type crosses, or an argument by value.
    pub fn of_result(ty: &'a Type, broken: &mut Broken) -> Option<Self> {
        if !has_object(ty) {
            check_value(ty, broken);
            return Some(Self::Value(ty));
        }
        if let Type::Tuple(tuple) = ty {
            let items = tuple.elems.iter().map(|ty| Self::of_result(ty, broken));
            return items.collect::<Option<_>>().map(Self::Tuple);
        }
        let Some(segment) = last_segment(ty) else {
            check_value(ty, broken);
            return None;
        };
        let arguments = type_arguments(segment);
        match (segment.ident.to_string().as_str(), arguments.as_slice()) {
            ("Object", [object]) => {
                check_object(object, broken);
                Some(Self::Object(object))
            }
            ("Option", [value]) => {
                let value = Self::of_result(value, broken)?;
                Some(Self::Option(Box::new(value)))
            }
            ("Result", [value, error]) => {
                let value = Self::of_result(value, broken);
                let error = Self::of_result(error, broken);
                Some(Self::Result(Box::new(value?), Box::new(error?)))
            }
            _ => {
                check_value(ty, broken);
                None
            }
        }
    }

    pub fn is_borrow(&self) -> bool {
        matches!(self, Self::Borrow(_))
    }

    pub fn has_object(&self) -> bool {
        self.leaves()
            .iter()
            .any(|leaf| matches!(leaf, Self::Object(_)))
    }

    /// The parts that are not made of others.
    pub fn leaves(&self) -> Vec<&Self> {
        match self {
            Self::Value(_) | Self::Borrow(_) | Self::Object(_) => vec![self],
            Self::Option(value) => value.leaves(),
            Self::Result(value, error) => [value.leaves(), error.leaves()].concat(),
            Self::Tuple(items) => items.iter().flat_map(Self::leaves).collect(),
        }
    }

    /// The type that a leaf is about.
    pub fn ty(&self) -> &'a Type {
        match self {
            Self::Value(ty) | Self::Borrow(ty) | Self::Object(ty) => ty,
            Self::Option(value) => value.ty(),
            Self::Result(value, _) => value.ty(),
            Self::Tuple(items) => items[0].ty(),
        }
    }

    /// An expression for `value` after it crossed. `gate`, and for arguments with objects `caller`, are
    /// the names of the gate and of the caller's.
    pub fn cross(
        &self,
        way: Way,
        value: TokenStream,
        gate: &syn::Ident,
        caller: &syn::Ident,
    ) -> TokenStream {
        let again = |inner: &Self, value| inner.cross(way, value, gate, caller);
        match (self, way) {
            // At the type, for the compiler's word on what does not cross.
            (Self::Value(ty), Way::Give) => {
                quote_spanned!(ty.span()=> ::sumac_interface::Gate::give(#gate, #value))
            }
            (Self::Value(ty), Way::Accept) => {
                quote_spanned!(ty.span()=> ::sumac_interface::Gate::accept(#gate, #value))
            }
            (Self::Borrow(_), _) => value,
            (Self::Object(ty), Way::Give) => quote_spanned! {ty.span()=>
                ::sumac_interface::Gate::give_object(#gate, #value, &#caller)
            },
            (Self::Object(ty), Way::Accept) => quote_spanned! {ty.span()=>
                ::sumac_interface::Gate::accept_object(#gate, #value)
            },
            (Self::Option(inner), _) => {
                let some = again(inner, quote!(value));
                quote!(match #value {
                    ::core::option::Option::Some(value) => ::core::option::Option::Some(#some),
                    ::core::option::Option::None => ::core::option::Option::None,
                })
            }
            (Self::Result(inner, error), _) => {
                let (ok, err) = (again(inner, quote!(value)), again(error, quote!(error)));
                quote!(match #value {
                    ::core::result::Result::Ok(value) => ::core::result::Result::Ok(#ok),
                    ::core::result::Result::Err(error) => ::core::result::Result::Err(#err),
                })
            }
            (Self::Tuple(items), _) => {
                let names: Vec<_> = (0..items.len())
                    .map(|i| format_ident!("item_{i}"))
                    .collect();
                let crossed = items
                    .iter()
                    .zip(&names)
                    .map(|(item, name)| again(item, quote!(#name)));
                quote!({ let (#(#names,)*) = #value; (#(#crossed,)*) })
            }
        }
    }
}

/// Whether an interface object is written anywhere where a proxy can be put before it.
fn has_object(ty: &Type) -> bool {
    match ty {
        Type::Tuple(tuple) => tuple.elems.iter().any(has_object),
        _ => last_segment(ty).is_some_and(|segment| {
            let wraps = segment.ident == "Option" || segment.ident == "Result";
            segment.ident == "Object"
                || wraps && type_arguments(segment).into_iter().any(has_object)
        }),
    }
}

/// What an object is of: `dyn Interface`, and nothing more.
fn check_object(ty: &Type, broken: &mut Broken) {
    let why = "an object is of one interface: `Object<dyn Interface>`";
    let bound = match ty {
        Type::TraitObject(object) if object.bounds.len() == 1 => object.bounds.first(),
        _ => None,
    };
    let Some(TypeParamBound::Trait(bound)) = bound else {
        return broken.note(Rule::Exchangeable.broken(ty, why));
    };
    let plain =
        bound.lifetimes.is_none() && matches!(bound.modifier, syn::TraitBoundModifier::None);
    let arguments = bound.path.segments.iter().any(|s| !s.arguments.is_none());
    if !plain || arguments {
        broken.note(Rule::Exchangeable.broken(ty, why));
    }
}
