//! Fingerprints and descriptions: the same for the same interface, another for any change in it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use sumac_interface::describe::{fingerprint, first_difference};
use sumac_interface::domain::{Crashy, NetDevice};
use sumac_interface::{Exchangeable, Interface, Object, RpcResult, interface};
use sumac_rref::{RRef, TypeTag};

#[derive(Exchangeable)]
#[repr(C)]
#[allow(dead_code)]
struct Fixed {
    number: u32,
    bytes: [u8; 4],
}

/// An interface that does not change, by itself and by others.
#[interface]
#[allow(dead_code)]
trait Anchor: Send {
    fn get(&self, at: u64) -> RpcResult<Fixed>;
    fn swap(&mut self, new: RRef<Fixed>, old: &sumac_rref::RRef<Fixed>) -> RpcResult<(u8, bool)>;
    fn find(&mut self, chain: Option<Object<dyn Chain>>) -> RpcResult<Object<dyn Anchor>>;
}

/// Names its user.
#[interface]
#[allow(dead_code)]
trait Chain: Send {
    fn back(&self) -> RpcResult<Option<Object<dyn Anchor>>>;
}

#[test]
fn the_text_tells_all() {
    let tag = |tag: TypeTag| format!("#{:016x}", tag.0);
    let (fixed, number) = (tag(Fixed::TAG), tag(u64::TAG));
    let (moved, pair) = (tag(RRef::<Fixed>::TAG), tag(<(u8, bool)>::TAG));
    let expected = format!(
        "interface fingerprints::Anchor
  get(&self, at: u64{number}) -> Fixed{fixed}
  swap(&mut self, new: RRef<Fixed>{moved}, old: &RRef<Fixed{fixed}>) -> (u8, bool){pair}
  find(&mut self, chain: Option<Object<dyn Chain>>) -> Object<dyn Anchor>
interface fingerprints::Chain
  back(&self) -> Option<Object<dyn Anchor>>
"
    );
    assert_eq!(<dyn Anchor>::describe(), expected);
    assert_eq!(<dyn Anchor>::NAME, "Anchor");
    assert_eq!(<dyn Anchor>::FINGERPRINT, fingerprint(&expected));
}

/// Whoever builds this gets these, in whatever profile and folder: separately built domains depend on it.
#[test]
fn two_builds_agree() {
    assert_eq!(Fixed::TAG, TypeTag(FIXED));
    assert_eq!(<dyn Anchor>::FINGERPRINT, ANCHOR);
}

const FIXED: u64 = 12_029_064_053_318_783_443;
const ANCHOR: u64 = 11_623_048_510_876_121_233;

macro_rules! variants {
    ($($module:ident { $($type:item)* } [$($method:tt)*])+) => {
        $(
            #[allow(dead_code)]
            mod $module {
                use super::*;
                $($type)*
                #[interface]
                pub trait Variant: Send { $($method)* }
            }
        )+
        /// Each variant's name and text, as if all lay in one module.
        fn variants() -> Vec<(&'static str, String)> {
            vec![$((
                stringify!($module),
                <dyn $module::Variant>::describe().replace(concat!("::", stringify!($module)), ""),
            )),+]
        }
    };
}

variants! {
    base {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    method_renamed {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn uno(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    methods_swapped {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn two(&self) -> RpcResult<()>; fn one(&self, item: Item) -> RpcResult<u8>;]
    method_added {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>; fn three(&self) -> RpcResult<()>;]
    receiver_changed {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn one(&mut self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    argument_renamed {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn one(&self, thing: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    result_changed {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn one(&self, item: Item) -> RpcResult<i8>; fn two(&self) -> RpcResult<()>;]
    moved_not_owned {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn one(&self, item: RRef<Item>) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    borrowed_not_moved {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [fn one(&self, item: &RRef<Item>) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    field_renamed {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, c: u32 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    fields_swapped {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { b: u32, a: u32 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    field_type_changed {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: i32 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    layout_changed {
        #[derive(Exchangeable)] #[repr(C, align(16))] pub struct Item { a: u32, b: u32 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    deep_change {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: Deep }
        #[derive(Exchangeable)] #[repr(C)] pub struct Deep { x: u32 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    deeper_change {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: Deep }
        #[derive(Exchangeable)] #[repr(C)] pub struct Deep { y: u32 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    variants_of_an_enum {
        #[derive(Exchangeable)] #[repr(u32)] pub enum Item { A, B }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    variants_swapped {
        #[derive(Exchangeable)] #[repr(u32)] pub enum Item { B, A }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    variants_renumbered {
        #[derive(Exchangeable)] #[repr(u32)] pub enum Item { A = 1, B = 0 }
    } [fn one(&self, item: Item) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    object_named {
        #[interface] pub trait Item: Send { fn a(&self) -> RpcResult<()>; }
    } [fn one(&self, item: Object<dyn Item>) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    object_changed {
        #[interface] pub trait Item: Send { fn b(&self) -> RpcResult<()>; }
    } [fn one(&self, item: Object<dyn Item>) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    object_of_an_object {
        #[interface] pub trait Item: Send { fn a(&self, item: Object<dyn Inner>) -> RpcResult<()>; }
        #[interface] pub trait Inner: Send { fn a(&self) -> RpcResult<()>; }
    } [fn one(&self, item: Object<dyn Item>) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    object_of_an_object_changed {
        #[interface] pub trait Item: Send { fn a(&self, item: Object<dyn Inner>) -> RpcResult<()>; }
        #[interface] pub trait Inner: Send { fn a(&self) -> RpcResult<u8>; }
    } [fn one(&self, item: Object<dyn Item>) -> RpcResult<u8>; fn two(&self) -> RpcResult<()>;]
    same_as_base {
        #[derive(Exchangeable)] #[repr(C)] pub struct Item { a: u32, b: u32 }
    } [
        /// Words make no difference.
        #[once] fn one(&self, item: self::Item) -> RpcResult<u8>;
        fn two(&self) -> super::RpcResult<()>;
    ]
}

#[test]
fn every_change_shows_and_nothing_else_does() {
    let mut all = variants();
    let same = all.pop().map(|(_, text)| text);
    assert_eq!(same.as_ref(), Some(&all[0].1));
    let hashes: BTreeSet<_> = all.iter().map(|(_, text)| fingerprint(text)).collect();
    for (i, (name, text)) in all.iter().enumerate() {
        for (other, theirs) in &all[..i] {
            let difference = first_difference(text, theirs);
            assert!(difference.is_some(), "{name} looks like {other}");
        }
    }
    assert_eq!(hashes.len(), all.len());
}

#[test]
fn the_first_difference_is_the_line_that_changed() {
    let all = variants();
    let find = |name| {
        all.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, text)| text.as_str())
    };
    let (base, changed) = (
        find("base").expect("there"),
        find("argument_renamed").expect("there"),
    );
    let difference = first_difference(base, changed).expect("they differ");
    assert_eq!(difference.interface, "fingerprints::Variant");
    assert!(
        difference
            .ours
            .is_some_and(|line| line.starts_with("one(&self, item: Item#"))
    );
    assert!(
        difference
            .theirs
            .is_some_and(|line| line.starts_with("one(&self, thing: Item#"))
    );
    let deep = (
        find("object_of_an_object"),
        find("object_of_an_object_changed"),
    );
    let deep =
        first_difference(deep.0.expect("there"), deep.1.expect("there")).expect("they differ");
    assert_eq!(deep.interface, "fingerprints::Inner");
    let added = first_difference(base, find("method_added").expect("there")).expect("they differ");
    assert_eq!(added.ours, None);
}

#[test]
fn tags_of_generic_types_follow_their_parameters() {
    #[derive(Exchangeable)]
    #[allow(dead_code)]
    struct Few<T: Exchangeable, const N: usize> {
        items: [T; N],
    }
    let tags = BTreeSet::from([
        Few::<u8, 4>::TAG.0,
        Few::<u8, 5>::TAG.0,
        Few::<i8, 4>::TAG.0,
        Few::<Few<u8, 4>, 4>::TAG.0,
    ]);
    assert_eq!(tags.len(), 4);
}

#[test]
fn interfaces_in_circles_describe_each_other_once() {
    // Crashy and what makes it name each other.
    assert_eq!(<dyn Crashy>::TEXT.matches("interface ").count(), 2);
    assert_eq!(<dyn Anchor>::TEXT.matches("interface ").count(), 2);
    assert_eq!(<dyn NetDevice>::TEXT.matches("interface ").count(), 2);
    assert_ne!(<dyn Anchor>::FINGERPRINT, <dyn Chain>::FINGERPRINT);
}
