//! `#[test]` for the cases: like the built-in one, which does nothing without the built-in harness.
//!
//! A crate of its own because a procedural macro has to be in one.

use proc_macro::TokenStream;

/// Registers a function as a case, which `support::run_cases` runs.
#[proc_macro_attribute]
pub fn test(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut words = function.clone().into_iter().skip_while(|word| word.to_string() != "fn");
    let name = words.nth(1).expect("a function has a name");
    let registration = format!("::support::register!({name});");
    let mut all: TokenStream = registration.parse().expect("a macro call is made of tokens");
    all.extend(function);
    all
}
