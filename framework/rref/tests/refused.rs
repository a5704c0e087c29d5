//! What must not compile: each file in `refused/` with the compiler's reason beside it.

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
