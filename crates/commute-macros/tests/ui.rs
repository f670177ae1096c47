//! Compile errors: the likeliest mistakes, and what the compiler says about each.

#[test]
fn the_likeliest_mistakes_are_explained_where_they_were_made() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
