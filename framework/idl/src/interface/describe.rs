//! `impl Interface for dyn Net`: name, fingerprint, description, and the making of proxies.
//!
//! Interfaces may name each other in circles, and constants may not. So each describes itself at every
//! level: at one level it names the interfaces in it as the level below describes them.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::Type;

use super::contract::{Contract, Method};
use super::passing::Passing;

pub fn write(contract: &Contract) -> TokenStream {
    let name = contract.name;
    let text = name.to_string();
    let methods = contract.methods.iter().map(method);
    let mut objects = Vec::<&Type>::new();
    for leaf in contract.passings().flat_map(Passing::leaves) {
        if let Passing::Object(ty) = leaf
            && !objects.contains(ty)
        {
            objects.push(ty);
        }
    }
    quote! {
        #[diagnostic::do_not_recommend]
        impl ::sumac_interface::describe::DescribedAt<::sumac_interface::describe::Bottom> for dyn #name {
            const DESCRIPTION: &'static ::sumac_interface::describe::Description =
                &::sumac_interface::describe::Description {
                    path: ::core::concat!(::core::module_path!(), "::", #text),
                    methods: ::core::option::Option::None,
                };
        }

        #[diagnostic::do_not_recommend]
        impl<__Level> ::sumac_interface::describe::DescribedAt<::sumac_interface::describe::Above<__Level>> for dyn #name
        where
            #(#objects: ::sumac_interface::describe::DescribedAt<__Level>,)*
        {
            const DESCRIPTION: &'static ::sumac_interface::describe::Description =
                &::sumac_interface::describe::Description {
                    path: ::core::concat!(::core::module_path!(), "::", #text),
                    methods: ::core::option::Option::Some(&[#(&[#methods]),*]),
                };
        }

        #[automatically_derived]
        #[diagnostic::do_not_recommend]
        impl ::sumac_interface::Interface for dyn #name {
            const NAME: &'static str = #text;
            const FINGERPRINT: u64 = ::sumac_interface::describe::fingerprint(
                <Self as ::sumac_interface::Interface>::TEXT,
            );
            const TEXT: &'static str = {
                const DESCRIPTION: &::sumac_interface::describe::Description =
                    ::sumac_interface::describe::whole::<dyn #name>();
                const LEN: usize = ::sumac_interface::describe::text_len(DESCRIPTION);
                const BYTES: &[u8; LEN] = &::sumac_interface::describe::text(DESCRIPTION);
                ::sumac_interface::describe::as_str(BYTES)
            };

            fn proxy<__Gate: ::sumac_interface::Gate>(
                object: ::sumac_interface::generated::Object<Self>,
                gate: __Gate,
            ) -> ::sumac_interface::generated::Object<Self> {
                ::sumac_interface::generated::Object::from_box(
                    ::sumac_interface::generated::Box::new(
                        ::sumac_interface::Proxy::<dyn #name, __Gate>::new(object, gate),
                    ),
                )
            }
        }
    }
}

/// A method as pieces of text, types and interfaces.
fn method(method: &Method) -> TokenStream {
    let mut pieces = Pieces::default();
    let receiver = if method.exclusive {
        "&mut self"
    } else {
        "&self"
    };
    pieces.text(&format!("{}({receiver}", method.signature.ident));
    for argument in &method.arguments {
        pieces.text(&format!(", {}: ", argument.name));
        pieces.passing(&argument.passing);
    }
    pieces.text(") -> ");
    pieces.passing(&method.result);
    pieces.finish()
}

#[derive(Default)]
struct Pieces {
    done: Vec<TokenStream>,
    text: String,
}

impl Pieces {
    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn finish(mut self) -> TokenStream {
        self.flush();
        let done = &self.done;
        quote!(#(#done),*)
    }

    fn flush(&mut self) {
        let text = core::mem::take(&mut self.text);
        if !text.is_empty() {
            self.done
                .push(quote!(::sumac_interface::describe::Piece::Text(#text)));
        }
    }

    fn passing(&mut self, passing: &Passing) {
        match passing {
            Passing::Value(ty) => self.ty(ty),
            Passing::Borrow(ty) => {
                self.text("&RRef<");
                self.ty(ty);
                self.text(">");
            }
            Passing::Object(ty) => {
                self.text("Object<dyn ");
                self.flush();
                self.done.push(quote! {
                    ::sumac_interface::describe::Piece::Interface(
                        <#ty as ::sumac_interface::describe::DescribedAt<__Level>>::DESCRIPTION
                    )
                });
                self.text(">");
            }
            Passing::Option(value) => self.several("Option<", &[&**value], ">"),
            Passing::Result(value, error) => self.several("Result<", &[&**value, &**error], ">"),
            Passing::Tuple(items) => self.several("(", &items.iter().collect::<Vec<_>>(), ")"),
        }
    }

    fn several(&mut self, before: &str, items: &[&Passing], after: &str) {
        self.text(before);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.text(", ");
            }
            self.passing(item);
        }
        self.text(after);
    }

    /// A type as it is written, without the way to it, and its tag.
    fn ty(&mut self, ty: &Type) {
        self.text(&written(ty));
        self.flush();
        self.done.push(quote! {
            ::sumac_interface::describe::Piece::Tag(
                <#ty as ::sumac_interface::generated::Exchangeable>::TAG
            )
        });
    }
}

/// A type in words: `sumac_rref::RRef<[u8; 4]>` is `RRef<[u8; 4]>` wherever it was imported from.
fn written(ty: &Type) -> String {
    let mut words: Vec<String> = Vec::new();
    words_of(ty.to_token_stream(), &mut words);
    let mut text = String::new();
    for word in words {
        let spaced = matches!(word.as_str(), "," | ";");
        text.push_str(&word);
        if spaced {
            text.push(' ');
        }
    }
    text
}

fn words_of(tokens: TokenStream, words: &mut Vec<String>) {
    use proc_macro2::{Delimiter, TokenTree};
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                words.push(open.into());
                words_of(group.stream(), words);
                words.push(close.into());
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                // What came before was the way here.
                if words.last().is_some_and(|word| {
                    word.chars().all(|c| c.is_alphanumeric() || c == '_') && !word.is_empty()
                }) {
                    words.pop();
                }
            }
            other => words.push(other.to_string()),
        }
    }
}
