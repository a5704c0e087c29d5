//! Descriptions reach seven interfaces deep, and no interface may be left out of one.
use sumac_interface::{Interface, Object, RpcResult, interface};

macro_rules! chain {
    ($($name:ident -> $next:ident;)+) => {
        $(
            #[interface]
            pub trait $name: Send {
                fn next(&self) -> RpcResult<Object<dyn $next>>;
            }
        )+
    };
}

chain! {
    A -> B; B -> C; C -> D; D -> E; E -> F; F -> G; G -> H; H -> I; I -> I;
}

fn main() {
    println!("{}", <dyn A>::FINGERPRINT);
}
