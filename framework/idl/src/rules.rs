//! The rules: how each is named in an error, and the types that syntax alone tells are against them.

use proc_macro2::Span;
use quote::ToTokens;
use syn::{GenericArgument, PathArguments, PathSegment, Type};

/// A rule of the interface language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Results,
    Exchangeable,
    NoPrivateMemory,
    Receivers,
    PlainMethods,
    PlainTraits,
    PlainTypes,
}

impl Rule {
    fn name(self) -> &'static str {
        match self {
            Self::Results => "R1 (results)",
            Self::Exchangeable => "R2 (exchangeable)",
            Self::NoPrivateMemory => "R3 (no private memory)",
            Self::Receivers => "R4 (receivers)",
            Self::PlainMethods => "R5 (plain methods)",
            Self::PlainTraits => "R6 (plain traits)",
            Self::PlainTypes => "R7 (plain types)",
        }
    }

    /// An error at `place`.
    pub fn broken(self, place: impl ToTokens, why: &str) -> syn::Error {
        syn::Error::new_spanned(place, format!("interface rule {}: {why}", self.name()))
    }

    /// An error where there are no tokens to point at but a place.
    pub fn broken_at(self, place: Span, why: &str) -> syn::Error {
        syn::Error::new(place, format!("interface rule {}: {why}", self.name()))
    }
}

/// All that is wrong, so that one compilation tells it all.
#[derive(Default)]
pub struct Broken(Option<syn::Error>);

impl Broken {
    pub fn note(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }

    pub fn check<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.note(error)).ok()
    }

    pub fn finish(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Types known by name to be against rule R3, and why.
const PRIVATE: &[(&[&str], &str)] = &[
    (
        &[
            "Box",
            "Vec",
            "String",
            "Rc",
            "Arc",
            "Weak",
            "VecDeque",
            "BTreeMap",
            "BTreeSet",
            "HashMap",
            "HashSet",
            "BinaryHeap",
            "LinkedList",
            "CString",
            "OsString",
            "PathBuf",
            "Cow",
        ],
        "lives on a private heap, which goes away with its domain; use an array, or an `RRef`",
    ),
    (
        &[
            "Cell",
            "RefCell",
            "UnsafeCell",
            "OnceCell",
            "LazyCell",
            "Mutex",
            "RwLock",
            "OnceLock",
            "LazyLock",
            "Condvar",
            "AtomicBool",
            "AtomicU8",
            "AtomicU16",
            "AtomicU32",
            "AtomicU64",
            "AtomicUsize",
            "AtomicI8",
            "AtomicI16",
            "AtomicI32",
            "AtomicI64",
            "AtomicIsize",
            "AtomicPtr",
        ],
        "changes behind a shared borrow: a crash could leave it half written",
    ),
    (
        &["NonNull"],
        "is a pointer; what crosses holds none but through `RRef`",
    ),
    (
        &["Pin", "ManuallyDrop", "MaybeUninit", "PhantomPinned"],
        "hides what it holds",
    ),
];

/// The last segment of a type's path, if it is one.
pub fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// The type arguments of a path segment.
pub fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// Whether syntax allows `ty`, by value: rules R2, R3 and R5 for all that is written in it.
pub fn check_value(ty: &Type, broken: &mut Broken) {
    match ty {
        Type::Path(path) => check_path(path, broken),
        Type::Array(array) => check_value(&array.elem, broken),
        Type::Group(group) => check_value(&group.elem, broken),
        Type::Paren(paren) => check_value(&paren.elem, broken),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|ty| check_value(ty, broken)),
        // What a macro expands to is for the trait bounds to judge.
        Type::Macro(_) => {}
        _ => broken.note(refused(ty)),
    }
}

fn check_path(path: &syn::TypePath, broken: &mut Broken) {
    if path.qself.is_some() {
        return;
    }
    if path.path.is_ident("Self") || path.path.is_ident("str") {
        let (rule, why) = if path.path.is_ident("Self") {
            (
                Rule::PlainMethods,
                "`Self` is another type behind every object",
            )
        } else {
            (
                Rule::NoPrivateMemory,
                "text crosses as an array of bytes with a length",
            )
        };
        return broken.note(rule.broken(path, why));
    }
    let Some(segment) = path.path.segments.last() else {
        return;
    };
    for (names, why) in PRIVATE {
        if names.iter().any(|name| segment.ident == name) {
            let why = format!("`{}` {why}", segment.ident);
            return broken.note(Rule::NoPrivateMemory.broken(path, &why));
        }
    }
    if segment.ident == "Object" {
        let why = "an interface object is an argument or a result itself, or in an `Option`, a `Result` or a tuple there: a proxy must be put before it";
        return broken.note(Rule::Exchangeable.broken(path, why));
    }
    match &segment.arguments {
        PathArguments::None => {}
        PathArguments::Parenthesized(_) => {
            let why = "a function lies in its domain's private memory";
            broken.note(Rule::NoPrivateMemory.broken(path, why));
        }
        PathArguments::AngleBracketed(arguments) => {
            for argument in &arguments.args {
                match argument {
                    GenericArgument::Type(ty) => check_value(ty, broken),
                    GenericArgument::Lifetime(lifetime) => {
                        let why = "a lifetime means a reference, and that ends at the boundary";
                        broken.note(Rule::NoPrivateMemory.broken(lifetime, why));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The error for a type that is no path, array or tuple.
fn refused(ty: &Type) -> syn::Error {
    let why = match ty {
        Type::Reference(reference) if reference.mutability.is_some() => {
            "`&mut` could be left half written by a crash; move the value in and return it"
        }
        Type::Reference(_) => "of references only `&RRef<T>` crosses, as an argument",
        Type::Ptr(_) => "a pointer means nothing in another domain",
        Type::BareFn(_) => "a function lies in its domain's private memory",
        Type::ImplTrait(_) => "a closure or other hidden type lies in its domain's private memory",
        Type::TraitObject(_) => {
            "a trait object lies in its domain's private memory; pass `Object<dyn Interface>`"
        }
        Type::Slice(_) => "a slice borrows private memory; use an array, or an `RRef` of one",
        Type::Never(_) => "a call that never returns cannot be undone",
        _ => "not a type that could cross between domains",
    };
    Rule::NoPrivateMemory.broken(ty, why)
}
