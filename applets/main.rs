//! The executable: one `mod` line per applet, and the table `build.rs` makes of them.
//!
//! `main` is C's, not Rust's. Before Rust's would run, the standard library opens `/dev/null` wherever descriptor
//! 0, 1 or 2 is closed, and aborts if it cannot; it also ignores SIGPIPE. The first would panic a kernel that starts
//! us without a console, and both would change what `chpst` promises to leave alone.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code))]

// In the source tree .cargo/config.toml makes the executable static; `cargo install` from elsewhere does not read that file.
#[cfg(all(target_os = "linux", not(target_feature = "crt-static"), not(any(test, doc, clippy))))]
compile_error!(
    "runitbox has to be linked statically, and this build would not be. Add to the command:
    --target x86_64-unknown-linux-musl
(or aarch64-unknown-linux-musl; first `rustup target add` it). Or, with the C library of this system:
    RUSTFLAGS='-C target-feature=+crt-static' cargo install --target x86_64-unknown-linux-gnu ...
Or build in the source tree: cargo build --release"
);

#[cfg(feature = "chpst")]
mod chpst;
#[cfg(all(feature = "runit", target_os = "linux"))]
mod runit;
#[cfg(all(feature = "runit-init", target_os = "linux"))]
mod runit_init;
#[cfg(feature = "runsv")]
mod runsv;
#[cfg(feature = "runsvchdir")]
mod runsvchdir;
#[cfg(feature = "runsvdir")]
mod runsvdir;
#[cfg(all(feature = "runsvinit", target_os = "linux"))]
mod runsvinit;
#[cfg(feature = "sv")]
mod sv;
#[cfg(feature = "svctl")]
mod svctl;
#[cfg(feature = "svlogd")]
mod svlogd;
#[cfg(all(feature = "utmpset", target_os = "linux"))]
mod utmpset;

include!(concat!(env!("OUT_DIR"), "/table.rs"));

#[cfg(not(test))]
#[global_allocator]
static MEMORY: svcore::sys::allocator::Allocator = svcore::sys::allocator::Allocator::new();

#[cfg(not(test))]
#[allow(unsafe_code)]
// SAFETY: no other `main` is linked, since Rust's is left out.
#[unsafe(no_mangle)]
extern "C" fn main(argc: std::ffi::c_int, argv: *mut *mut std::ffi::c_char) -> std::ffi::c_int {
    // SAFETY: these are the two values the C runtime called us with.
    let argv = unsafe { svcore::sys::arguments::arguments(argc, argv) };
    svcore::multicall::run(TABLE, PAGES, &argv).into()
}
