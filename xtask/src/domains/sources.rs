//! Reading a crate's source files for everything that safe code does not have.
//!
//! Every file below the crate's `src` is read, whether a module names it or not and whatever is compiled of
//! it; and every word in it, also in what macros are made of, since a lint does not look into other crates'
//! macros. What is read is tokens, so that comments, strings and names that merely contain a word do not
//! count.
//!
//! Invariant: code reaches the compiler only from files read here: a module's file is where its name says
//! (no `#[path]`), no macro reads another (no `include!`), and no file is a link.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{AttrStyle, File, Meta};

use super::refusal::{Refusal, Rule};

/// Attributes by which an item gets a name, a place or a body that the language does not check.
const LINKER: [&str; 8] = [
    "no_mangle",
    "link_section",
    "export_name",
    "link",
    "link_name",
    "naked",
    "ffi_const",
    "ffi_pure",
];
const ASSEMBLY: [&str; 3] = ["asm", "global_asm", "naked_asm"];
const INCLUDE: [&str; 3] = ["include", "include_str", "include_bytes"];

/// What is refused in the crate in `folder` whose root is the file `root`.
///
/// # Errors
/// A file or folder that cannot be read.
pub fn check(folder: &Path, root: &Path) -> Result<Vec<Refusal>, String> {
    let sources = folder.join("src");
    let mut refusals = Vec::new();
    if !root.starts_with(&sources) {
        let what = "a crate's root lies in its own folder `src`";
        refusals.push(Refusal::new(Rule::Outside, root, 1, what));
    }
    for file in files(&sources, &mut refusals)? {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        refusals.extend(check_text(&file, &text, file == root));
    }
    refusals.sort();
    refusals.dedup_by(|a, b| (&a.file, a.line, a.rule) == (&b.file, b.line, b.rule));
    Ok(refusals)
}

/// Every Rust file of a folder and its folders; links are refused, not followed.
fn files(folder: &Path, refusals: &mut Vec<Refusal>) -> Result<Vec<PathBuf>, String> {
    let error = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(error)?);
        if kind.is_symlink() {
            refusals.push(Refusal::new(
                Rule::Outside,
                &path,
                1,
                "a link to another file",
            ));
        } else if kind.is_dir() {
            found.extend(files(&path, refusals)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// What is refused in one file.
fn check_text(file: &Path, text: &str, root: bool) -> Vec<Refusal> {
    let mut reader = Reader {
        file,
        refusals: Vec::new(),
    };
    let parsed = syn::parse_file(text);
    let tokens: Result<TokenStream, _> = text.parse();
    match (&parsed, tokens) {
        (Ok(parsed), Ok(tokens)) => {
            if root {
                reader.crate_root(parsed);
            }
            reader.read(tokens, Place::Code);
        }
        (Err(error), _) => {
            let line = error.span().start().line.max(1);
            reader.refuse(
                Rule::Unreadable,
                line,
                &format!("not Rust that can be checked: {error}"),
            );
        }
        (_, Err(error)) => {
            let line = error.span().start().line.max(1);
            reader.refuse(Rule::Unreadable, line, "not Rust that can be checked");
        }
    }
    reader.refusals
}

/// Where tokens are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Code,
    Attribute,
    /// The lints that an attribute forbids.
    Forbid,
    Macro,
}

struct Reader<'a> {
    file: &'a Path,
    refusals: Vec<Refusal>,
}

impl Reader<'_> {
    fn refuse(&mut self, rule: Rule, line: usize, what: &str) {
        self.refusals
            .push(Refusal::new(rule, self.file, line, what));
    }

    /// The two attributes without which a crate is none of a domain's.
    fn crate_root(&mut self, file: &File) {
        let inner = |wanted: &str| {
            file.attrs.iter().any(|attribute| {
                matches!(attribute.style, AttrStyle::Inner(_)) && shown(&attribute.meta) == wanted
            })
        };
        if !inner("forbid(unsafe_code)") {
            self.refuse(
                Rule::ForbidUnsafe,
                1,
                "the crate's root has no `#![forbid(unsafe_code)]`",
            );
        }
        if !inner("no_std") {
            self.refuse(Rule::NoStd, 1, "the crate's root has no `#![no_std]`");
        }
    }

    fn read(&mut self, tokens: TokenStream, place: Place) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            let (before, after) = tokens.split_at(at);
            let after = after.get(1..).unwrap_or_default();
            match token {
                TokenTree::Group(group) => {
                    self.read(group.stream(), inside(group, before, place));
                }
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    self.word(&ident.to_string(), line, before, after, place);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    fn word(
        &mut self,
        word: &str,
        line: usize,
        before: &[TokenTree],
        after: &[TokenTree],
        place: Place,
    ) {
        // As a call, in a path, under another name; as an argument it may become any of these.
        let called = is_punct(after.first(), '!')
            || is_punct(before.last(), ':')
            || is_word(after.first(), "as")
            || place == Place::Macro;
        match word {
            "unsafe" => self.unsafe_word(line, after, place),
            "extern" => self.extern_word(line, before, after),
            "unsafe_code" if place != Place::Forbid => {
                let what =
                    "a lint level for `unsafe_code`: `#![forbid(unsafe_code)]` at the root is all";
                self.refuse(Rule::AllowUnsafe, line, what);
            }
            "path" if place == Place::Attribute && is_punct(after.first(), '=') => {
                self.refuse(
                    Rule::PathAttribute,
                    line,
                    "a module's file is where its name says",
                );
            }
            "feature" if place == Place::Attribute && is_parenthesised(after.first()) => {
                self.refuse(Rule::Feature, line, "an unstable feature of the compiler");
            }
            _ if place == Place::Attribute && LINKER.contains(&word) => {
                self.refuse(
                    Rule::UnsafeAttribute,
                    line,
                    &format!("the attribute `{word}`"),
                );
            }
            _ if called && ASSEMBLY.contains(&word) => {
                self.refuse(
                    Rule::Assembly,
                    line,
                    &format!("machine instructions: `{word}!`"),
                );
            }
            _ if called && INCLUDE.contains(&word) => {
                self.refuse(
                    Rule::Include,
                    line,
                    &format!("another file's text: `{word}!`"),
                );
            }
            _ => {}
        }
    }

    fn unsafe_word(&mut self, line: usize, after: &[TokenTree], place: Place) {
        let what = match after.first() {
            Some(TokenTree::Group(_)) if place == Place::Attribute => {
                "an unsafe attribute".to_owned()
            }
            Some(TokenTree::Group(_)) => "an unsafe block".to_owned(),
            Some(TokenTree::Ident(next)) => format!("`unsafe {next}`"),
            _ => "the word `unsafe`".to_owned(),
        };
        let rule = match place {
            Place::Attribute | Place::Forbid => Rule::UnsafeAttribute,
            Place::Macro => Rule::UnsafeInMacro,
            Place::Code => Rule::UnsafeCode,
        };
        self.refuse(rule, line, &what);
    }

    fn extern_word(&mut self, line: usize, before: &[TokenTree], after: &[TokenTree]) {
        let block = match after {
            [TokenTree::Group(group), ..]
            | [TokenTree::Literal(_), TokenTree::Group(group), ..] => {
                group.delimiter() == Delimiter::Brace
            }
            _ => false,
        };
        if block {
            self.refuse(Rule::ExternBlock, line, "functions of another language");
        }
        if let [TokenTree::Ident(krate), TokenTree::Ident(name), ..] = after
            && krate == "crate"
            && name == "std"
            && !for_tests(before)
        {
            self.refuse(
                Rule::NoStd,
                line,
                "the standard library, which a domain is without",
            );
        }
    }
}

/// What a group's tokens are, by the tokens before it.
fn inside(group: &Group, before: &[TokenTree], place: Place) -> Place {
    let hash = match before {
        [.., hash, bang] if is_punct(Some(bang), '!') => Some(hash),
        [.., hash] => Some(hash),
        [] => None,
    };
    if group.delimiter() == Delimiter::Bracket && is_punct(hash, '#') {
        return Place::Attribute;
    }
    if place == Place::Attribute && is_word(before.last(), "forbid") {
        return Place::Forbid;
    }
    // `name! {..}`, and `macro_rules! name {..}`.
    let called = match before {
        [.., TokenTree::Ident(_), bang] if is_punct(Some(bang), '!') => true,
        [.., TokenTree::Ident(_), bang, TokenTree::Ident(_)] if is_punct(Some(bang), '!') => true,
        _ => false,
    };
    if called { Place::Macro } else { place }
}

/// Whether `#[cfg(test)]` stands just before: what follows is in no image.
fn for_tests(before: &[TokenTree]) -> bool {
    match before {
        [.., hash, TokenTree::Group(group)] if is_punct(Some(hash), '#') => {
            group.stream().to_string().replace(' ', "") == "cfg(test)"
        }
        _ => false,
    }
}

fn is_word(token: Option<&TokenTree>, wanted: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == wanted)
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_parenthesised(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
}

/// An attribute's words without the spaces between them.
fn shown(meta: &Meta) -> String {
    match meta {
        Meta::Path(path) => path
            .get_ident()
            .map(ToString::to_string)
            .unwrap_or_default(),
        Meta::List(list) => {
            let name = list
                .path
                .get_ident()
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("{name}({})", list.tokens)
        }
        Meta::NameValue(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn test_links_are_refused_and_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sources = folder.path().join("src");
        fs::create_dir(&sources).expect("a folder");
        let root = sources.join("lib.rs");
        fs::write(&root, "#![no_std]\n#![forbid(unsafe_code)]\nmod linked;\n").expect("a file");
        let elsewhere = folder.path().join("elsewhere.rs");
        fs::write(&elsewhere, "pub unsafe fn f() {}\n").expect("a file");
        let (file, deep) = (sources.join("linked.rs"), sources.join("deep"));
        symlink(&elsewhere, &file).expect("a link");
        symlink("/", &deep).expect("a link");
        let refusals = check(folder.path(), &root).expect("files that can be read");
        let told: Vec<_> = refusals
            .iter()
            .map(|r| (r.rule, r.file.as_path()))
            .collect();
        assert_eq!(
            told,
            [
                (Rule::Outside, deep.as_path()),
                (Rule::Outside, file.as_path())
            ]
        );
    }

    #[test]
    fn test_exported_macros_of_the_framework_are_safe() {
        // No lint looks into what another crate's macro makes, so these must not hold the word.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for folder in super::super::allowed::FRAMEWORK {
            let sources = root.join(folder).join("src");
            if !sources.is_dir() {
                continue;
            }
            for file in files(&sources, &mut Vec::new()).expect("the framework's files") {
                let text = fs::read_to_string(&file).expect("a file");
                if text.contains("macro_export") {
                    let refusals = check_text(&file, &text, false);
                    let unsafe_macro = refusals.iter().find(|r| r.rule == Rule::UnsafeInMacro);
                    assert!(unsafe_macro.is_none(), "{unsafe_macro:?}");
                }
            }
        }
    }
}
