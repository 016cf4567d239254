//! The program that services are where there is no shell.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::programs::scratch;

/// The static executable that is built from `tests/support/payload.rs`.
pub fn payload() -> &'static Path {
    static PAYLOAD: OnceLock<PathBuf> = OnceLock::new();
    PAYLOAD.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("payload.rs");
        let path = scratch().join("payload");
        let built = Command::new("rustc")
            .args([
                "--edition",
                "2024",
                "-C",
                "opt-level=s",
                "-C",
                "target-feature=+crt-static",
                "-C",
                "panic=abort",
            ])
            .arg("-o")
            .args([&path, &source])
            .status();
        assert!(built.unwrap().success());
        path
    })
}
